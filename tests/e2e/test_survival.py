"""What is acknowledged survives; what ends leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambay.settings import Settings
from tests.e2e.arrange import PATIENCE, Deployer, Lambay, control_groups, unique

APPEND = """
    import os
    def handler(event, context):
        fd = os.open("/mnt/efs/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, (event["line"] + "\\n").encode())
        os.fsync(fd)
        os.close(fd)
        return event["line"]
"""
AWAIT = """
    import os, time
    def handler(event, context):
        while not os.path.exists("/mnt/efs/{name}"):
            time.sleep(0.01)
"""
READ = "def handler(event, context): return open('/mnt/efs/log').read().split()"


def leftovers(data_dir: Path) -> list[str]:
    """Everything of this instance that the kernel still knows."""
    settings = Settings(data_dir=data_dir)
    found = [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(settings.run_dir) in line
    ]
    found += [str(path) for path in control_groups(settings.tag)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                settings.tag in (process / "cmdline").read_text()
                or settings.tag in (process / "environ").read_text()
            ):
                found.append(f"process {process.name}: {(process / 'cmdline').read_text()}")
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if settings.tag in backing.read_text() or str(data_dir) in backing.read_text():
                found.append(str(backing))
    if settings.run_dir.exists():
        found += [str(path) for path in settings.run_dir.rglob("*")]
    return found


@pytest.fixture
def working(own_lambay: Lambay) -> tuple[Deployer, str, str]:
    """A deployer, an appending and a reading function on one access point, both warm."""
    deploy = Deployer(own_lambay)
    point = deploy.access_point(deploy.file_system())
    append, read = deploy.function(APPEND, point), deploy.function(READ, point)
    deploy.invoke(append, {"line": "first"})
    deploy.invoke(read)
    return deploy, append, read


def test_sigterm_leaves_no_mount_process_or_cgroup(own_lambay: Lambay, working: Any) -> None:
    assert leftovers(own_lambay.data_dir) != []

    assert own_lambay.stop() == 0

    assert leftovers(own_lambay.data_dir) == []


def test_a_stop_during_an_invocation_is_clean(own_lambay: Lambay) -> None:
    deploy = Deployer(own_lambay)
    busy = deploy.function(
        """
        import time
        def handler(event, context):
            open("/mnt/efs/started", "w").close()
            print("started")
            time.sleep(60)
        """,
        deploy.access_point(deploy.file_system()),
        Timeout=120,
    )
    outcome: list[Any] = []

    def invoke() -> None:
        try:
            outcome.append(own_lambay.boto("lambda").invoke(FunctionName=busy))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=invoke)
    thread.start()
    following = own_lambay.follow_logs(busy)
    try:
        assert any("started" in line for line in following.stdout or ()), outcome
    finally:
        following.kill()
        following.wait()

    assert own_lambay.stop() == 0
    thread.join()
    assert leftovers(own_lambay.data_dir) == []


def test_everything_is_there_after_a_restart(own_lambay: Lambay, working: Any) -> None:
    _, append, read = working
    before = described(own_lambay)
    own_lambay.stop()
    own_lambay.start()

    assert described(own_lambay) == before
    again = Deployer(own_lambay)
    again.invoke(append, {"line": "second"})
    assert again.invoke(read) == ["first", "second"]


def test_a_killed_server_loses_nothing_and_its_leftovers_are_cleaned(
    own_lambay: Lambay, working: Any
) -> None:
    deploy, append, read = working
    for number in range(5):
        deploy.invoke(append, {"line": f"line-{number}"})
    before = described(own_lambay)
    own_lambay.kill()
    own_lambay.start()

    assert described(own_lambay) == before
    again = Deployer(own_lambay)
    assert again.invoke(read) == ["first", *(f"line-{number}" for number in range(5))]
    own_lambay.stop()
    assert leftovers(own_lambay.data_dir) == []


def test_a_killed_file_server_is_replaced_and_the_next_invocation_works(
    own_lambay: Lambay, working: Any
) -> None:
    deploy, append, read = working

    os.kill(fsd_pid(own_lambay), signal.SIGKILL)

    # Invocations that begin while the server dies may fail; they say so, nothing hangs, and the next ones work.
    def invoke_until_it_works(function: str, event: Any = None) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return deploy.invoke(function, event)
            except (ClientError, AssertionError):
                if time.monotonic() > deadline:
                    raise

    invoke_until_it_works(append, {"line": "after"})
    lines = invoke_until_it_works(read)
    assert (lines[0], lines[-1]) == ("first", "after")


def test_a_file_server_killed_under_an_invocation_ends_it_with_an_error(own_lambay: Lambay) -> None:
    deploy = Deployer(own_lambay)
    point = deploy.access_point(deploy.file_system())
    busy = deploy.function(
        """
        import os
        def handler(event, context):
            number = 0
            while True:
                with open("/mnt/efs/busy", "w") as file:
                    file.write(str(number))
                number += 1
        """,
        point,
    )
    watch = deploy.function(
        AWAIT.format(name="busy"),
        point,
    )
    outcome: list[Any] = []

    def invoke() -> None:
        try:
            answer = own_lambay.boto("lambda").invoke(FunctionName=busy)
            outcome.append(answer.get("FunctionError"))
        except ClientError as error:
            outcome.append(error.response["Error"]["Code"])

    thread = threading.Thread(target=invoke)
    thread.start()
    deploy.invoke(watch)
    os.kill(fsd_pid(own_lambay), signal.SIGKILL)
    thread.join()

    assert outcome[0] in ("EFSIOException", "Unhandled")


def test_a_killed_function_process_is_replaced(own_lambay: Lambay, working: Any) -> None:
    deploy, append, _ = working
    dying = deploy.function(
        "import os, signal\ndef handler(event, context): os.kill(os.getpid(), signal.SIGKILL)"
    )

    answer = deploy.lambda_.invoke(FunctionName=dying)

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.ExitError"
    assert deploy.invoke(append, {"line": "still"}) == "still"


def test_two_servers_run_side_by_side(own_lambay: Lambay, working: Any, tmp_path: Path) -> None:
    deploy, append, read = working
    second = Lambay(tmp_path / "second")
    try:
        other = Deployer(second)
        point = other.access_point(other.file_system())
        function = other.function(APPEND, point, FunctionName=append)
        other.invoke(function, {"line": "elsewhere"})
        assert deploy.invoke(read) == ["first"]
    finally:
        second.stop()
    assert deploy.invoke(read) == ["first"]
    assert leftovers(tmp_path / "second") == []


def test_one_data_directory_has_one_server(own_lambay: Lambay) -> None:
    with pytest.raises(RuntimeError, match=f"in use by the Lambay with pid {own_lambay.process.pid}"):
        Lambay(own_lambay.data_dir)


@pytest.mark.usefixtures("working")
def test_reset_empties_every_service_and_file_system(own_lambay: Lambay) -> None:
    own_lambay.boto("s3").create_bucket(Bucket=unique("bucket"))

    own_lambay.cli("invoke", "nothing", check=False)
    reset(own_lambay)

    assert own_lambay.boto("lambda").list_functions()["Functions"] == []
    assert own_lambay.boto("efs").describe_file_systems()["FileSystems"] == []
    assert own_lambay.boto("s3").list_buckets()["Buckets"] == []
    assert list((own_lambay.data_dir / "file-systems").glob("fs-*")) == []
    again = Deployer(own_lambay)
    function = again.function(APPEND, again.access_point(again.file_system()))
    assert again.invoke(function, {"line": "anew"}) == "anew"


def reset(server: Lambay) -> None:
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(server.endpoint + "/_lambay/reset", method="POST")).read()


def described(server: Lambay) -> dict[str, Any]:
    """What several services say of themselves, without the parts that move by themselves."""
    functions = server.boto("lambda").list_functions()["Functions"]
    file_systems = server.boto("efs").describe_file_systems()["FileSystems"]
    targets = [
        server.boto("efs").describe_mount_targets(FileSystemId=f["FileSystemId"])["MountTargets"]
        for f in file_systems
    ]
    interfaces = server.boto("ec2").describe_network_interfaces()["NetworkInterfaces"]
    return {
        "functions": functions,
        "file_systems": [{k: v for k, v in f.items() if k != "SizeInBytes"} for f in file_systems],
        "mount_targets": targets,
        "access_points": server.boto("efs").describe_access_points()["AccessPoints"],
        "vpcs": server.boto("ec2").describe_vpcs()["Vpcs"],
        "subnets": server.boto("ec2").describe_subnets()["Subnets"],
        "interfaces": sorted((i["NetworkInterfaceId"], i["PrivateIpAddress"]) for i in interfaces),
        "roles": server.boto("iam").list_roles()["Roles"],
    }


def fsd_pid(server: Lambay) -> int:
    import urllib.request

    with urllib.request.urlopen(server.endpoint + "/_lambay/status") as answer:
        return int(json.load(answer)["file_server"]["pid"])


def test_a_shells_limit_of_descriptors_does_not_limit_the_server(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = Lambay(tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)

    assert server.stop() == 0
    assert allowed[0] >= min(hard, 4096)
