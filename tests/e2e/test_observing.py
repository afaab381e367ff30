"""Metrics, Insights, subscriptions, costs and counters, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.e2e.arrange import PATIENCE, Deployer, Lambay, unique

T = TypeVar("T")

# What the documents have functions log, and an embedded metric.
SOURCE = """
import json
import time

def log_structured(event_type, **kwargs):
    print(json.dumps({"timestamp": time.time(), "event_type": event_type, **kwargs}))

def handler(event, context):
    for ms in event["mounts"]:
        log_structured("efs_mount", duration_ms=ms, success=True)
    for text in event["errors"]:
        log_structured("efs_error", error_message=text)
    print(json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
            {"Namespace": "Shop", "Dimensions": [["Service"]], "Metrics": [{"Name": "Orders"}]}]},
        "Service": "cart", "Orders": len(event["mounts"])}))
"""

READER = """
import base64, gzip, json

def handler(event, context):
    told = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    for each in told["logEvents"]:
        print("GOT", told["logGroup"], each["message"].strip())
"""

MOUNTS, ERRORS = [120, 80, 400, 200], ["denied", "timeout", "denied"]


@pytest.fixture(scope="module")
def function(deploy: Deployer) -> str:
    """The name of a function that has logged what `MOUNTS` and `ERRORS` say."""
    name = deploy.function(SOURCE)
    deploy.invoke(name, {"mounts": MOUNTS, "errors": ERRORS})
    return name


def query(server: Lambay, group: str, text: str) -> list[dict[str, str]]:
    logs = server.boto("logs")
    started = logs.start_query(logGroupName=group, startTime=0, endTime=4_000_000_000, queryString=text)
    while True:
        answer = logs.get_query_results(queryId=started["queryId"])
        if answer["status"] not in ("Scheduled", "Running"):
            break
    assert answer["status"] == "Complete"
    return [{each["field"]: each["value"] for each in row} for row in answer["results"]]


def until(ask: Callable[[], T | None]) -> T:
    """What `ask` returns once it returns something: nobody tells a client when metrics have come."""
    ends = datetime.now(UTC) + timedelta(seconds=PATIENCE)
    while datetime.now(UTC) < ends:
        found = ask()
        if found:
            return found
    raise TimeoutError


def test_the_documents_queries_return_what_the_function_did(lambay: Lambay, function: str) -> None:
    group = f"/aws/lambda/{function}"
    mounts = query(
        lambay,
        group,
        """fields @timestamp, duration_ms
| filter event_type = "efs_mount"
| stats avg(duration_ms) as avg_mount_time by bin(5m)""",
    )
    errors = query(
        lambay,
        group,
        """fields @timestamp, error_message
| filter event_type = "efs_error"
| stats count() by error_message""",
    )
    reports = query(lambay, group, 'filter @type = "REPORT" | stats count(*) as n, max(@memorySize) as size')

    assert [float(row["avg_mount_time"]) for row in mounts] == [sum(MOUNTS) / len(MOUNTS)]
    assert {row["error_message"]: int(row["count()"]) for row in errors} == {"denied": 2, "timeout": 1}
    assert reports == [{"n": "1", "size": "512000000"}]


TALKER = """
import os
import time

def handler(event, context):
    for number in range(event["lines"]):
        print("line", number)
        while not os.path.exists(f"/mnt/efs/heard {number}"):
            time.sleep(0.01)
"""

HEARD = """
def handler(event, context):
    open(f"/mnt/efs/heard {event}", "x").close()
