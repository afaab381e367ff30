"""What CloudWatch says of file systems and functions is what they did."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.e2e.arrange import PATIENCE, Deployer, Lambay

MIB = 1 << 20

SOURCE = f"""
import os

def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    if event == "write":
        with open("/mnt/efs/big", "wb", buffering=0) as file:
            for _ in range(24):
                file.write(os.urandom({MIB}))
            os.fsync(file.fileno())
    if event == "read":
        with open("/mnt/efs/big", "rb", buffering=0) as file:
            return sum(len(piece) for piece in iter(lambda: file.read({MIB}), b""))
    return "done"
"""


def statistics(server: Lambay, namespace: str, name: str, dimensions: dict[str, str], *which: str) -> Any:
    """The statistics `which` of the last hour and a half."""
    now = datetime.now(UTC)
    answer = server.boto("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=30),
        Period=5400,
        Statistics=list(which),
    )
    (point,) = answer["Datapoints"]
    return [point[name] for name in which]


def shown_size(server: Lambay, file_system: str, wanted: float) -> int:
    """What `lambay top` shows, once it is what is wanted: a look is taken every five seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        view = json.loads(server.cli("top", "--once", "--json").stdout)
        (shown,) = [int(each["bytes"]) for each in view["file_systems"] if each["id"] == file_system]
        if shown == wanted or time.monotonic() > deadline:
            return shown


def test_metrics_are_what_was_done(own_lambay: Lambay) -> None:
    deploy = Deployer(own_lambay)
    file_system = deploy.file_system(ThroughputMode="bursting")
    name = deploy.function(SOURCE, deploy.access_point(file_system))
    for event in ("write", "look", "look"):
        deploy.invoke(name, event)
    deploy.lambda_.invoke(FunctionName=name, Payload='"fail"')
    # What was counted since the last minute is put when the server stops.
    own_lambay.stop()
    own_lambay.start()

    function, volume = {"FunctionName": name}, {"FileSystemId": file_system}
    assert statistics(own_lambay, "AWS/Lambda", "Invocations", function, "Sum") == [4]
    assert statistics(own_lambay, "AWS/Lambda", "Invocations", {}, "Sum") == [4]
    assert statistics(own_lambay, "AWS/Lambda", "Errors", function, "Sum", "Average") == [1, 0.25]
    assert statistics(own_lambay, "AWS/Lambda", "Throttles", function, "Sum") == [0]
    assert statistics(own_lambay, "AWS/Lambda", "ConcurrentExecutions", function, "Maximum") == [1]
    count, shortest = statistics(own_lambay, "AWS/Lambda", "Duration", function, "SampleCount", "Minimum")
    assert count == 4
    assert shortest > 0
    (written,) = statistics(own_lambay, "AWS/EFS", "DataWriteIOBytes", volume, "Sum")
    assert abs(written - 24 * MIB) <= 0.01 * 24 * MIB
    total, metered = (
        statistics(own_lambay, "AWS/EFS", metric, volume, "Sum")[0]
        for metric in ("TotalIOBytes", "MeteredIOBytes")
    )
    assert total >= written
    assert metered >= written
    (credits,) = statistics(own_lambay, "AWS/EFS", "BurstCreditBalance", volume, "Minimum")
    assert 0 < credits <= 2.1 * 2**40
    stored = {"FileSystemId": file_system, "StorageClass": "Total"}
    (size,) = statistics(own_lambay, "AWS/EFS", "StorageBytes", stored, "Maximum")
    # Put each quarter of an hour only: it may be the size before the function wrote.
    assert size >= 6144
    described = own_lambay.boto("efs").describe_file_systems(FileSystemId=file_system)["FileSystems"][0][
        "SizeInBytes"
    ]
    # The root, /data and the file: 2 KiB each beside their data, directories' in steps of 4 KiB.
    assert described["Value"] == described["ValueInStandard"] == 24 * MIB + 2 * 4096 + 3 * 2048
    assert shown_size(own_lambay, file_system, described["Value"]) == described["Value"]


def test_bytes_moved_are_bytes_told(own_lambay: Lambay) -> None:
    """Elastic file systems' data may pass the file server by: a file that is read from end to end is told as such."""
    deploy = Deployer(own_lambay)
    told_of = {}
    for mode in ("bursting", "provisioned", "elastic"):
        given: dict[str, Any] = {"ProvisionedThroughputInMibps": 1024} if mode == "provisioned" else {}
        file_system = told_of[mode] = deploy.file_system(ThroughputMode=mode, **given)
        access_point = deploy.access_point(file_system)
        deploy.invoke(deploy.function(SOURCE, access_point), "write")
        # Another client, whose kernel has none of it yet.
        assert deploy.invoke(deploy.function(SOURCE, access_point), "read") == 24 * MIB
    own_lambay.stop()
    own_lambay.start()

    for mode, file_system in told_of.items():
        for metric in ("DataWriteIOBytes", "DataReadIOBytes"):
            (told,) = statistics(own_lambay, "AWS/EFS", metric, {"FileSystemId": file_system}, "Sum")
            assert abs(told - 24 * MIB) <= 0.01 * 24 * MIB, (mode, metric, told)
