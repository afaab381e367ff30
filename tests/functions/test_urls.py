"""Function URLs: who may call them, what the function gets, what the caller gets."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambay.aws import AWSError, Principal
from lambay.http import Request, Response
from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCOUNT, REGION, World, failing

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
USER = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ada", "AIDA", "AKIA")


async def admit(request: Request, arn: str) -> Principal:
    if "authorization" not in request.headers:
        raise AWSError("MissingAuthenticationToken", "no signature", status=403)
    return USER


def answering(answer: Any) -> Any:
    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        return Outcome(payload=json.dumps(answer).encode())

    return handler


class Door:
    """The URL of a function, open to everybody unless told otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def open(self, auth: str = "NONE", **input: Any) -> dict[str, Any]:
        await self.world.create()
        await self.world(
            "AddPermission",
            FunctionName="f",
            StatementId="url",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
        await self.world(
            "AddPermission",
            FunctionName="f",
            StatementId="invoke",
            Action="lambda:InvokeFunction",
            Principal="*",
            InvokedViaFunctionUrl=True,
        )
        made = await self.world("CreateFunctionUrlConfig", FunctionName="f", AuthType=auth, **input)
        self.path = made["FunctionUrl"].removeprefix("http://localhost:4566")
        return made

    async def __call__(
        self,
        method: str = "GET",
        path: str = "",
        query: str = "",
        body: bytes = b"",
        **headers: str,
    ) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(
            method, self.path + path, query, {"host": "localhost:4566", **sent}, body, "10.1.2.3"
        )
        return await self.world.functions.handle_url(request, admit)


@pytest.fixture
def door(world: World) -> Door:
    return Door(world)


async def test_the_request_is_the_event(door: Door) -> None:
    await door.open()
    await door("POST", "a/b%20c", "x=1&x=2&y", b'{"n":1}', content_type="application/json", cookie="p=1; q=2")
    event = json.loads(door.world.fleet.runs[0][1].event)
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a/b%20c", "x=1&x=2&y")
    assert event["queryStringParameters"] == {"x": "1,2", "y": ""}
    assert event["cookies"] == ["p=1", "q=2"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"n":1}', False)
    assert event["headers"] == {"host": "localhost:4566", "content-type": "application/json"}
    assert event["requestContext"]["http"]["sourceIp"] == "10.1.2.3"
    assert event["requestContext"]["accountId"] == "anonymous"


async def test_bytes_travel_in_base64(door: Door) -> None:
    await door.open()
    await door("POST", body=b"\x00\xff", content_type="application/octet-stream")
    event = json.loads(door.world.fleet.runs[0][1].event)
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"\x00\xff").decode(), True)


@pytest.mark.parametrize(
    ("answer", "status", "body", "kind"),
    [
        (
            {"statusCode": 201, "headers": {"Content-Type": "text/html"}, "body": "<p>"},
            201,
            b"<p>",
            "text/html",
        ),
        ({"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}, 200, b"\x00\xff", "application/json"),
        ({"a": 1}, 200, b'{"a": 1}', "application/json"),
        ("text", 200, b"text", "application/json"),
        (None, 200, b"null", "application/json"),
        ({"statusCode": "no"}, 502, b'{"Message":"Internal Server Error"}', "application/json"),
        ({"statusCode": 200, "body": "!", "isBase64Encoded": True}, 502, None, "application/json"),
    ],
)
async def test_the_answer_is_the_response(
    door: Door, answer: Any, status: int, body: bytes | None, kind: str
) -> None:
    await door.open()
    door.world.fleet.handler = answering(answer)
    response = await door()
    assert (response.status, response.headers["content-type"]) == (status, kind)
    assert body is None or response.body == body


async def test_each_cookie_has_its_own_header(door: Door) -> None:
    await door.open()
    door.world.fleet.handler = answering({"statusCode": 200, "cookies": ["a=1; Expires=Mon, 1", "b=2"]})
    headers = (await door()).headers
    cookies = [value for name, value in headers.items() if name.lower() == "set-cookie"]
    assert cookies == ["a=1; Expires=Mon, 1", "b=2"]


async def test_failures_and_throttles_have_their_status(door: Door) -> None:
    await door.open()
    door.world.fleet.handler = failing()
    assert (await door()).status == 502
    await door.world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=0)
    throttled = await door()
    assert (throttled.status, throttled.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("missing", ["url", "invoke"])
async def test_without_both_permissions_nobody_may(door: Door, missing: str) -> None:
    await door.open()
    assert (await door()).status == 200
    door.world.fleet.runs.clear()
    await door.world("RemovePermission", FunctionName="f", StatementId=missing)
    assert (await door()).status == 403
    assert door.world.fleet.runs == []


async def test_iam_urls_want_a_signature(door: Door) -> None:
    await door.open("AWS_IAM")
    assert (await door()).status == 403
    assert (await door(authorization="AWS4-HMAC-SHA256 …")).status == 200
    context = json.loads(door.world.fleet.runs[0][1].event)["requestContext"]
    assert (context["accountId"], context["authorizer"]["iam"]["userArn"]) == (ACCOUNT, USER.arn)


async def test_cors(door: Door) -> None:
    await door.open(Cors={"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 60})
    preflight = await door("OPTIONS", origin="https://a.example", access_control_request_method="GET")
    assert preflight.headers == {
        "access-control-allow-origin": "https://a.example",
        "vary": "Origin",
        "access-control-allow-methods": "GET",
        "access-control-max-age": "60",
    }
    assert door.world.fleet.runs == []
    assert (await door(origin="https://a.example")).headers[
        "access-control-allow-origin"
    ] == "https://a.example"
    assert "access-control-allow-origin" not in (await door(origin="https://b.example")).headers


async def test_a_configuration_is_made_changed_and_deleted(door: Door) -> None:
    world = door.world
    made = await door.open()
    assert (made["FunctionArn"], made["AuthType"], made["InvokeMode"]) == (ARN, "NONE", "BUFFERED")
    with pytest.raises(AWSError, match="FunctionUrlConfig exists for this Lambda function"):
        await world("CreateFunctionUrlConfig", FunctionName="f", AuthType="NONE")
    changed = await world("UpdateFunctionUrlConfig", FunctionName="f", AuthType="AWS_IAM")
    assert (changed["AuthType"], changed["FunctionUrl"]) == ("AWS_IAM", made["FunctionUrl"])
    assert len((await world("ListFunctionUrlConfigs", FunctionName="f"))["FunctionUrlConfigs"]) == 1
    await world("DeleteFunctionUrlConfig", FunctionName="f")
    with pytest.raises(AWSError, match="The resource you requested does not exist"):
        await world("GetFunctionUrlConfig", FunctionName="f")
    assert (await door()).status == 404
    with pytest.raises(AWSError, match="Function does not exist"):
        await world("CreateFunctionUrlConfig", FunctionName="none", AuthType="NONE")
    streamed = await world(
        "CreateFunctionUrlConfig", FunctionName="f", AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )
    assert streamed["InvokeMode"] == "RESPONSE_STREAM"
    back = await world("UpdateFunctionUrlConfig", FunctionName="f", InvokeMode="BUFFERED")
    assert back["InvokeMode"] == "BUFFERED"
