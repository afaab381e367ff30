"""Event source mappings beside the real Kinesis and DynamoDB streams."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCOUNT, REGION
from .server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAILED = Outcome(payload=b'{"errorMessage":"no"}', error="Unhandled")


class Received:
    """Batches that functions got, by what is in them; `answers` are used up one by one."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
        self.answers: list[Outcome] = []
        self.poison = ""

    async def handler(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        records = json.loads(invocation.event)["Records"]
        self.batches.put_nowait(records)
        if self.poison and self.poison in map(text, records):
            return FAILED
        return self.answers.pop(0) if self.answers else Outcome(payload=b"null")

    async def batch(self) -> list[str]:
        async with asyncio.timeout(60):
            return [text(record) for record in await self.batches.get()]


def text(record: dict[str, Any]) -> str:
    if "kinesis" in record:
        return base64.b64decode(record["kinesis"]["data"]).decode()
    return f"{record['eventName']} {record['dynamodb']['Keys']['id']['S']}"


@pytest_asyncio.fixture(loop_scope="module")
async def received(server: Server) -> AsyncIterator[Received]:
    handler = server.fleet.handler
    received = Received()
    server.fleet.handler = received.handler
    yield received
    for mapping in (await server("lambda", "list_event_source_mappings"))["EventSourceMappings"]:
        await server("lambda", "delete_event_source_mapping", UUID=mapping["UUID"])
    server.fleet.handler = handler


class Source:
    """A Kinesis stream of one shard with a function that is mapped to it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.arn = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"

    async def make(self, **input: Any) -> dict[str, Any]:
        await self.server("kinesis", "create_stream", StreamName=self.name, ShardCount=1)
        await self.server.create(f"on-{self.name}")
        return await self.map(**input)

    async def map(self, **input: Any) -> dict[str, Any]:
        return await self.server(
            "lambda",
            "create_event_source_mapping",
            FunctionName=f"on-{self.name}",
            EventSourceArn=self.arn,
            **{"StartingPosition": "TRIM_HORIZON", **input},
        )

    async def put(self, *texts: str) -> None:
        records = [{"Data": each.encode(), "PartitionKey": each[0]} for each in texts]
        await self.server("kinesis", "put_records", StreamName=self.name, Records=records)


async def test_records_come_in_order_with_what_kinesis_tells_of_them(
    server: Server, received: Received
) -> None:
    source = Source(server, "plain-stream")
    made = await source.make()
    assert (made["BatchSize"], made["StartingPosition"], made["MaximumRetryAttempts"]) == (
        100,
        "TRIM_HORIZON",
        -1,
    )
    await source.put("a1", "b1", "a2")
    async with asyncio.timeout(60):
        records = await received.batches.get()
    assert [text(record) for record in records] == ["a1", "b1", "a2"]
    first = records[0]
    assert (first["eventSource"], first["eventName"], first["eventSourceARN"]) == (
        "aws:kinesis",
        "aws:kinesis:record",
        source.arn,
    )
    assert first["kinesis"]["partitionKey"] == "a"
    assert first["eventID"].endswith(f":{first['kinesis']['sequenceNumber']}")
    await source.put("c1")
    assert await received.batch() == ["c1"]


async def test_a_restart_goes_on_where_it_was(server: Server, received: Received) -> None:
    source = Source(server, "restarted")
    made = await source.make()
    await source.put("1")
    assert await received.batch() == ["1"]
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=False)
    await source.put("2")
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert await received.batch() == ["2"]


async def test_latest_begins_with_what_comes_after_the_mapping(server: Server, received: Received) -> None:
    source = Source(server, "late")
    await server("kinesis", "create_stream", StreamName="late", ShardCount=1)
    await server.create("on-late")
    await source.put("before")
    await source.map(StartingPosition="LATEST")
    await source.put("after")
    assert await received.batch() == ["after"]


async def test_a_poisoned_record_is_found_by_halving_and_told_of(server: Server, received: Received) -> None:
    queue = (await server("sqs", "create_queue", QueueName="poisoned"))["QueueUrl"]
    source = Source(server, "poisoned")
    received.poison = "bad"
    made = await source.make(
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=2,
        Enabled=False,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:poisoned"}},
    )
    await source.put("1", "bad", "3", "4")
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert await received.batch() == ["1", "bad", "3", "4"]
    assert await received.batch() == ["1", "bad"]
    assert await received.batch() == ["1"]
    assert await received.batch() == ["bad"]
    assert await received.batch() == ["3", "4"]
    answer = await server("sqs", "receive_message", QueueUrl=queue, WaitTimeSeconds=20)
    told = json.loads(answer["Messages"][0]["Body"])
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert told["KinesisBatchInfo"]["batchSize"] == 1
    assert told["KinesisBatchInfo"]["streamArn"] == source.arn
    await source.put("5")
    assert await received.batch() == ["5"]


async def test_only_what_was_reported_and_what_follows_is_tried_again(
    server: Server, received: Received
) -> None:
    source = Source(server, "reported")
    made = await source.make(FunctionResponseTypes=["ReportBatchItemFailures"], Enabled=False)
    await source.put("1", "2", "3")

    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        records = json.loads(invocation.event)["Records"]
        received.batches.put_nowait(records)
        failed = [record["kinesis"]["sequenceNumber"] for record in records if len(records) == 3][1:2]
        answer = {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
        return Outcome(payload=json.dumps(answer).encode())

    server.fleet.handler = handler
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert await received.batch() == ["1", "2", "3"]
    assert await received.batch() == ["2", "3"]


async def test_old_records_are_given_up(server: Server, received: Received) -> None:
    source = Source(server, "aged")
    made = await source.make(MaximumRecordAgeInSeconds=60, Enabled=False)
    await source.put("old")
    server.clock.advance(timedelta(minutes=2))
    await source.put("new")
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True, BatchSize=1)
    assert await received.batch() == ["new"]


async def test_filters_see_the_data_and_a_window_gathers(server: Server, received: Received) -> None:
    source = Source(server, "filtered-stream")
    pattern = json.dumps({"data": {"wanted": [True]}})
    await source.make(
        FilterCriteria={"Filters": [{"Pattern": pattern}]}, BatchSize=4, MaximumBatchingWindowInSeconds=300
    )
    await source.put('{"wanted": true, "n": 1}', '{"wanted": false}')
    await source.put("no json", '{"wanted": true, "n": 2}')
    assert await received.batch() == ['{"wanted": true, "n": 1}', '{"wanted": true, "n": 2}']


async def test_partitions_run_side_by_side_and_each_in_order(server: Server, received: Received) -> None:
    source = Source(server, "parallel")
    made = await source.make(ParallelizationFactor=10, BatchSize=1, Enabled=False)
    await source.put("a1", "b1", "a2", "b2")
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    seen: list[str] = []
    done = asyncio.Event()

    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        (record,) = json.loads(invocation.event)["Records"]
        seen.append(text(record))
        gates[text(record)[0]].set()
        if text(record).endswith("1"):
            # Each waits for the other: they can't be one after the other.
            await asyncio.gather(*(gate.wait() for gate in gates.values()))
        if len(seen) == 4:
            done.set()
        return Outcome(payload=b"null")

    server.fleet.handler = handler
    await server("lambda", "update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    async with asyncio.timeout(60):
        await done.wait()
    assert seen.index("a1") < seen.index("a2")
    assert seen.index("b1") < seen.index("b2")


async def test_a_tables_changes(server: Server, received: Received) -> None:
    made = await server(
        "dynamodb",
        "create_table",
        TableName="items",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    arn = made["TableDescription"]["LatestStreamArn"]
    await server.create("on-items")
    await server(
        "lambda",
        "create_event_source_mapping",
        FunctionName="on-items",
        EventSourceArn=arn,
        StartingPosition="LATEST",
        BatchSize=1,
        FilterCriteria={"Filters": [{"Pattern": json.dumps({"eventName": ["INSERT", "REMOVE"]})}]},
    )
    item = {"id": {"S": "x"}, "blob": {"B": b"\x00"}, "n": {"N": "1"}}
    await server("dynamodb", "put_item", TableName="items", Item=item)
    async with asyncio.timeout(60):
        (record,) = await received.batches.get()
    assert text(record) == "INSERT x"
    assert record["dynamodb"]["NewImage"]["blob"] == {"B": "AA=="}
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:dynamodb", arn)
    await server("dynamodb", "put_item", TableName="items", Item={**item, "n": {"N": "2"}})
    await server("dynamodb", "delete_item", TableName="items", Key={"id": {"S": "x"}})
    assert await received.batch() == ["REMOVE x"]


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({"EventSourceArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/none"}, "Stream not found"),
        ({"StartingPosition": ""}, "Value null at 'startingPosition'"),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "Unsupported ScalingConfig parameter"),
        ({"TumblingWindowInSeconds": 5}, "Unsupported TumblingWindowInSeconds parameter"),
        (
            {
                "DestinationConfig": {
                    "OnFailure": {"Destination": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"}
                }
            },
            "The destination ARN",
        ),
        ({"StartingPosition": "AT_TIMESTAMP"}, "StartingPositionTimestamp is required"),
    ],
)
async def test_mappings_that_cannot_be(server: Server, input: dict[str, Any], words: str) -> None:
    source = Source(server, "refusing-stream")
    listed = (await server("kinesis", "list_streams"))["StreamNames"]
    if "refusing-stream" not in listed:
        await server("kinesis", "create_stream", StreamName="refusing-stream", ShardCount=1)
        await server.create("on-refusing-stream")
    given = {
        "FunctionName": "on-refusing-stream",
        "EventSourceArn": source.arn,
        "StartingPosition": "TRIM_HORIZON",
    }
    asked = {name: value for name, value in {**given, **input}.items() if value != ""}
    error = await server.refused("lambda", "create_event_source_mapping", **asked)
    assert words in error["Error"]["Message"]
