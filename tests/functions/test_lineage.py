"""Recursive loops end after sixteen invocations, through Invoke, queues and topics, unless they are allowed."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambay.functions import lineage
from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCOUNT, REGION
from .server import Server

by_boto3 = pytest.mark.asyncio(loop_scope="module")

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
OTHER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:g"


def test_a_chain_counts_each_function_by_itself() -> None:
    trace, count = lineage.continued("Root=1-2-3;Parent=4;Sampled=1", ARN)
    assert trace.startswith("Root=1-2-3;Parent=4;Sampled=1;Lineage=")
    assert count == 1
    for expected in (2, 3):
        trace, count = lineage.continued(urllib.parse.quote(trace), ARN)
        assert count == expected
    trace, count = lineage.continued(trace, OTHER)
    assert count == 1
    assert lineage.continued(trace, ARN)[1] == 4


def test_a_batch_goes_by_its_longest_chain() -> None:
    once, _ = lineage.continued(None, ARN)
    twice, _ = lineage.continued(once, ARN)
    assert lineage.longest([once, twice, once], ARN) == twice
    assert lineage.longest([], ARN) is None


def test_a_long_chain_of_functions_stays_a_header() -> None:
    trace: str | None = None
    for number in range(1000):
        trace, _ = lineage.continued(trace, f"{ARN}{number}")
    assert trace is not None
    assert len(trace) < 1000


class Looping:
    """A function that asks for its own invocation, as an SDK inside of it would: with its trace header."""

    def __init__(self, server: Server, again: Any) -> None:
        self.server = server
        self.again = again
        self.runs = 0
        self.ended = asyncio.Event()

    async def handler(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        self.runs += 1
        if self.runs < 40:
            await self.again(invocation.trace_id)
        else:
            self.ended.set()
        return Outcome(payload=b"null")


async def with_trace(server: Server, service: str, method: str, trace: str | None, **input: Any) -> Any:
    """A call with the header that the SDK inside a function sends."""
    await server(service, "list_functions" if service == "lambda" else f"list_{service_lists[service]}")
    events = server.clients[service].meta.events

    def add(params: dict[str, Any], **_: Any) -> None:
        params["headers"]["X-Amzn-Trace-Id"] = urllib.parse.quote(trace or "", safe="-=;:+&[]{}\"',")

    events.register_first("before-call", add)
    try:
        return await server(service, method, **input)
    finally:
        events.unregister("before-call", add)


service_lists = {"sqs": "queues", "sns": "topics"}


async def failures(server: Server, url: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            received = await server("sqs", "receive_message", QueueUrl=url, WaitTimeSeconds=20)
            for message in received.get("Messages", []):
                return json.loads(message["Body"])


@by_boto3
async def test_a_function_that_invokes_itself_is_stopped(server: Server) -> None:
    await server.create("selfish")
    url = (await server("sqs", "create_queue", QueueName="stopped"))["QueueUrl"]
    await server(
        "lambda",
        "put_function_event_invoke_config",
        FunctionName="selfish",
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:stopped"}},
    )

    async def again(trace: str | None) -> None:
        await with_trace(
            server, "lambda", "invoke", trace, FunctionName="selfish", InvocationType="Event", Payload=b"{}"
        )

    handler = server.fleet.handler
    looping = Looping(server, again)
    server.fleet.handler = looping.handler
    try:
        await server("lambda", "invoke", FunctionName="selfish", InvocationType="Event")
        record = await failures(server, url)
        assert record["responsePayload"]["errorType"] == "RecursiveInvocationException"
        assert looping.runs == lineage.MOST_INVOCATIONS
        looping.runs = 0
        await server("lambda", "put_function_recursion_config", FunctionName="selfish", RecursiveLoop="Allow")
        await server("lambda", "invoke", FunctionName="selfish", InvocationType="Event")
        async with asyncio.timeout(60):
            await looping.ended.wait()
    finally:
        server.fleet.handler = handler


@by_boto3
async def test_a_synchronous_call_in_a_loop_is_refused(server: Server) -> None:
    await server.create("deep")
    trace: str | None = None
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:deep"
    for _ in range(lineage.MOST_INVOCATIONS):
        trace, _ = lineage.continued(trace, arn)
    with pytest.raises(ClientError) as caught:
        await with_trace(server, "lambda", "invoke", trace, FunctionName="deep")
    error = caught.value.response
    assert error["Error"]["Code"] == "RecursiveInvocationException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400


@by_boto3
async def test_a_loop_through_a_queue_ends_in_its_dead_letter_queue(server: Server) -> None:
    dead = (await server("sqs", "create_queue", QueueName="loop-dead"))["QueueUrl"]
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:loop-dead", "maxReceiveCount": "1"}
    url = (
        await server(
            "sqs",
            "create_queue",
            QueueName="loop",
            Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "3"},
        )
    )["QueueUrl"]
    await server.create("on-loop")
    made = await server(
        "lambda",
        "create_event_source_mapping",
        FunctionName="on-loop",
        EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:loop",
    )

    async def again(trace: str | None) -> None:
        await with_trace(server, "sqs", "send_message", trace, QueueUrl=url, MessageBody='"again"')

    handler = server.fleet.handler
    looping = Looping(server, again)
    server.fleet.handler = looping.handler
    try:
        await server("sqs", "send_message", QueueUrl=url, MessageBody='"first"')
        assert await failures(server, dead) == "again"
        assert looping.runs == lineage.MOST_INVOCATIONS
    finally:
        server.fleet.handler = handler
        await server("lambda", "delete_event_source_mapping", UUID=made["UUID"])


@by_boto3
async def test_a_loop_through_a_topic_is_counted(server: Server) -> None:
    topic = (await server("sns", "create_topic", Name="loop"))["TopicArn"]
    await server.create(
        "on-topic", DeadLetterConfig={"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:topic-dead"}
    )
    dead = (await server("sqs", "create_queue", QueueName="topic-dead"))["QueueUrl"]
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:on-topic"
    await server(
        "lambda",
        "add_permission",
        FunctionName="on-topic",
        StatementId="topic",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
    )
    await server("sns", "subscribe", TopicArn=topic, Protocol="lambda", Endpoint=arn)

    async def again(trace: str | None) -> None:
        await with_trace(server, "sns", "publish", trace, TopicArn=topic, Message="again")

    handler = server.fleet.handler
    looping = Looping(server, again)
    server.fleet.handler = looping.handler
    try:
        await server("sns", "publish", TopicArn=topic, Message="first")
        assert (await failures(server, dead))["Records"][0]["Sns"]["Message"] == "again"
        assert looping.runs == lineage.MOST_INVOCATIONS
    finally:
        server.fleet.handler = handler
