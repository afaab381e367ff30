"""The console in a real browser."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.arrange import Deployer, Lambay

PATIENCE_MS = 60_000

ECHO = """
    import os
    def handler(event, context):
        print("asked for", event)
        if event.get("fail"):
            raise ValueError("as asked")
        return {"said": event, "files": sorted(os.listdir("/mnt/efs"))}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "chromium is missing: scripts/setup-tests installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, lambay: Lambay) -> Iterator[Page]:
    """A signed-in console. Whatever the browser complains of fails the test, but for the host's changing networks."""
    context = chromium.new_context(base_url=lambay.endpoint, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            complaints.append(said.text) if said.type == "error" and "NETWORK" not in said.text else None
        ),
    )
    page.goto("/_lambay/console")
    page.get_by_label("Access key ID").fill("test")
    page.get_by_label("Secret access key").fill("test")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation", name="Console")).to_be_visible()
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def function(deploy: Deployer) -> str:
    name = deploy.function(
        ECHO, deploy.access_point(deploy.file_system(Tags=[{"Key": "Name", "Value": "shelf"}]))
    )
    deploy.invoke(name, {"first": True})
    return name


def test_a_wrong_key_is_told_so_and_shown_nothing(chromium: Browser, lambay: Lambay) -> None:
    page = chromium.new_page(base_url=lambay.endpoint)
    page.goto("/_lambay/console")
    page.get_by_label("Access key ID").fill("test")
    page.get_by_label("Secret access key").fill("guessed")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("SignatureDoesNotMatch", timeout=PATIENCE_MS)
    expect(page.get_by_role("navigation", name="Console")).not_to_be_visible()
    page.close()


