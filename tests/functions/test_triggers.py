"""Functions that S3, SNS and EventBridge invoke, beside the real ones of these."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCOUNT, REGION
from .server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS: asyncio.Queue[Any] = asyncio.Queue()


async def remember(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
    EVENTS.put_nowait(json.loads(invocation.event))
    return Outcome(payload=b"null")


async def received() -> Any:
    async with asyncio.timeout(20):
        return await EVENTS.get()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(server: Server) -> str:
    """The ARN of a function that remembers what it got."""
    server.fleet.handler = remember
    made = await server.create("target")
    return str(made["FunctionArn"])


async def permit(server: Server, service: str, source: str) -> None:
    await server(
        "lambda",
        "add_permission",
        FunctionName="target",
        StatementId=service.split(".")[0],
        Action="lambda:InvokeFunction",
        Principal=service,
        SourceArn=source,
        SourceAccount=ACCOUNT,
    )


async def test_a_topic_notifies(server: Server, target: str) -> None:
    topic = (await server("sns", "create_topic", Name="news"))["TopicArn"]
    await server("sns", "subscribe", TopicArn=topic, Protocol="lambda", Endpoint=target)
    await server("sns", "publish", TopicArn=topic, Message="not permitted")
    await permit(server, "sns.amazonaws.com", topic)
    attributes = {"kind": {"DataType": "String", "StringValue": "x"}}
    await server("sns", "publish", TopicArn=topic, Message="hello", Subject="s", MessageAttributes=attributes)
    (record,) = (await received())["Records"]
    assert record["EventSource"] == "aws:sns"
    assert (record["Sns"]["Message"], record["Sns"]["Subject"], record["Sns"]["TopicArn"]) == (
        "hello",
        "s",
        topic,
    )
    assert record["Sns"]["MessageAttributes"] == {"kind": {"Type": "String", "Value": "x"}}


async def test_a_bucket_notifies(server: Server, target: str) -> None:
    await server("s3", "create_bucket", Bucket="watched")
    await permit(server, "s3.amazonaws.com", "arn:aws:s3:::watched")
    notify = {"LambdaFunctionArn": target, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    await server(
        "s3",
        "put_bucket_notification_configuration",
        Bucket="watched",
        NotificationConfiguration={"LambdaFunctionConfigurations": [notify]},
    )
    await server("s3", "put_object", Bucket="watched", Key="in box/a@b.txt", Body=b"12345")
    event = await received()
    while event.get("Event") == "s3:TestEvent":
        event = await received()
    (record,) = event["Records"]
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert record["s3"]["bucket"]["name"] == "watched"
    assert (record["s3"]["object"]["key"], record["s3"]["object"]["size"]) == ("in+box/a%40b.txt", 5)
    assert record["s3"]["bucket"]["ownerIdentity"] == {"principalId": ACCOUNT}
    await server("s3", "delete_object", Bucket="watched", Key="in box/a@b.txt")
    (removed,) = (await received())["Records"]
    assert removed["eventName"] == "ObjectRemoved:Delete"
    assert set(removed["s3"]["object"]) == {"key", "sequencer"}
    assert removed["s3"]["object"]["sequencer"] > record["s3"]["object"]["sequencer"]


async def test_a_rule_matches(server: Server, target: str) -> None:
    pattern = json.dumps({"source": ["shop"]})
    rule = (await server("events", "put_rule", Name="orders", EventPattern=pattern))["RuleArn"]
    await permit(server, "events.amazonaws.com", rule)
    transformer = {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"number": <n>}'}
    targets = [{"Id": "whole", "Arn": target}, {"Id": "part", "Arn": target, "InputTransformer": transformer}]
    await server("events", "put_targets", Rule="orders", Targets=targets)
    entries = [
        {"Source": source, "DetailType": "order", "Detail": json.dumps({"n": 7})}
        for source in ("other", "shop")
    ]
    put = await server("events", "put_events", Entries=entries)
    assert put["FailedEntryCount"] == 0
    events = [await received(), await received()]
    whole = next(event for event in events if "source" in event)
    assert (whole["source"], whole["detail-type"], whole["detail"]) == ("shop", "order", {"n": 7})
    assert (whole["account"], whole["region"]) == (ACCOUNT, REGION)
    assert whole["time"].endswith("Z")
    assert {"number": 7} in events
    assert EVENTS.empty()


async def test_a_schedule_invokes_by_the_clock(server: Server, target: str) -> None:
    rule = (await server("events", "put_rule", Name="often", ScheduleExpression="rate(5 minutes)"))["RuleArn"]
    await server(
        "lambda",
        "add_permission",
        FunctionName="target",
        StatementId="schedule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    transformer = {
        "InputPathsMap": {"when": "$.time"},
        "InputTemplate": '{"at": <when>, "text": "it is <when>"}',
    }
    targets = [
        {"Id": "whole", "Arn": target},
        {"Id": "constant", "Arn": target, "Input": '{"constant": 1}'},
        {"Id": "template", "Arn": target, "InputTransformer": transformer},
    ]
    await server("events", "put_targets", Rule="often", Targets=targets)
    async with asyncio.timeout(20):
        while not any(rule.targets for rule in server.functions._resources.scheduled_rules):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    server.clock.advance(timedelta(minutes=5, seconds=1))
    events = [await received() for _ in targets]
    whole = next(event for event in events if "source" in event)
    assert (whole["source"], whole["detail-type"], whole["resources"]) == (
        "aws.events",
        "Scheduled Event",
        [rule],
    )
    assert {"constant": 1} in events
    assert {"at": whole["time"], "text": f"it is {whole['time']}"} in events
    server.clock.advance(timedelta(minutes=5))
    assert len([await received() for _ in targets]) == 3
    await server("events", "disable_rule", Name="often")
    async with asyncio.timeout(20):
        while len(server.functions._resources.scheduled_rules):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    server.clock.advance(timedelta(minutes=10))
    await asyncio.sleep(0.1)
    assert EVENTS.empty()
