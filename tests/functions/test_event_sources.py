"""Event source mappings beside the real SQS."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCOUNT, REGION
from .server import TRUST, Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Received:
    """The records that the function was invoked with; `answer` decides what it returns."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
        self.answers: list[Outcome] = []

    async def handler(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        self.batches.put_nowait(json.loads(invocation.event)["Records"])
        return self.answers.pop(0) if self.answers else Outcome(payload=b"null")

    async def bodies(self) -> list[str]:
        async with asyncio.timeout(20):
            return [record["body"] for record in await self.batches.get()]


@pytest_asyncio.fixture(loop_scope="module")
async def received(server: Server) -> Any:
    handler = server.fleet.handler
    received = Received()
    server.fleet.handler = received.handler
    yield received
    for mapping in (await server("lambda", "list_event_source_mappings"))["EventSourceMappings"]:
        await server("lambda", "delete_event_source_mapping", UUID=mapping["UUID"])
    server.fleet.handler = handler


class Source:
    """A queue with a function that is mapped to it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    async def make(self, attributes: dict[str, str] | None = None, **input: Any) -> dict[str, Any]:
        made = await self.server("sqs", "create_queue", QueueName=self.name, Attributes=attributes or {})
        self.url = made["QueueUrl"]
        await self.server.create(f"on-{self.name}")
        return await self.server(
            "lambda",
            "create_event_source_mapping",
            FunctionName=f"on-{self.name}",
            EventSourceArn=self.arn,
            **input,
        )

    async def send(self, *bodies: str) -> None:
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        await self.server("sqs", "send_message_batch", QueueUrl=self.url, Entries=entries)

    async def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = await self.server("sqs", "get_queue_attributes", QueueUrl=self.url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)

    async def until_left(self, count: int) -> None:
        async with asyncio.timeout(20):
            while await self.left() != count:  # noqa: ASYNC110 - SQS tells nobody of its count
                await asyncio.sleep(0.05)


async def test_messages_become_records_and_are_deleted(server: Server, received: Received) -> None:
    source = Source(server, "plain")
    made = await source.make()
    assert (made["State"], made["BatchSize"], made["FunctionResponseTypes"]) == ("Creating", 10, [])
    shown = await server("lambda", "get_event_source_mapping", UUID=made["UUID"])
    assert shown["State"] == "Enabled"
    await server(
        "sqs",
        "send_message",
        QueueUrl=source.url,
        MessageBody="one",
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "x"}},
    )
    async with asyncio.timeout(20):
        (record,) = await received.batches.get()
    assert record["body"] == "one"
    assert (record["eventSource"], record["eventSourceARN"], record["awsRegion"]) == (
        "aws:sqs",
        source.arn,
        REGION,
    )
    assert record["messageAttributes"]["kind"]["stringValue"] == "x"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    await source.until_left(0)


async def test_a_failed_batch_comes_back(server: Server, received: Received) -> None:
    source = Source(server, "failing")
    await source.make({"VisibilityTimeout": "3"})
    received.answers.append(Outcome(payload=b"{}", error="Unhandled"))
    await source.send("again")
    assert await received.bodies() == ["again"]
    assert await received.bodies() == ["again"]
    await source.until_left(0)


async def test_reported_failures_come_back_alone(server: Server, received: Received) -> None:
    source = Source(server, "partial")
    made = await source.make(
        {"VisibilityTimeout": "3"}, FunctionResponseTypes=["ReportBatchItemFailures"], Enabled=False
    )
    await source.send("good", "bad")

    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        records = json.loads(invocation.event)["Records"]
        received.batches.put_nowait(records)
        failed = [record["messageId"] for record in records if record["body"] == "bad"]
        again = records[0]["attributes"]["ApproximateReceiveCount"] != "1"
        failures = [] if again else [{"itemIdentifier": number} for number in failed]
        return Outcome(payload=json.dumps({"batchItemFailures": failures}).encode())

    server.fleet.handler = handler
    enabled = await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert enabled["State"] == "Enabling"
    seen = await received.bodies()
    while len(seen) < 3:
        seen += await received.bodies()
    assert sorted(seen) == ["bad", "bad", "good"]
    await source.until_left(0)


async def test_filtered_messages_are_deleted_unseen(server: Server, received: Received) -> None:
    source = Source(server, "filtered")
    pattern = json.dumps({"body": {"wanted": [True]}})
    await source.make(FilterCriteria={"Filters": [{"Pattern": pattern}]})
    await source.send('{"wanted": false}', "no json", '{"wanted": true}')
    assert await received.bodies() == ['{"wanted": true}']
    await source.until_left(0)
    assert received.batches.empty()


async def test_a_window_gathers_a_batch(server: Server, received: Received) -> None:
    source = Source(server, "window")
    await source.make(BatchSize=12, MaximumBatchingWindowInSeconds=20)
    await source.send(*map(str, range(8)))
    await source.send(*map(str, range(8, 12)))
    assert sorted(await received.bodies(), key=int) == [str(number) for number in range(12)]


async def test_a_disabled_mapping_waits_and_a_restart_goes_on(server: Server, received: Received) -> None:
    source = Source(server, "paused")
    made = await source.make()
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=False)
    await source.send("later")
    await server.functions._pollers.stop_all()
    assert await source.left() == 1
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert await received.bodies() == ["later"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refusing(server: Server) -> None:
    """A queue and a function without a mapping."""
    await server("sqs", "create_queue", QueueName="refusing")
    await server.create("on-refusing")


@pytest.mark.parametrize(
    ("input", "text"),
    [
        (
            {"EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:none-such"},
            "Error occurred while ReceiveMessage.",
        ),
        ({"FunctionName": "none-such"}, "Function does not exist"),
        ({"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
        ({"EventSourceArn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/c"}, "from no others"),
        ({"StartingPosition": "LATEST"}, "Unsupported StartingPosition parameter"),
    ],
)
async def test_mappings_that_cannot_be(
    server: Server, refusing: None, input: dict[str, Any], text: str
) -> None:
    given = {"FunctionName": "on-refusing", "EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:refusing"}
    error = await server.refused("lambda", "create_event_source_mapping", **{**given, **input})
    assert error["Error"]["Code"] == "InvalidParameterValueException"
    assert text in error["Error"]["Message"]


async def test_a_queue_has_one_mapping_for_a_function(server: Server, received: Received) -> None:
    source = Source(server, "once")
    made = await source.make(Tags={"a": "b"})
    error = await server.refused(
        "lambda", "create_event_source_mapping", FunctionName="on-once", EventSourceArn=source.arn
    )
    assert error["Error"]["Message"] == (
        f'An event source mapping with SQS arn (" {source.arn} ") and function (" on-once ") already exists. '
        f"Please update or delete the existing mapping with UUID {made['UUID']}"
    )
    tags = await server("lambda", "list_tags", Resource=made["EventSourceMappingArn"])
    assert tags == {"Tags": {"a": "b"}}
    deleted = await server("lambda", "delete_event_source_mapping", UUID=made["UUID"])
    assert deleted["State"] == "Deleting"
    error = await server.refused("lambda", "get_event_source_mapping", UUID=made["UUID"])
    assert error["Error"]["Message"] == "The resource you requested does not exist."


@pytest.mark.parametrize(
    ("source", "managed", "text"),
    [
        (
            f"arn:aws:sqs:{REGION}:{ACCOUNT}:of-nobody",
            "AWSLambdaSQSQueueExecutionRole",
            "The provided execution role does not have permissions to call ReceiveMessage on SQS",
        ),
        (
            f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/of-nobody",
            "AWSLambdaKinesisExecutionRole",
            f"Cannot access stream arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/of-nobody. Please ensure the role can "
            "perform the GetRecords, GetShardIterator, DescribeStream, ListShards, and ListStreams Actions on your "
            "stream in IAM.",
        ),
        (
            f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/of-nobody/stream/2026-01-01T00:00:00.000",
            "AWSLambdaDynamoDBExecutionRole",
            f"Cannot access stream arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/of-nobody/stream/"
            "2026-01-01T00:00:00.000. Please ensure the role can perform the GetRecords, GetShardIterator, "
            "DescribeStream, and ListStreams Actions on your stream in IAM.",
        ),
    ],
)
async def test_the_role_must_be_allowed_to_read_the_source(
    server: Server, source: str, managed: str, text: str
) -> None:
    service = source.split(":")[2]
    role = f"reads-{service}"
    made = await server("iam", "create_role", RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
    await server.create(f"reading-{service}", Role=made["Role"]["Arn"])
    given = {"FunctionName": f"reading-{service}", "EventSourceArn": source}
    if service != "sqs":
        given["StartingPosition"] = "LATEST"
    error = await server.refused("lambda", "create_event_source_mapping", **given)
    assert error["Error"] == {"Code": "InvalidParameterValueException", "Message": text}
    # With AWS's own policy for it, the next thing that is wrong is told: there is no such source.
    policy = f"arn:aws:iam::aws:policy/service-role/{managed}"
    await server("iam", "attach_role_policy", RoleName=role, PolicyArn=policy)
    error = await server.refused("lambda", "create_event_source_mapping", **given)
    assert error["Error"]["Message"] != text
    assert "role" not in error["Error"]["Message"]


async def test_a_role_that_lost_its_rights_keeps_a_mapping_from_being_changed(
    server: Server, received: Received
) -> None:
    source = Source(server, "rights-lost")
    made = await source.make()
    role = await server("iam", "create_role", RoleName="less", AssumeRolePolicyDocument=json.dumps(TRUST))
    await server(
        "lambda",
        "update_function_configuration",
        FunctionName="on-rights-lost",
        Role=role["Role"]["Arn"],
    )
    error = await server.refused("lambda", "update_event_source_mapping", UUID=made["UUID"], BatchSize=5)
    assert "does not have permissions to call ReceiveMessage on SQS" in error["Error"]["Message"]