def test_every_page_is_reached_by_keys(page: Page) -> None:
    for key, heading in (
        ("n", "Network"),
        ("s", "File systems"),
        ("f", "Functions"),
        ("a", "Alarms"),
        ("c", "Costs"),
        ("o", "Overview"),
    ):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    expect(page.locator(".failure")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("File systems")


def test_a_function_is_invoked_and_its_log_follows(page: Page, function: str) -> None:
    page.goto(f"/_lambay/console#/functions/{function}")
    page.get_by_label("Event").fill('{"question": 42}')
    page.get_by_role("button", name="Invoke").click()

    expect(page.locator(".result")).to_contain_text('"question": 42')
    expect(page.get_by_role("log")).to_contain_text("asked for {'question': 42}")
    expect(page.get_by_role("region", name="Execution environments")).to_contain_text("$LATEST")

    page.get_by_label("Event").fill('{"fail": true}')
    page.get_by_label("Event").press("Control+Enter")
    expect(page.locator(".result")).to_contain_text("as asked")
    page.get_by_label("Event").fill("{")
    page.get_by_role("button", name="Invoke").click()
    expect(page.get_by_role("alert")).to_contain_text("No JSON")


def test_files_are_put_up_fetched_and_removed(page: Page, function: str, tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("so much depends upon")
    page.goto("/_lambay/console#/file-systems")
    page.get_by_role("link", name="shelf").first.click()
    files = page.locator("section.files")
    files.locator("input[type=file]").set_input_files(tmp_path / "poem.txt")
    expect(files.get_by_role("button", name="poem.txt", exact=True)).to_be_visible()

    with page.expect_download() as download:
        files.get_by_role("button", name="poem.txt", exact=True).click()
    assert Path(download.value.path()).read_text() == "so much depends upon"

    files.get_by_role("button", name="Remove poem.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(files.get_by_role("button", name="poem.txt", exact=True)).to_have_count(0)

    files.get_by_placeholder("New directory").fill("drafts")
    files.get_by_role("button", name="Make").click()
    files.get_by_role("link", name="drafts/").click()
    expect(files).to_contain_text("This directory is empty")


def test_a_long_directory_comes_in_parts_and_is_filtered_whole(
    page: Page, deploy: Deployer, lambay: Lambay
) -> None:
    file_system = deploy.file_system()
    for number in range(1100):
        (lambay.data_dir / "file-systems" / file_system / f"order-{number:04}").touch()
    page.goto(f"/_lambay/console#/file-systems/{file_system}")
    files = page.locator("section.files")
    expect(files.get_by_role("button", name="order-0499", exact=True)).to_be_attached()
    expect(files.get_by_role("button", name="order-0500", exact=True)).to_have_count(0)

    files.get_by_role("button", name="Show more").click()
    expect(files.get_by_role("button", name="order-0999", exact=True)).to_be_attached()

    files.get_by_label("Filter files").fill("1099")
    expect(files.get_by_role("button", name="order-1099", exact=True)).to_be_visible()
    expect(files.get_by_role("button", name="Show more")).to_have_count(0)


def test_files_of_odd_names_are_in_sight_and_fetched(page: Page, deploy: Deployer, lambay: Lambay) -> None:
    file_system = deploy.file_system()
    shown = {
        "new\nline": r"new\nline",
        "-rf": "-rf",
        "abc\u202etxt.exe": r"abc\u{202e}txt.exe",
        "n" * 251 + ".txt": "n" * 251 + ".txt",
        "100% # ?": "100% # ?",
        "雪 ☃": "雪 ☃",
    }
    for name in shown:
        (lambay.data_dir / "file-systems" / file_system / name).write_text(f"this is {name}")
    page.goto(f"/_lambay/console#/file-systems/{file_system}")

    for name, text in shown.items():
        with page.expect_download() as download:
            page.locator("section.files").get_by_role("button", name=text, exact=True).click()
        assert Path(download.value.path()).read_text() == f"this is {name}"
        assert len(download.value.suggested_filename.encode()) <= 200


def sign_in(chromium: Browser, server: Lambay, place: str, **key: str) -> Page:
    page = chromium.new_page(base_url=server.endpoint)
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page.goto(f"/_lambay/console#/{place}")
    page.get_by_text("Session and Region").click()
    page.get_by_label("Access key ID").fill(key.get("AccessKeyId", "test"))
    page.get_by_label("Secret access key").fill(key.get("SecretAccessKey", "test"))
    page.get_by_label("Session token").fill(key.get("SessionToken", ""))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation", name="Console")).to_be_visible()
    return page


TALKATIVE = """
    def handler(event, context):
        for number in range(event["lines"]):
            print(event["word"], number)
"""


@pytest.fixture
def steady_lambay(tmp_path: Path) -> Iterator[Lambay]:
    """A server that comes back on the port that it had, which no client's connection is given meanwhile."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(first_given - 1, 1024, -1):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                break
    server = Lambay(tmp_path / "data", "--port", str(port))
    yield server
    if server.process.poll() is None:
        server.stop()


def test_a_server_that_was_away_is_followed_again(chromium: Browser, steady_lambay: Lambay) -> None:
    name = Deployer(steady_lambay).function(TALKATIVE)
    page = sign_in(chromium, steady_lambay, f"functions/{name}")
    log = page.get_by_role("log")

    Deployer(steady_lambay).invoke(name, {"word": "before", "lines": 300})
    # The latest is in sight, however many come at once.
    expect(log.get_by_text("before 299", exact=False)).to_be_in_viewport()
    steady_lambay.stop()
    expect(page.get_by_text("Nothing live")).to_be_visible()
    steady_lambay.start()
    Deployer(steady_lambay).invoke(name, {"word": "after", "lines": 1})

    expect(log.get_by_text("after 0")).to_be_in_viewport()
    expect(log.get_by_text("before 299")).to_have_count(1)
    expect(page.get_by_text("Nothing live")).to_have_count(0)
    page.close()


def test_a_session_that_expires_is_asked_to_sign_in_again(chromium: Browser, own_lambay: Lambay) -> None:
    session = own_lambay.boto("sts").get_session_token(DurationSeconds=900)["Credentials"]
    page = sign_in(chromium, own_lambay, "alarms", **{key: str(value) for key, value in session.items()})
    expect(page.get_by_role("heading", level=1, name="Alarms")).to_be_visible()

    own_lambay.cli("clock", "advance", "16m")

    expect(page.get_by_role("alert")).to_contain_text("ExpiredToken")
    page.get_by_label("Access key ID").fill("test")
    page.get_by_label("Secret access key").fill("test")
    page.get_by_role("button", name="Sign in").click()
    # Where one was.
    expect(page.get_by_role("heading", level=1, name="Alarms")).to_be_visible()
    page.close()


def test_charts_go_by_the_servers_clock(chromium: Browser, own_lambay: Lambay) -> None:
    name = Deployer(own_lambay).function(TALKATIVE)
    own_lambay.cli("clock", "advance", "2d")
    Deployer(own_lambay).invoke(name, {"word": "later", "lines": 1})
    own_lambay.cli("clock", "advance", "2m")
    page = sign_in(chromium, own_lambay, f"functions/{name}")
    invocations = page.locator("figure", has_text="Invocations a minute")
    expect(invocations).to_be_visible()

    # The minute's metrics are put at the next look, five seconds later at most; the page asks each minute by itself.
    for _ in range(60):
        if not invocations.get_by_text("No data").count():
            break
        page.reload()
        expect(invocations).to_be_visible()
    expect(invocations.get_by_text("No data")).to_have_count(0)
    page.close()


def test_the_map_shows_who_reaches_what(page: Page, function: str) -> None:
    page.goto("/_lambay/console#/network")

    expect(page.get_by_role("link", name=f"Function {function}")).to_be_visible()
    expect(page.locator("path.line").first).to_be_attached()
    page.get_by_role("link", name=f"Function {function}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=function)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_small_screen_nothing_runs_over_the_edge(
    chromium: Browser, lambay: Lambay, function: str, scheme: str
) -> None:
    context = chromium.new_context(
        base_url=lambay.endpoint, viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto("/_lambay/console")
    page.get_by_label("Access key ID").fill("test")
    page.get_by_label("Secret access key").fill("test")
    page.get_by_role("button", name="Sign in").click()
    for place in ("overview", "network", "file-systems", f"functions/{function}", "alarms", "costs"):
        page.goto(f"/_lambay/console#/{place}")
        page.get_by_role("heading", level=1).first.wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, place
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(14, 19, 24)") == (scheme == "dark")
    context.close()


def test_on_a_small_screen_an_alarm_is_read_from_top_to_bottom(
    chromium: Browser, lambay: Lambay, deploy: Deployer
) -> None:
    name = "queue-" + "too-" * 60 + "long"
    lambay.boto("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Shop",
        MetricName="Waiting",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    page = sign_in(chromium, lambay, "alarms")
    page.set_viewport_size({"width": 390, "height": 844})
    row = page.get_by_role("region", name="Alarms").locator("tr", has_text=name)
    row.get_by_text("Unchecked: Initial alarm creation").scroll_into_view_if_needed()

    for text in (name, "Maximum of Waiting > 5", "Unchecked: Initial alarm creation", "on"):
        box = row.get_by_text(text, exact=False).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390, text
    page.close()


def test_a_function_that_has_no_way_to_its_file_system_is_red(page: Page, deploy: Deployer) -> None:
    name = deploy.function(ECHO, deploy.access_point(deploy.file_system()))
    lonely = deploy.ec2.create_security_group(
        GroupName=name, Description="nobody lets it in", VpcId=deploy.subnet["VpcId"]
    )["GroupId"]
    deploy.lambda_.update_function_configuration(
        FunctionName=name, VpcConfig={"SubnetIds": [deploy.subnet["SubnetId"]], "SecurityGroupIds": [lonely]}
    )
    page.goto("/_lambay/console#/network")

    barred = page.locator("section.panel", has_text="Blocked").locator("li", has_text=name)
    expect(barred).to_contain_text("2049")
    expect(barred).to_contain_text(deploy.group)
    barred.get_by_role("link", name=name).click()
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("section.panel", has_text="Can it mount?").locator(".failure")).to_contain_text(
        deploy.group
    )
