"""Functions on shared file systems, through boto3, as users have them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

WRITER = """
    import os
    def handler(event, context):
        path = "/mnt/efs/" + event["name"]
        with open(path, "w") as file:
            file.write(event["text"])
        status = os.stat(path)
        return {"uid": status.st_uid, "gid": status.st_gid, "mine": os.getuid()}
"""
READER = """
    def handler(event, context):
        with open("/mnt/efs/" + event["name"]) as file:
            return file.read()
"""


def test_a_write_by_one_function_is_read_by_another_at_once(deploy: Any) -> None:
    point = deploy.access_point(deploy.file_system())
    writer, reader = deploy.function(WRITER, point), deploy.function(READER, point)

    for number in range(20):
        deploy.invoke(writer, {"name": "note", "text": f"round {number}"})
        assert deploy.invoke(reader, {"name": "note"}) == f"round {number}"


def test_files_belong_to_the_access_points_user_whoever_the_process_is(deploy: Any) -> None:
    writer = deploy.function(WRITER, deploy.access_point(deploy.file_system(), uid=1234))

    owned = deploy.invoke(writer, {"name": "mine", "text": ""})

    assert (owned["uid"], owned["gid"]) == (1234, 1234)
    assert owned["mine"] not in (0, 1234)


def test_access_points_of_one_file_system_have_isolated_roots(deploy: Any) -> None:
    file_system = deploy.file_system()
    escaping = """
        import os
        def handler(event, context):
            found = {}
            for path in ("..", "../..", "../two", "../../two"):
                found[path] = sorted(os.listdir("/mnt/efs/" + path)) if os.path.isdir("/mnt/efs/" + path) else None
            os.symlink("../two/secret", "/mnt/efs/link") if not os.path.islink("/mnt/efs/link") else None
            try:
                found["link"] = open("/mnt/efs/link").read()
            except OSError as error:
                found["link"] = type(error).__name__
            return found
    """
    two = deploy.function(WRITER, deploy.access_point(file_system, "/two", uid=2002))
    deploy.invoke(two, {"name": "secret", "text": "of two"})
    one = deploy.function(escaping, deploy.access_point(file_system, "/one", uid=2001))

    found = deploy.invoke(one)

    assert found["link"] == "FileNotFoundError"
    assert found["../two"] is None
    assert found["../../two"] is None
    assert "secret" not in json.dumps(found)


def test_a_users_permission_bits_are_enforced(deploy: Any) -> None:
    file_system = deploy.file_system()
    owner = deploy.function(WRITER, deploy.access_point(file_system, "/shared", uid=1001))
    deploy.invoke(owner, {"name": "note", "text": "readable"})
    visitor_point = deploy.access_point(file_system, "/shared", uid=2002)

    assert deploy.invoke(deploy.function(READER, visitor_point), {"name": "note"}) == "readable"
    answer = deploy.lambda_.invoke(
        FunctionName=deploy.function(WRITER, visitor_point),
        Payload=json.dumps({"name": "note", "text": "changed"}),
    )

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "PermissionError"


LOCKER = """
    import fcntl, os, time
    def take(kind, file):
        if kind == "flock":
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
    def handler(event, context):
        for _ in range(event["rounds"]):
            with open("/mnt/efs/counter", "r+") as counter, open("/mnt/efs/lock", "r+") as lock:
                take(event["kind"], lock)
                value = int(counter.read())
                counter.seek(0)
                counter.write(str(value + 1))
                counter.flush()
        return os.getpid()
"""


@pytest.mark.parametrize("kind", ["flock", "range"])
def test_locks_exclude_each_other_across_environments(deploy: Any, kind: str) -> None:
    point = deploy.access_point(deploy.file_system())
    writer = deploy.function(WRITER, point)
    deploy.invoke(writer, {"name": "counter", "text": "0"})
    deploy.invoke(writer, {"name": "lock", "text": " " * 20})
    locker = deploy.function(LOCKER, point)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            deploy.server.boto("lambda").invoke(
                FunctionName=locker, Payload=json.dumps({"kind": kind, "rounds": 100})
            )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert deploy.invoke(deploy.function(READER, point), {"name": "counter"}) == "400"


def test_a_lock_is_released_when_its_environment_is_killed(deploy: Any) -> None:
    point = deploy.access_point(deploy.file_system())
    holder = deploy.function(
        """
        import fcntl, time
        def handler(event, context):
            file = open("/mnt/efs/lock", "w")
            fcntl.flock(file, fcntl.LOCK_EX)
            time.sleep(60)
        """,
        point,
        Timeout=2,
    )
    taker = deploy.function(
        """
        import fcntl
        def handler(event, context):
            with open("/mnt/efs/lock", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
            return "taken"
        """,
        point,
    )

    answer = deploy.lambda_.invoke(FunctionName=holder)

    assert json.loads(answer["Payload"].read())["errorType"] == "Sandbox.Timedout"
    assert deploy.invoke(taker) == "taken"


def test_a_function_without_file_system_has_none(deploy: Any) -> None:
    function = deploy.function("import os\ndef handler(event, context): return os.path.exists('/mnt/efs')")
    assert deploy.invoke(function) is False