"""


def test_a_line_is_seen_while_the_function_waits_for_that(lambay: Lambay, deploy: Deployer) -> None:
    access_point = deploy.access_point(deploy.file_system())
    talker = deploy.function(TALKER, access_point, Timeout=int(PATIENCE))
    hearer = deploy.function(HEARD, access_point)
    logs = lambay.boto("logs")
    group = f"/aws/lambda/{talker}"
    following = lambay.follow_logs(talker)
    assert following.stdout is not None
    with ThreadPoolExecutor() as pool:
        invoked = pool.submit(deploy.invoke, talker, {"lines": 5})
        # Where it failed, nothing more comes.
        invoked.add_done_callback(lambda _: following.terminate())
        for number in range(5):
            # As it comes, and then whoever asks finds it as well.
            assert any(f"line {number}" in line for line in following.stdout)
            found = logs.filter_log_events(logGroupName=group, filterPattern=f'"line {number}"')["events"]
            assert [event["message"].strip() for event in found] == [f"line {number}"]
            assert not invoked.done()
            deploy.invoke(hearer, number)
        invoked.result()
    following.wait(PATIENCE)


def test_embedded_metrics_of_a_function(lambay: Lambay, function: str) -> None:
    cloudwatch = lambay.boto("cloudwatch")
    now = datetime.now(UTC)

    def asked() -> Any:
        return cloudwatch.get_metric_statistics(
            Namespace="Shop",
            MetricName="Orders",
            Dimensions=[{"Name": "Service", "Value": "cart"}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"]

    assert sum(point["Sum"] for point in until(asked)) == len(MOUNTS)


def test_custom_metrics_through_boto3_and_the_command_line(lambay: Lambay) -> None:
    namespace = unique("App")
    cloudwatch = lambay.boto("cloudwatch")
    for value in (10.0, 30.0):
        cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {"MetricName": "EFS_read_Duration", "Value": value, "Unit": "Milliseconds"},
                {"MetricName": "Calls", "Values": [1.0, 2.0], "Counts": [3.0, 1.0]},
            ],
        )
    environment = os.environ | {
        "AWS_ENDPOINT_URL": lambay.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    aws = [sys.executable, str(Path(sys.executable).with_name("aws")), "cloudwatch"]
    put = f"put-metric-data --namespace {namespace} --metric-name EFS_read_Duration --value 50 --unit Milliseconds"
    subprocess.run([*aws, *put.split()], env=environment, check=True, timeout=PATIENCE)
    listed = subprocess.run(
        [*aws, "list-metrics", "--namespace", namespace, "--output", "json"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    now = datetime.now(UTC)
    metric = {"Namespace": namespace, "MetricName": "EFS_read_Duration"}
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {"Id": "m", "MetricStat": {"Metric": metric, "Period": 7200, "Stat": "Average"}},
            {"Id": "double", "Expression": "m * 2", "Label": "twice"},
        ],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
    )

    assert {each["Id"]: (each["Label"], each["Values"]) for each in answer["MetricDataResults"]} == {
        "m": ("EFS_read_Duration", [30.0]),
        "double": ("twice", [60.0]),
    }
    assert {each["MetricName"] for each in json.loads(listed.stdout)["Metrics"]} == {
        "EFS_read_Duration",
        "Calls",
    }


def test_a_subscription_filter_reaches_a_function(lambay: Lambay, deploy: Deployer) -> None:
    reader = deploy.function(READER)
    deploy.lambda_.add_permission(
        FunctionName=reader,
        StatementId="logs",
        Action="lambda:InvokeFunction",
        Principal="logs.amazonaws.com",
    )
    arn = deploy.lambda_.get_function(FunctionName=reader)["Configuration"]["FunctionArn"]
    logs = lambay.boto("logs")
    group = unique("/app")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    logs.put_subscription_filter(
        logGroupName=group, filterName="f", filterPattern="ERROR", destinationArn=arn
    )
    now = int(datetime.now(UTC).timestamp() * 1000)
    logs.put_log_events(
        logGroupName=group,
        logStreamName="s",
        logEvents=[{"timestamp": now, "message": text} for text in ("ERROR one", "fine", "ERROR two")],
    )

    def got() -> list[str]:
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{reader}", filterPattern="GOT")
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [each["message"].strip() for each in found["events"]]

    assert until(got) == [f"GOT {group} ERROR one", f"GOT {group} ERROR two"]


def test_an_alarm_reaches_functions_directly_and_through_an_event_rule(
    lambay: Lambay, deploy: Deployer
) -> None:
    name = deploy.function(
        "import json\ndef handler(event, context):\n    print('GOT', event['source'], json.dumps(event))"
    )
    for principal in ("lambda.alarms.cloudwatch.amazonaws.com", "events.amazonaws.com"):
        deploy.lambda_.add_permission(
            FunctionName=name,
            StatementId=principal.partition(".")[0],
            Action="lambda:InvokeFunction",
            Principal=principal,
        )
    arn = deploy.lambda_.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    alarm, events, cloudwatch = unique("alarm"), lambay.boto("events"), lambay.boto("cloudwatch")
    pattern = {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "detail": {"alarmName": [alarm]},
    }
    events.put_rule(Name=alarm, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=alarm, Targets=[{"Id": "1", "Arn": arn}])
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="App",
        MetricName="None",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
        AlarmActions=[arn],
    )
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a drill")
    logs = lambay.boto("logs")

    def got() -> list[dict[str, Any]]:
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="GOT")
        except logs.exceptions.ResourceNotFoundException:
            return []
        messages = [each["message"].partition("{")[2] for each in found["events"]]
        return [json.loads("{" + message) for message in messages] if len(messages) == 2 else []

    told = {"detail" if "detail" in event else "direct": event for event in until(got)}

    assert told["detail"]["detail"]["state"]["value"] == "ALARM"
    assert told["direct"]["alarmData"]["state"]["reason"] == "a drill"
    assert told["direct"]["alarmArn"].endswith(alarm)


@pytest.mark.usefixtures("function")
def test_costs_and_counters(lambay: Lambay, function: str) -> None:
    costs = json.loads(lambay.cli("costs", "--json").stdout)
    table = lambay.cli("costs").stdout
    with urllib.request.urlopen(f"{lambay.endpoint}/_lambay/metrics", timeout=PATIENCE) as page:
        counters = page.read().decode()

    assert costs["total"] == pytest.approx(sum(item["amount"] for item in costs["items"]))
    assert {each["service"] for each in costs["services"]} >= {"AmazonEFS", "AWSLambda"}
    assert "total" in table
    assert f'lambay_function_invocations_total{{account="000000000000",function="{function}"' in counters
