"""What cannot be read is a client error in the service's words, never a defect of ours."""

from __future__ import annotations

import pytest

from lambay.api import model
from lambay.api.protocols import cbor, registry
from lambay.aws import AWSError
from lambay.http import Request
from tests.api.house import Recorded, house


def parse(
    service: str, operation: str, protocol: str, body: bytes, form: dict[str, str] | None = None
) -> AWSError:
    described = model.load(service).operation(operation)
    assert described is not None
    with pytest.raises(AWSError) as raised:
        registry.protocol(protocol).parse(described, Request("POST", "/", "", {}, body), {}, form or {})
    assert raised.value.status == 400
    return raised.value


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Could not parse request body into json"),
        (b"\xff", "Could not parse request body into json"),
        (b"[" * 100_000, "Could not parse request body into json"),
        (b"[]", "START_ARRAY can not be converted to a Structure"),
        (b'"x"', "STRING_VALUE can not be converted to a Structure"),
        (b'{"logGroupName":1}', "NUMBER_VALUE can not be converted to a String (at 'logGroupName')"),
        (b'{"logEvents":{}}', "START_OBJECT can not be converted to a List (at 'logEvents')"),
        (
            b'{"logEvents":[{"timestamp":"x"}]}',
            "STRING_VALUE can not be converted to a Long (at 'logEvents.1.timestamp')",
        ),
        (b'{"logEvents":[{"timestamp":1.5}]}', "NUMBER_VALUE can not be converted to a Long"),
        (b'{"logEvents":[{"timestamp":9223372036854775808}]}', "NUMBER_VALUE can not be converted to a Long"),
        (b'{"logEvents":[{"message":"\\ud800"}]}', "Could not parse request body into json"),
        (b'{"logEvents":[{"timestamp":true}]}', "TRUE_VALUE can not be converted to a Long"),
    ],
)
def test_json_that_does_not_fit(body: bytes, text: str) -> None:
    error = parse("logs", "PutLogEvents", "json", body)
    assert error.code == "SerializationException"
    assert error.message.startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"Encrypted":"yes"}', "STRING_VALUE can not be converted to a Boolean (at 'Encrypted')"),
        (b'{"ProvisionedThroughputInMibps":"fast"}', "STRING_VALUE can not be converted to a Double"),
    ],
)
def test_rest_json_that_does_not_fit(body: bytes, text: str) -> None:
    assert parse("efs", "CreateFileSystem", "rest-json", body).message.startswith(text)


def test_a_blob_that_is_no_base64() -> None:
    error = parse("lambda", "CreateFunction", "rest-json", b'{"Code":{"ZipFile":"***"}}')
    assert error.message == "STRING_VALUE can not be converted to a Blob (at 'Code.ZipFile')"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CreateBucketConfiguration>",
        b"plain",
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]><CreateBucketConfiguration>&b;</CreateBucketConfiguration>',
    ],
)
def test_xml_that_cannot_be_read(body: bytes) -> None:
    described = model.load("s3").operation("CreateBucket")
    assert described is not None
    request = Request("PUT", "/b", "", {}, body)
    if not body:
        assert registry.protocol("rest-xml").parse(described, request, {"Bucket": "b"}, {}) == {"Bucket": "b"}
        return
    with pytest.raises(AWSError) as raised:
        registry.protocol("rest-xml").parse(described, request, {"Bucket": "b"}, {})
    assert raised.value.code == "SerializationException"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"DurationSeconds": "soon"}, "'soon' at 'DurationSeconds' can not be converted to an Integer"),
        ({"Tags.first.Key": "a"}, "'Tags.first' is not numbered"),
        ({"RoleArn.x": "a"}, "'RoleArn' is a scalar and was given parts: x"),
    ],
)
def test_forms_that_do_not_fit(form: dict[str, str], text: str) -> None:
    assert parse("sts", "AssumeRole", "query", b"", form).message == text


@pytest.mark.parametrize(
    "body", [b"\xa1", b"\xff", b"\x9f\x9f", b"\xbf\x61a", b"\x9b" + b"\xff" * 8, b"\x81" * 5000]
)
def test_cbor_that_cannot_be_read(body: bytes) -> None:
    assert parse("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor", body).code == "SerializationException"


def test_cbor_that_does_not_fit() -> None:
    error = parse("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor", cbor.encode({"Namespace": 1}))
    assert error.message == "NUMBER_VALUE can not be converted to a String (at 'Namespace')"


async def test_input_nested_beyond_all_measure_is_refused() -> None:
    """Recursive shapes let a client send any depth."""
    inner = b'{"queries":[{"id":"a"}]}'
    body = b'{"FilterExpression":' * 900 + inner + b"}" * 900
    async with house(Recorded("ce", {"get_cost_and_usage": {}})) as running:
        answer = await running.raw(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AWSInsightsIndexService.GetCostAndUsage\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    assert answer.startswith(b"HTTP/1.1 400")


FORM = "Content-Type: application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("head", "body", "status", "needle"),
    [
        (
            "PUT /2015-02-01/file-systems/fs-0123456789abcdef0 HTTP/1.1",
            "{",
            400,
            "x-amzn-errortype: SerializationException",
        ),
        (
            "POST / HTTP/1.1\r\nX-Amz-Target: Logs_20140328.CreateLogGroup",
            "",
            400,
            "Value null at 'logGroupName'",
        ),
        (
            "POST / HTTP/1.1\r\nX-Amz-Target: Nothing.AtAll",
            "{}",
            404,
            '"__type":"UnknownOperationException"',
        ),
        (f"POST / HTTP/1.1\r\n{FORM}", "Action=Dance", 404, "<Code>UnknownOperationException</Code>"),
        (
            "GET /2015-03-31/dance HTTP/1.1\r\nHost: lambda.us-east-1.amazonaws.com",
            "",
            404,
            "no operation is known at GET /2015-03-31/dance",
        ),
    ],
)
async def test_over_http(head: str, body: str, status: int, needle: str) -> None:
    answers = {"create_log_group": None, "update_file_system": None}
    services = [Recorded(name, answers) for name in ("efs", "logs", "lambda")]
    async with house(*services) as running:
        answer = await running.raw(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert needle in answer.decode()
    assert b"Traceback" not in answer
