"""Whatever a client sends, the answer is an AWS error or an answer, never a defect."""

from __future__ import annotations

import asyncio
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambay.api import Gateway, model
from lambay.api.protocols import cbor
from lambay.clock import Clock
from lambay.http import Request
from lambay.settings import Settings
from tests.api.house import Echo, EveryoneIsRoot, Recorded

OWNED = ("efs", "lambda", "logs", "sts", "cloudwatch")
# Every operation exists, so that everything is parsed and validated; none has an output.
SERVICES = [
    Recorded(
        name,
        {
            operation.method_name: None
            for operation in map(model.load(name).operation, model.load(name).operation_names)
            if operation is not None
        },
    )
    for name in OWNED
]
LOOP = asyncio.new_event_loop()
GATEWAY = Gateway(SERVICES, EveryoneIsRoot(), Echo(), Settings(), Clock())

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"", b"{}", b"null", b"[]", b"<a/>", b"Action=AssumeRole&Version=2011-06-15&Tags.member.1=x"]
    ),
)
PATHS = st.one_of(
    st.sampled_from(
        [
            http["requestUri"].partition("?")[0]
            for name in ("efs", "lambda")
            for http in map(model.load(name).http_trait, model.load(name).operation_names)
        ]
    ),
    st.text("/abc-_.%20:{}+é", max_size=30).map(lambda text: "/" + text),
)
SCOPES = st.sampled_from(
    ["elasticfilesystem", "lambda", "logs", "sts", "monitoring", "s3", "ec2", "sqs", "teapot", "", "a/b/c/d"]
)
TARGETS = st.none() | st.sampled_from(
    [
        f"{model.load(name).target_prefix}.{operation}"
        for name in ("logs", "cloudwatch")
        for operation in model.load(name).operation_names
    ]
) | st.text(max_size=10)  # fmt: skip
TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-amz-json-1.1",
        "application/x-www-form-urlencoded",
        "application/cbor",
        "x",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_request_is_a_defect(data: st.DataObject) -> None:
    headers = {"host": data.draw(st.sampled_from(["localhost", "lambda.localhost", "b.s3.localhost", ""]))}
    scope = data.draw(SCOPES)
    if scope:
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential=AKID/20240101/us-east-1/{scope}/aws4_request"
    target = data.draw(TARGETS)
    if target is not None:
        headers["x-amz-target"] = target
    headers["content-type"] = data.draw(TYPES)
    request = Request(
        method=data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"])),
        path=data.draw(PATHS),
        query=data.draw(
            st.sampled_from(["", "Action=x", "X-Amz-Credential=a", "a=1&b", "MaxItems=x", "Marker=%ff"])
        ),
        headers=headers,
        body=data.draw(BODIES),
    )
    response = LOOP.run_until_complete(GATEWAY.handle(request))
    assert response.status != 500, request
    assert any(name.lower() == "x-amzn-requestid" for name in response.headers)


@settings(max_examples=150, deadline=None)
@given(operation=st.sampled_from(model.load("cloudwatch").operation_names), value=JSON)
def test_no_cbor_document_is_a_defect(operation: str, value: object) -> None:
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
    path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
    try:
        body = cbor.encode(value)
    except OverflowError:
        return
    response = LOOP.run_until_complete(GATEWAY.handle(Request("POST", path, "", headers, body)))
    assert response.status != 500
