"""Real boto3 clients against the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambay.aws import AWSError
from tests.api.house import Recorded, house

FS = "fs-0123456789abcdef0"


async def failure(coroutine: Any) -> ClientError:
    with pytest.raises(ClientError) as raised:
        await coroutine
    return raised.value


async def test_rest_json_takes_labels_and_body_and_gives_members_and_status() -> None:
    created = datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC)
    efs = Recorded("efs", {"update_file_system": {"FileSystemId": FS, "CreationTime": created, "Tags": []}})
    async with house(efs) as running:
        answer = await running.call("efs", "update_file_system", FileSystemId=FS, ThroughputMode="elastic")
    assert efs.inputs == [{"FileSystemId": FS, "ThroughputMode": "elastic"}]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["CreationTime"] == created
    assert answer["Tags"] == []


async def test_a_call_has_the_region_that_was_signed_for_and_the_callers_account() -> None:
    logs = Recorded("logs", {"create_log_group": None})
    async with house(logs) as running:
        await running.call("logs", "create_log_group", logGroupName="/aws/lambda/f")
    (call,) = logs.calls
    assert (call.region, call.account, call.service, call.operation) == (
        "eu-west-1",
        "000000000000",
        "logs",
        "CreateLogGroup",
    )


async def test_an_arn_in_a_label_arrives_decoded() -> None:
    arn = "arn:aws:lambda:eu-west-1:000000000000:function:f"
    functions = Recorded("lambda", {"list_tags": {"Tags": {"a": "b"}}})
    async with house(functions) as running:
        answer = await running.call("lambda", "list_tags", Resource=arn)
    assert functions.inputs == [{"Resource": arn}]
    assert answer["Tags"] == {"a": "b"}


async def test_invoke_carries_raw_bytes_headers_and_the_status() -> None:
    output = {
        "StatusCode": 202,
        "FunctionError": "Unhandled",
        "LogResult": "bG9n",
        "ExecutedVersion": "$LATEST",
        "Payload": b'\x00\xff{"not":"utf-8"}',
    }
    functions = Recorded("lambda", {"invoke": output})
    async with house(functions) as running:
        answer = await running.call(
            "lambda", "invoke", FunctionName="f", Payload=b"\x01\x02", LogType="Tail", ClientContext="e30="
        )
    assert functions.inputs == [
        {"FunctionName": "f", "Payload": b"\x01\x02", "LogType": "Tail", "ClientContext": "e30="}
    ]
    assert answer["Payload"].read() == output["Payload"]
    assert {key: answer[key] for key in output if key != "Payload"} == {
        key: value for key, value in output.items() if key != "Payload"
    }


async def test_a_streamed_invocation_arrives_event_by_event() -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"PayloadChunk": {"Payload": b"one"}}
        yield {"PayloadChunk": {"Payload": b"two"}}
        yield {"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": "boom", "LogResult": "bG9n"}}

    functions = Recorded(
        "lambda",
        {
            "invoke_with_response_stream": lambda _: {
                "StatusCode": 200,
                "ExecutedVersion": "1",
                "ResponseStreamContentType": "application/octet-stream",
                "EventStream": events(),
            }
        },
    )
    async with house(functions) as running:
        client = running.client("lambda")

        def call() -> tuple[dict[str, Any], list[Any]]:
            answer = client.invoke_with_response_stream(FunctionName="f")
            return answer, list(answer["EventStream"])

        answer, received = await asyncio.to_thread(call)
    assert answer["ExecutedVersion"] == "1"
    assert received == [
        {"PayloadChunk": {"Payload": b"one"}},
        {"PayloadChunk": {"Payload": b"two"}},
        {"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": "boom", "LogResult": "bG9n"}},
    ]


async def test_a_live_tail_begins_with_its_initial_response() -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"sessionStart": {"requestId": "r", "sessionId": "s"}}
        raise AWSError("SessionTimeoutException", "too long")

    logs = Recorded("logs", {"start_live_tail": lambda _: {"responseStream": events()}})
    async with house(logs) as running:
        client = running.client("logs")
        client.meta.events.register("before-sign.logs.StartLiveTail", lambda **_: None)

        def call() -> list[Any]:
            # The model wants a host prefix, which is no name on this machine.
            client.meta.config.inject_host_prefix = False
            answer = client.start_live_tail(
                logGroupIdentifiers=["arn:aws:logs:eu-west-1:000000000000:log-group:g"]
            )
            received = []
            try:
                for event in answer["responseStream"]:
                    received.append(event)
            except Exception as error:
                received.append(str(error))
            return received

        received = await asyncio.to_thread(call)
    assert received[0] == {"sessionStart": {"requestId": "r", "sessionId": "s"}}
    assert "SessionTimeoutException" in received[1]


@pytest.mark.parametrize(
    ("service", "operation", "given", "error", "status", "members"),
    [
        (
            "efs",
            "delete_file_system",
            {"FileSystemId": FS},
            AWSError("FileSystemInUse", "it has mount targets"),
            409,
            {"ErrorCode": "FileSystemInUse", "Message": "it has mount targets"},
        ),
        (
            "efs",
            "create_file_system",
            {"CreationToken": "t"},
            AWSError("FileSystemAlreadyExists", "exists", FileSystemId=FS),
            409,
            {"ErrorCode": "FileSystemAlreadyExists", "Message": "exists", "FileSystemId": FS},
        ),
        (
            "lambda",
            "get_function",
            {"FunctionName": "f"},
            AWSError("ResourceNotFoundException", "Function not found: f"),
            404,
            {"Type": "User", "Message": "Function not found: f"},
        ),
        (
            "lambda",
            "get_function",
            {"FunctionName": "f"},
            AWSError(
                "TooManyRequestsException",
                "Rate Exceeded.",
                Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
                retryAfterSeconds="2",
            ),
            429,
            {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "retryAfterSeconds": "2"},
        ),
        (
            "logs",
            "create_log_group",
            {"logGroupName": "g"},
            AWSError("ResourceAlreadyExistsException", "The specified log group already exists"),
            400,
            {},
        ),
        (
            "sts",
            "assume_role",
            {"RoleArn": "arn:aws:iam::000000000000:role/r", "RoleSessionName": "s1"},
            AWSError("MalformedPolicyDocument", "no"),
            400,
            {},
        ),
    ],
)
async def test_modelled_errors_are_raised_as_their_classes_with_their_members(
    service: str, operation: str, given: dict[str, Any], error: AWSError, status: int, members: dict[str, str]
) -> None:
    async with house(Recorded(service, {operation: error})) as running:
        raised = await failure(running.call(service, operation, **given))
    assert type(raised).__name__.startswith(error.code)
    assert raised.response["Error"]["Code"] == error.code
    assert raised.response["Error"]["Message"] == error.message
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert members.items() <= raised.response.items()


async def test_errors_that_the_model_lacks_keep_their_own_code_and_status() -> None:
    error = AWSError("ExpiredTokenException", "The security token is expired", status=403)
    async with house(Recorded("efs", {"describe_file_systems": error})) as running:
        raised = await failure(running.call("efs", "describe_file_systems"))
    assert raised.response["Error"] == {
        "Code": "ExpiredTokenException",
        "Message": "The security token is expired",
    }
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("service", "operation", "given", "name"),
    [
        ("efs", "describe_file_systems", {}, "efs:DescribeFileSystems"),
        ("lambda", "list_layers", {}, "lambda:ListLayers"),
        ("logs", "describe_log_groups", {}, "logs:DescribeLogGroups"),
        ("sts", "get_caller_identity", {}, "sts:GetCallerIdentity"),
        ("cloudwatch", "list_metrics", {}, "cloudwatch:ListMetrics"),
    ],
)
async def test_an_operation_without_a_method_is_named(
    service: str, operation: str, given: dict[str, Any], name: str
) -> None:
    async with house(Recorded(service, {})) as running:
        raised = await failure(running.call(service, operation, **given))
    assert raised.response["Error"]["Message"] == f"{name} is not implemented by Lambay"
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("lambda", "list_functions", "ServiceException"),
        ("efs", "describe_file_systems", "InternalServerError"),
        ("sts", "get_caller_identity", "InternalFailure"),
    ],
)
async def test_a_defect_is_logged_and_tells_the_client_nothing(
    service: str, operation: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(Recorded(service, {operation: RuntimeError("secret detail")})) as running:
        raised = await failure(running.call(service, operation))
    assert raised.response["Error"]["Code"] == code
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "secret detail" not in json.dumps(raised.response, default=str)
    (record,) = [item for item in caplog.records if item.levelno == logging.ERROR]
    assert record.request_id == raised.response["ResponseMetadata"]["RequestId"]  # type: ignore[attr-defined]
    assert "secret detail" in (caplog.text or "")


async def test_who_may_not_is_refused_before_the_input_is_read() -> None:
    functions = Recorded("lambda", {"invoke": {}})
    async with house(functions) as running:
        running.identity.denied.add("lambda:InvokeFunction")
        raised = await failure(running.call("lambda", "invoke", FunctionName="f"))
    assert raised.response["Error"]["Code"] == "AccessDeniedException"
    assert functions.inputs == []


async def test_what_is_not_owned_goes_to_the_neighbours_with_its_operation() -> None:
    async with house(Recorded("efs", {})) as running:
        raised = await failure(running.call("ec2", "describe_vpcs", VpcIds=["vpc-1"]))
    assert raised.response["Error"]["Code"] == "InvalidVpcID.NotFound"
    ((call, _),) = running.neighbours.calls
    assert (call.service, call.operation, call.region) == ("ec2", "DescribeVpcs", "eu-west-1")


async def test_every_answer_has_a_request_id_and_a_line_in_the_access_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lambay.api")
    async with house(Recorded("sts", {"get_caller_identity": {"Account": "1"}})) as running:
        answer = await running.call("sts", "get_caller_identity")
    (record,) = [item for item in caplog.records if item.name == "lambay.api"]
    header = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert header == answer["ResponseMetadata"]["RequestId"] == record.request_id  # type: ignore[attr-defined]
    assert (record.service, record.operation, record.status) == ("sts", "GetCallerIdentity", 200)  # type: ignore[attr-defined]
    assert record.ms > 0  # type: ignore[attr-defined]


async def test_cloudwatch_is_served_in_each_protocol_that_clients_speak() -> None:
    metrics = Recorded("cloudwatch", {"put_metric_data": None, "describe_alarms": {"MetricAlarms": []}})
    async with house(metrics) as running:
        # Large bodies are gzipped by the client.
        data = [{"MetricName": f"m{number}" * 20, "Value": 1.5} for number in range(200)]
        await running.call("cloudwatch", "put_metric_data", Namespace="Lambay", MetricData=data)
        form = b"Action=PutMetricData&Version=2010-08-01&Namespace=Lambay&MetricData.member.1.MetricName=q"
        answer = await running.raw(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Authorization: AWS4-HMAC-SHA256 Credential=test/20240101/us-east-1/monitoring/aws4_request\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(form), form)
        )
    assert metrics.inputs[0]["MetricData"] == data
    assert metrics.inputs[1] == {"Namespace": "Lambay", "MetricData": [{"MetricName": "q"}]}
    assert b"<PutMetricDataResponse" in answer


async def test_paths_of_our_own_are_never_taken_for_objects_of_a_bucket() -> None:
    async with house() as running:
        answer = await running.raw(b"GET /_lambay/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"there is nothing at /_lambay/nothing" in answer
    assert running.neighbours.calls == []
