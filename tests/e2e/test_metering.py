"""What CloudWatch says of file systems and functions is what they did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.e2e.arrange import Deployer, Lambay

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
    assert size >= 6144
