"""Throughput modes as functions feel them, through boto3."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

MIB = 1 << 20

KEEPER = """
    import os, time, uuid
    who = uuid.uuid4().hex
    kept = None
    def handler(event, context):
        global kept
        if kept is None:
            kept = os.open("/mnt/efs/kept-" + who, os.O_RDWR | os.O_CREAT)
        if event.get("wait"):
            open("/mnt/efs/begun", "w").close()
            while not os.path.exists("/mnt/efs/go"):
                time.sleep(0.02)
        began = time.monotonic()
        for number in range(event.get("mebibytes", 0)):
            os.pwrite(kept, bytes(1 << 20), number << 20)
        return {"who": who, "seconds": time.monotonic() - began}
"""
NAMES = """
    import os
    def handler(event, context):
        if "make" in event:
            open("/mnt/efs/" + event["make"], "w").close()
        return sorted(os.listdir("/mnt/efs"))
"""


def provisioned(deploy: Any, file_system: str) -> None:
    deploy.efs.update_file_system(
        FileSystemId=file_system, ThroughputMode="provisioned", ProvisionedThroughputInMibps=1.0
    )


def test_an_invocation_that_waits_for_its_throughput_times_out(deploy: Any) -> None:
    limited = {"ThroughputMode": "provisioned", "ProvisionedThroughputInMibps": 1.0}
    name = deploy.function(KEEPER, deploy.access_point(deploy.file_system(**limited)), Timeout=3)

    answer = deploy.lambda_.invoke(FunctionName=name, Payload=json.dumps({"mebibytes": 30}))

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Sandbox.Timedout"
    assert deploy.invoke(name, {})["who"]


def test_a_file_system_without_burst_credits_is_slow_until_it_has_some(deploy: Any) -> None:
    file_system = deploy.file_system(ThroughputMode="bursting")
    name = deploy.function(KEEPER, deploy.access_point(file_system), Timeout=60)

    began = time.monotonic()
    told = deploy.server.cli("fs", "credits", file_system, "0").stdout
    assert "B of burst credits, 1.0 MiB/s" in told
    deploy.invoke(name, {"mebibytes": 4})
    # What was earned meanwhile counts as well, and a tenth of a second may be taken in advance.
    assert time.monotonic() - began > 3.5

    deploy.server.cli("fs", "credits", file_system, "1T")
    assert deploy.server.cli("fs", "credits", file_system).stdout.endswith("100.0 MiB/s\n")


@pytest.mark.parametrize("asked", [("fs-0123456789abcdef0", "0"), ("fs-0123456789abcdef0",), ("fs", "-1k")])
def test_credits_of_nothing(deploy: Any, asked: tuple[str, ...]) -> None:
    refused = deploy.server.cli("fs", "credits", "--", *asked, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(("lambay: File system 'fs-0", "lambay: AMOUNT: '-1k' is not"))


def test_environments_that_bypass_a_file_system_are_replaced_when_it_leaves_elastic_mode(deploy: Any) -> None:
    file_system = deploy.file_system()
    name = deploy.function(KEEPER, deploy.access_point(file_system), Timeout=60)
    first = deploy.invoke(name, {"mebibytes": 4})
    assert deploy.invoke(name, {})["who"] == first["who"]

    provisioned(deploy, file_system)
    second = deploy.invoke(name, {"mebibytes": 4})

    assert second["who"] != first["who"]
    # A tenth of a second of 1 MiB/s may be taken in advance.
    assert second["seconds"] > 3.5
    assert deploy.invoke(name, {})["who"] == second["who"]


def test_a_busy_one_is_replaced_after_its_invocation(deploy: Any) -> None:
    file_system = deploy.file_system()
    point = deploy.access_point(file_system)
    name, names = deploy.function(KEEPER, point, Timeout=60), deploy.function(NAMES, point, Timeout=60)
    deploy.invoke(name, {})
    answers: list[Any] = []
    invoking = threading.Thread(target=lambda: answers.append(deploy.invoke(name, {"wait": True})))
    invoking.start()
    while "begun" not in deploy.invoke(names, {}):
        pass

    provisioned(deploy, file_system)
    deploy.invoke(names, {"make": "go"})
    invoking.join(60)

    assert len(answers) == 1
    second = deploy.invoke(name, {"mebibytes": 4})
    assert second["who"] != answers[0]["who"]
    assert second["seconds"] > 3.5


def test_a_database_that_maps_its_memory_works_on_a_bursting_file_system(deploy: Any) -> None:
    """SQLite's WAL, whose index is a shared map for writing: within one environment, as over NFS."""
    source = """
        import mmap, os, sqlite3
        def handler(event, context):
            database = sqlite3.connect("/mnt/efs/notes.db")
            mode = database.execute("pragma journal_mode=wal").fetchone()[0]
            database.execute("create table if not exists notes(text)")
            with database:
                database.executemany("insert into notes values (?)", [(str(number),) for number in range(100)])
            other = sqlite3.connect("/mnt/efs/notes.db")
            count = other.execute("select count(*) from notes").fetchone()[0]
            database.close(), other.close()
            with open("/mnt/efs/map", "w+b") as file:
                file.truncate(8192)
                with mmap.mmap(file.fileno(), 8192) as view:
                    view[4096:4100] = b"dirt"
                    view.flush()
            return {"mode": mode, "count": count}
    """
    point = deploy.access_point(deploy.file_system(ThroughputMode="bursting"))
    name = deploy.function(source, point)

    assert [deploy.invoke(name, {})["count"] for _ in range(3)] == [100, 200, 300]

    reader = deploy.function(
        "def handler(event, context): return open('/mnt/efs/map').read()[4096:4100]", point
    )
    assert deploy.invoke(reader, {}) == "dirt"
    assert deploy.invoke(name, {})["mode"] == "wal"


def test_functions_share_a_max_io_file_system(deploy: Any) -> None:
    """Its report has no share of an operations limit, as EFS has no PercentIOLimit there."""
    file_system = deploy.file_system(PerformanceMode="maxIO", ThroughputMode="bursting")
    assert (
        deploy.efs.describe_file_systems(FileSystemId=file_system)["FileSystems"][0]["LifeCycleState"]
        == "available"
    )

    name = deploy.function(NAMES, deploy.access_point(file_system))
    assert deploy.invoke(name, {"make": "here"}) == ["here"]
    provisioned(deploy, file_system)
    assert deploy.invoke(name, {"make": "there"}) == ["here", "there"]
