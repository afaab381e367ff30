"""The service as boto3 sees it: behind the gateway, beside the real neighbours, with a fleet that echoes."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.request
from typing import Any

import pytest

from .conftest import ACCOUNT, REGION, ROLE, failing, zipped
from .server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_function_lives_from_creation_to_deletion(server: Server) -> None:
    await server.create("life")
    shown = await server("lambda", "get_function", FunctionName="life")
    location = shown["Code"]["Location"]
    archive = await asyncio.to_thread(lambda: urllib.request.urlopen(location).read())
    assert archive == zipped()
    answer = await server("lambda", "invoke", FunctionName="life", Payload=b'{"a":1}', LogType="Tail")
    assert (answer["StatusCode"], answer["Payload"].read()) == (200, b'{"a":1}')
    assert base64.b64decode(answer["LogResult"]) == b"START\nEND\n"
    assert answer["ExecutedVersion"] == "$LATEST"
    await server("lambda", "delete_function", FunctionName="life")
    error = await server.refused("lambda", "invoke", FunctionName="life")
    assert error["Error"] == {
        "Code": "ResourceNotFoundException",
        "Message": f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:life",
    }
    assert (error["Type"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("User", 404)


async def test_a_functions_failure_is_a_header_and_a_payload(server: Server) -> None:
    await server.create("fails")
    handler, server.fleet.handler = server.fleet.handler, failing("no")
    answer = await server("lambda", "invoke", FunctionName="fails")
    server.fleet.handler = handler
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorMessage"] == "no"


async def test_a_streamed_response(server: Server) -> None:
    await server.create("streams")
    payload = b'"' + b"x" * 200_000 + b'"'
    answer = await server("lambda", "invoke_with_response_stream", FunctionName="streams", Payload=payload)
    events = await asyncio.to_thread(list, answer["EventStream"])
    assert b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]) == payload
    assert events[-1] == {"InvokeComplete": {}}


async def test_throttling_tells_when_to_come_back(server: Server) -> None:
    await server.create("off")
    await server("lambda", "put_function_concurrency", FunctionName="off", ReservedConcurrentExecutions=0)
    error = await server.refused("lambda", "invoke", FunctionName="off")
    assert (error["Error"]["Code"], error["Error"]["Message"]) == (
        "TooManyRequestsException",
        "Rate Exceeded.",
    )
    assert error["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert (error["retryAfterSeconds"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("1", 429)


async def test_input_that_breaks_the_model_is_refused_in_the_front(server: Server) -> None:
    error = await server.refused("lambda", "invoke", FunctionName="a b")
    assert error["Error"]["Code"] == "ValidationException"
    assert "at 'functionName' failed to satisfy constraint" in error["Error"]["Message"]


async def test_code_comes_from_a_bucket(server: Server) -> None:
    await server("s3", "create_bucket", Bucket="packages")
    await server("s3", "put_object", Bucket="packages", Key="f.zip", Body=zipped())
    made = await server.create("bucketed", Code={"S3Bucket": "packages", "S3Key": "f.zip"})
    assert made["CodeSize"] == len(zipped())
    error = await server.refused(
        "lambda", "update_function_code", FunctionName="bucketed", S3Bucket="none-such", S3Key="f.zip"
    )
    assert error["Error"]["Message"] == (
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. "
        "S3 Error Message: The specified bucket does not exist"
    )


async def test_a_function_has_interfaces_in_its_subnets(server: Server) -> None:
    subnets = (await server("ec2", "describe_subnets"))["Subnets"][:2]
    vpc = subnets[0]["VpcId"]
    groups = await server("ec2", "describe_security_groups", Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    wanted = {
        "SubnetIds": [subnet["SubnetId"] for subnet in subnets],
        "SecurityGroupIds": [groups["SecurityGroups"][0]["GroupId"]],
    }
    made = await server.create("inside", VpcConfig=wanted)
    assert made["VpcConfig"] == {**wanted, "VpcId": vpc, "Ipv6AllowedForDualStack": False}
    found = await server("ec2", "describe_network_interfaces")
    assert {interface["SubnetId"] for interface in found["NetworkInterfaces"]} == set(wanted["SubnetIds"])
    assert {interface["InterfaceType"] for interface in found["NetworkInterfaces"]} == {"lambda"}
    await server("lambda", "delete_function", FunctionName="inside")
    await server.functions._room.lifecycle.idle()
    assert (await server("ec2", "describe_network_interfaces"))["NetworkInterfaces"] == []


@pytest.mark.parametrize(
    ("input", "message"),
    [
        (
            {"Role": f"arn:aws:iam::{ACCOUNT}:role/none"},
            "The role defined for the function cannot be assumed by Lambda.",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["subnet-12345678"], "SecurityGroupIds": ["sg-12345678"]}},
            "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. "
            "EC2 Error Message: The subnet ID 'subnet-12345678' does not exist",
        ),
    ],
)
async def test_what_the_neighbours_do_not_have_is_refused(
    server: Server, input: dict[str, Any], message: str
) -> None:
    given = {"Role": ROLE, "Runtime": "python3.12", "Handler": "i.h", "Code": {"ZipFile": zipped()}}
    error = await server.refused("lambda", "create_function", FunctionName="never", **{**given, **input})
    assert error["Error"] == {"Code": "InvalidParameterValueException", "Message": message}


async def test_a_failed_event_ends_in_its_queue(server: Server) -> None:
    queue = (await server("sqs", "create_queue", QueueName="failed"))["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
    await server.create("async", DeadLetterConfig={"TargetArn": arn})
    await server(
        "lambda",
        "put_function_event_invoke_config",
        FunctionName="async",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn}},
    )
    handler, server.fleet.handler = server.fleet.handler, failing("no")
    accepted = await server(
        "lambda", "invoke", FunctionName="async", InvocationType="Event", Payload=b'{"n":1}'
    )
    assert accepted["StatusCode"] == 202
    bodies: list[Any] = []
    while len(bodies) < 2:
        received = await server("sqs", "receive_message", QueueUrl=queue, WaitTimeSeconds=5)
        for message in received.get("Messages", []):
            bodies.append(json.loads(message["Body"]))
            await server("sqs", "delete_message", QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    server.fleet.handler = handler
    record = next(body for body in bodies if "requestContext" in body)
    assert {"n": 1} in bodies
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responsePayload"]["errorMessage"] == "no"


SQS, TOPICS, BUSES = (f"arn:aws:{service}:{REGION}:{ACCOUNT}:" for service in ("sqs", "sns", "events"))
FUNCTIONS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
NOT_THERE = "The destination ARN {} is invalid."
NOT_CONFIGURED = (
    "The provided destination config DestinationConfig(onSuccess=null, "
    "onFailure=OnFailure(destination={})) is invalid."
)
MAY_NOT = "The function's execution role does not have permissions to call {} on {}"


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (f"{SQS}absent", NOT_THERE),
        (f"{TOPICS}absent", NOT_THERE),
        (f"{BUSES}event-bus/absent", NOT_THERE),
        ("arn:aws:s3:::nobodys-bucket", NOT_THERE),
        (f"{FUNCTIONS}absent", NOT_THERE),
        (f"{FUNCTIONS}sending:absent", "You can't specify the function as a destination for itself."),
        (f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer", NOT_THERE),
        ("kafka://topic", NOT_CONFIGURED),
        (f"arn:aws:iam::{ACCOUNT}:role/function", NOT_CONFIGURED),
    ],
)
async def test_a_destination_that_is_not_there_is_refused(
    server: Server, destination: str, message: str
) -> None:
    await server.create("sending")

    error = await server.refused(
        "lambda",
        "put_function_event_invoke_config",
        FunctionName="sending",
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )

    assert error["Error"] == {
        "Code": "InvalidParameterValueException",
        "Message": message.format(destination),
    }
    await server("lambda", "delete_function", FunctionName="sending")


async def test_a_destination_that_the_role_may_not_reach_is_refused(server: Server) -> None:
    await server("s3", "create_bucket", Bucket="results")
    await server("events", "create_event_bus", Name="results")
    await server("sns", "create_topic", Name="results")
    await server.create("receiving")
    await server.create("unheard")
    put = {"FunctionName": "unheard", "MaximumRetryAttempts": 0}
    refusals = [
        ("PutObject", "arn:aws:s3:::results"),
        ("PutEvents", f"{BUSES}event-bus/results"),
        ("InvokeFunction", f"{FUNCTIONS}receiving"),
    ]

    for operation, arn in refusals:
        error = await server.refused(
            "lambda",
            "put_function_event_invoke_config",
            **put,
            DestinationConfig={"OnFailure": {"Destination": arn}},
        )
        assert error["Error"]["Message"] == MAY_NOT.format(operation, arn)

    kept = {"OnSuccess": {"Destination": f"{TOPICS}results"}}
    await server("lambda", "put_function_event_invoke_config", **put, DestinationConfig=kept)
    shown = await server("lambda", "get_function_event_invoke_config", FunctionName="unheard")
    assert shown["DestinationConfig"] == {**kept, "OnFailure": {}}


async def test_lists_are_paged_by_boto3s_paginators(server: Server) -> None:
    for number in range(3):
        await server.create(f"paged-{number}")
    pages = (
        server.clients["lambda"].get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    )
    names = await asyncio.to_thread(
        lambda: [function["FunctionName"] for page in pages for function in page["Functions"]]
    )
    assert [name for name in names if name.startswith("paged-")] == ["paged-0", "paged-1", "paged-2"]
