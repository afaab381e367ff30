"""What the console and load balancers ask of the server: files through a mount, the network's map, live, health."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.arrange import Deployer, Lambay

WRITER = """
    import os
    def handler(event, context):
        with open("/mnt/efs/from-function", "w") as file:
            file.write("written by a function")
        return sorted(os.listdir("/mnt/efs"))
"""


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    server: Lambay,
    method: str,
    path: str,
    body: bytes = b"",
    secret: str | None = "test",
    **headers: str,
) -> Answer:
    """A request signed for the service `lambay`, or not at all."""
    request = AWSRequest(method, server.endpoint + path, headers, body)
    if secret is not None:
        SigV4Auth(Credentials("test", secret), "lambay", "us-east-1").add_auth(request)
    place = urllib.parse.urlsplit(server.endpoint)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=60)
    try:
        connection.request(method, path, body, dict(request.headers))
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def place(deploy: Deployer) -> tuple[str, str]:
    """The id of a file system and of an access point on it that acts as 1000."""
    file_system = deploy.file_system()
    return file_system, deploy.access_point(file_system, "/data").rpartition("/")[2]


def test_a_file_goes_up_in_pieces_and_comes_down_whole(lambay: Lambay, place: tuple[str, str]) -> None:
    path = f"/_lambay/files/{place[0]}/letters%20%26%20signs"
    first, second = b"a" * 100_000, b"b" * 50_000
    assert ask(lambay, "PUT", f"{path}?offset=0", first).status == 204
    assert ask(lambay, "PUT", f"{path}?offset={len(first)}", second).status == 204

    down = ask(lambay, "GET", path)

    assert (down.status, down.body) == (200, first + second)
    part = ask(lambay, "GET", path, Range="bytes=99999-100000")
    assert (part.status, part.body, part.headers["content-range"]) == (
        206,
        b"ab",
        "bytes 99999-100000/150000",
    )
    assert ask(lambay, "GET", path, Range="bytes=150000-").status == 416
    names = [entry["name"] for entry in ask(lambay, "GET", f"/_lambay/files/{place[0]}/").json()["entries"]]
    assert "letters & signs" in names


def test_through_an_access_point_its_root_and_identity_hold(lambay: Lambay, place: tuple[str, str]) -> None:
    file_system, access_point = place
    assert ask(lambay, "PUT", f"/_lambay/files/{access_point}/mine?offset=0", b"x").status == 204
    assert ask(lambay, "PUT", f"/_lambay/files/{file_system}/data/roots?offset=0", b"x").status == 204
    listed = ask(lambay, "GET", f"/_lambay/files/{file_system}/data").json()["entries"]
    assert {(entry["name"], entry["uid"]) for entry in listed} >= {("mine", 1000), ("roots", 0)}

    refused = ask(lambay, "PUT", f"/_lambay/files/{access_point}/roots?offset=0", b"mine now")

    assert refused.status == 403
    assert "Permission denied" in refused.json()["message"]


def test_functions_and_the_browser_see_each_others_files(
    lambay: Lambay, deploy: Deployer, place: tuple[str, str]
) -> None:
    access_point = place[1]
    arn = deploy.efs.describe_access_points(AccessPointId=access_point)["AccessPoints"][0]["AccessPointArn"]
    function = deploy.function(WRITER, arn)
    assert ask(lambay, "PUT", f"/_lambay/files/{access_point}/from-browser?offset=0", b"up").status == 204

    assert "from-browser" in deploy.invoke(function)

    down = ask(lambay, "GET", f"/_lambay/files/{access_point}/from-function")
    assert down.body == b"written by a function"


def test_a_symbolic_link_is_shown_and_never_followed(
    lambay: Lambay, deploy: Deployer, place: tuple[str, str]
) -> None:
    file_system = place[0]
    arn = deploy.access_point(file_system, "/links")
    deploy.invoke(
        deploy.function(
            """
            import os
            def handler(event, context):
                os.symlink("/etc/passwd", "/mnt/efs/file")
                os.symlink("/etc", "/mnt/efs/directory")
            """,
            arn,
        )
    )
    listed = ask(lambay, "GET", f"/_lambay/files/{file_system}/links").json()["entries"]
    assert {(entry["name"], entry["kind"], entry["target"]) for entry in listed} == {
        ("directory", "link", "/etc"),
        ("file", "link", "/etc/passwd"),
    }

    for path in ("links/file", "links/directory/passwd", "links/directory"):
        followed = ask(lambay, "GET", f"/_lambay/files/{file_system}/{path}")
        assert followed.status >= 400
        assert b"root:" not in followed.body
    assert ask(lambay, "PUT", f"/_lambay/files/{file_system}/links/file?offset=0", b"").status >= 400


@pytest.mark.parametrize("path", ["..", "%2e%2e/%2e%2e/etc/passwd", "data/../../x", "a%2Fb", "a%00b"])
def test_a_path_that_leads_elsewhere_is_refused(lambay: Lambay, place: tuple[str, str], path: str) -> None:
    refused = ask(lambay, "GET", f"/_lambay/files/{place[0]}/{path}")

    assert refused.status == 400
    assert "path" in refused.json()["message"]


def test_directories_are_made_and_removed(lambay: Lambay, place: tuple[str, str]) -> None:
    top = f"/_lambay/files/{place[0]}/tree"
    assert ask(lambay, "PUT", f"{top}?directory=").status == 204
    assert ask(lambay, "PUT", f"{top}?directory=").status == 409
    assert ask(lambay, "PUT", f"{top}/leaf?offset=0", b"x").status == 204
    assert ask(lambay, "DELETE", top).status == 409
    assert ask(lambay, "DELETE", f"{top}?recursive=").status == 204
    assert ask(lambay, "GET", top).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_lambay/files/{}/"),
        ("PUT", "/_lambay/files/{}/x?offset=0"),
        ("DELETE", "/_lambay/files/{}/data?recursive="),
        ("GET", "/_lambay/map?region=us-east-1"),
        ("GET", "/_lambay/live"),
    ],
)
def test_nothing_is_for_those_who_do_not_sign(
    lambay: Lambay, place: tuple[str, str], method: str, path: str
) -> None:
    path = path.format(place[0])

    assert ask(lambay, method, path, secret=None).status == 403
    assert ask(lambay, method, path, secret="wrong").status == 403


def test_the_map_has_functions_subnets_and_mount_targets(lambay: Lambay, deploy: Deployer) -> None:
    file_system = deploy.file_system()
    function = deploy.function(WRITER, deploy.access_point(file_system))

    drawn = ask(lambay, "GET", "/_lambay/map?region=us-east-1").json()

    subnets = {subnet["id"]: subnet for vpc in drawn["vpcs"] for subnet in vpc["subnets"]}
    targets = {
        target["file_system"]: target for target in subnets[deploy.subnet["SubnetId"]]["mount_targets"]
    }
    assert targets[file_system]["security_groups"] == [deploy.group]
    connection = next(each for each in drawn["connections"] if each["function"] == function)
    assert connection == {
        "function": function,
        "subnet": deploy.subnet["SubnetId"],
        "mount_target": targets[file_system]["id"],
        "problem": "",
    }


def test_the_map_says_what_bars_the_way(lambay: Lambay, deploy: Deployer) -> None:
    function = deploy.function(WRITER, deploy.access_point(deploy.file_system()))
    lonely = deploy.ec2.create_security_group(
        GroupName=function, Description="nobody lets it in", VpcId=deploy.subnet["VpcId"]
    )["GroupId"]
    deploy.lambda_.update_function_configuration(
        FunctionName=function,
        VpcConfig={"SubnetIds": [deploy.subnet["SubnetId"]], "SecurityGroupIds": [lonely]},
    )

    drawn = ask(lambay, "GET", "/_lambay/map?region=us-east-1").json()

    problem = next(each["problem"] for each in drawn["connections"] if each["function"] == function)
    assert deploy.group in problem
    assert "2049" in problem


def test_the_live_view_counts_what_functions_do(lambay: Lambay, deploy: Deployer) -> None:
    function = deploy.function("def handler(event, context): return event")
    for _ in range(3):
        deploy.invoke(function)

    now = ask(lambay, "GET", "/_lambay/live").json()

    shown = next(each for each in now["functions"] if each["name"] == function)
    assert (shown["invocations"], shown["errors"]) == (3, 0)
    environment = next(each for each in now["environments"] if each["function"] == function)
    assert environment["invocations"] == 3
    assert environment["memory_bytes"] > 0


def test_load_balancers_ask_for_health_without_its_body(lambay: Lambay) -> None:
    asked = ask(lambay, "GET", "/_lambay/health", secret=None)
    told = ask(lambay, "HEAD", "/_lambay/health", secret=None)
    assert (told.status, told.body) == (200, b"")
    assert told.headers["content-type"] == asked.headers["content-type"]
    assert ask(lambay, "HEAD", "/_lambay/costs", secret=None).status == 403
