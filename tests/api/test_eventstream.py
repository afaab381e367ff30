"""Event streams, read by botocore's own decoder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from lambay.api import eventstream, model
from lambay.api.protocols.json import encode_structure
from lambay.aws import AWSError


def decoded(framed: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(framed)
    return [(message.headers, message.payload) for message in buffer]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("text ü", "text ü"),
        (b"\x00\xff", b"\x00\xff"),
        (True, True),
        (False, False),
        (-5, -5),
        (2**40, 2**40),
        (datetime(2024, 1, 1, tzinfo=UTC), 1704067200000),
    ],
)
def test_headers_of_every_type_are_read(value: Any, read: Any) -> None:
    ((headers, payload),) = decoded(eventstream.message({"name": value}, b"payload"))
    assert headers == {"name": read}
    assert type(headers["name"]) is type(read)
    assert payload == b"payload"


def test_messages_follow_each_other() -> None:
    framed = (
        eventstream.message({"n": 1}, b"a") + eventstream.message({"n": 2}) + eventstream.message({}, b"c")
    )
    assert decoded(framed) == [({"n": 1}, b"a"), ({"n": 2}, b""), ({}, b"c")]


async def test_an_event_without_payload_member_is_a_document() -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"InvokeComplete": {"ErrorCode": "E", "ErrorDetails": None}}

    stream = model.load("lambda").shape("InvokeWithResponseStreamResponseEvent")
    framed = b"".join([part async for part in eventstream.encode(stream, events(), encode_structure)])
    ((headers, payload),) = decoded(framed)
    assert headers[":event-type"] == "InvokeComplete"
    assert headers[":content-type"] == "application/json"
    assert payload == b'{"ErrorCode":"E"}'


async def test_a_defect_ends_the_stream_without_telling_what_broke(caplog: pytest.LogCaptureFixture) -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"PayloadChunk": {"Payload": b"a"}}
        raise RuntimeError("secret detail")

    stream = model.load("lambda").shape("InvokeWithResponseStreamResponseEvent")
    framed = b"".join([part async for part in eventstream.encode(stream, events(), encode_structure)])
    _, (headers, payload) = decoded(framed)
    assert (headers[":message-type"], headers[":error-code"]) == ("error", "InternalFailure")
    assert "secret detail" not in f"{headers}{payload!r}"
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (
            "SessionStreamingException",
            {":message-type": "exception", ":exception-type": "SessionStreamingException"},
        ),
        ("Other", {":message-type": "error", ":error-code": "Other", ":error-message": "broke"}),
    ],
)
async def test_an_error_ends_the_stream_as_a_message(code: str, headers: dict[str, str]) -> None:
    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"sessionStart": {"requestId": "r"}}
        raise AWSError(code, "broke")

    stream = model.load("logs").shape("StartLiveTailResponseStream")
    framed = b"".join([part async for part in eventstream.encode(stream, events(), encode_structure, b"{}")])
    initial, start, end = decoded(framed)
    assert initial[0][":event-type"] == "initial-response"
    assert start[0][":event-type"] == "sessionStart"
    assert headers.items() <= end[0].items()
