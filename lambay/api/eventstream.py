"""`application/vnd.amazon.eventstream`: events framed with headers and two checksums.

A message is: total length, headers' length, CRC32 of those eight bytes, headers, payload, CRC32 of all before
(Smithy, "Amazon Event Stream specification").
"""

from __future__ import annotations

import binascii
import logging
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from lambay.api.errors import internal
from lambay.api.model import Member, Shape
from lambay.aws import AWSError

_log = logging.getLogger("lambay.api")

CONTENT_TYPE = "application/vnd.amazon.eventstream"

Encoder = Callable[[Shape, Mapping[str, Any]], bytes]


def member_of(shape: Shape) -> Member | None:
    """The member of an output that is an event stream."""
    for member in shape.members.values():
        if member.shape.event_stream:
            return member
    return None


def message(headers: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """One framed message. Header values: str, bytes, bool, int (32 bits, else 64) or datetime."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    head = prelude + struct.pack("!I", binascii.crc32(prelude)) + packed + payload
    return head + struct.pack("!I", binascii.crc32(head))


async def encode(
    stream: Shape,
    events: AsyncIterator[Mapping[str, Any]],
    encode_structure: Encoder,
    initial_response: bytes | None = None,
    content_type: str = "application/json",
) -> AsyncIterator[bytes]:
    """Messages for events such as `{"PayloadChunk": {"Payload": b"..."}}`.

    An error raised by `events` becomes a message and ends the stream. RPC protocols send `initial_response`
    first, the document of the output's other members.
    """
    if initial_response is not None:
        yield message(_event("initial-response", content_type), initial_response)
    try:
        async for event in events:
            for name, value in event.items():
                yield _message_of(stream.members[name], value, encode_structure, content_type)
    except AWSError as error:
        yield _error(stream, error, encode_structure, content_type)
    except Exception:
        _log.exception("a stream of %s broke", stream.name)
        yield _error(stream, internal(None), encode_structure, content_type)


def _message_of(member: Member, value: Mapping[str, Any], encode_structure: Encoder, kind: str) -> bytes:
    headers = {
        name: value[name]
        for name, part in member.shape.members.items()
        if part.event_header and value.get(name) is not None
    }
    payload = next((part for part in member.shape.members.values() if part.event_payload), None)
    if payload is None:
        body = {name: item for name, item in value.items() if name not in headers}
        return message(_event(member.name, kind) | headers, encode_structure(member.shape, body))
    content = value.get(payload.name)
    match payload.shape.type:
        case "blob":
            return message(_event(member.name, "application/octet-stream") | headers, content or b"")
        case "string":
            return message(_event(member.name, "text/plain") | headers, (content or "").encode())
        case _:
            return message(
                _event(member.name, kind) | headers, encode_structure(payload.shape, content or {})
            )


def _error(stream: Shape, error: AWSError, encode_structure: Encoder, content_type: str) -> bytes:
    member = stream.members.get(error.code)
    if member is None:
        return message({":message-type": "error", ":error-code": error.code, ":error-message": error.message})
    text = next((name for name in member.shape.members if name.lower() == "message"), None)
    body = {**error.members, **({text: error.message} if text else {})}
    headers = {
        ":message-type": "exception",
        ":exception-type": error.code,
        ":content-type": content_type,
    }
    return message(headers, encode_structure(member.shape, body))


def _event(name: str, content_type: str) -> dict[str, Any]:
    return {":event-type": name, ":content-type": content_type, ":message-type": "event"}


def _header(name: str, value: Any) -> bytes:
    encoded = name.encode()
    return struct.pack("!B", len(encoded)) + encoded + _header_value(value)


def _header_value(value: Any) -> bytes:
    match value:
        case bool():
            return b"\x00" if value else b"\x01"
        case int() if -(2**31) <= value < 2**31:
            return struct.pack("!Bi", 4, value)
        case int():
            return struct.pack("!Bq", 5, value)
        case bytes():
            return struct.pack("!BH", 6, len(value)) + value
        case datetime():
            return struct.pack("!Bq", 8, round(value.timestamp() * 1000))
        case _:
            text = str(value).encode()
            return struct.pack("!BH", 7, len(text)) + text
