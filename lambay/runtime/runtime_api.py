"""The Lambda Runtime API of one sandbox, on its own loopback.

Follows the Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes" (version 2018-06-01),
with the answers of AWS's Runtime Interface Emulator where the guide is silent.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol, cast

import httptools
import msgspec

from lambay.runtime.streaming import MAX_STREAMED_BYTES, ResponseStream

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
"""What a function may answer: 6 MB, and the room that Lambda leaves for the envelope."""

_VERSION = "/2018-06-01/runtime"
_NEXT = f"{_VERSION}/invocation/next".encode()
_INVOCATION = f"{_VERSION}/invocation/".encode()
_INIT_ERROR = f"{_VERSION}/init/error".encode()
_ACCEPTED = (
    b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
)
_EXTENSIONS = b"/2020-01-01/extension/"
_TELEMETRY = {b"/2022-07-01/telemetry": "telemetry", b"/2020-08-15/logs": "logs"}
_HEADERS = frozenset(
    (
        b"lambda-runtime-function-error-type",
        b"lambda-runtime-function-error-body",
        b"lambda-runtime-function-response-mode",
        b"content-type",
        b"lambda-extension-name",
        b"lambda-extension-identifier",
        b"lambda-extension-accept-feature",
        b"lambda-extension-function-error-type",
    )
)
# The runtime client may repeat an exception's trace in a header, with up to 1 MiB.
_LONGEST_HEAD = 2 * 1024 * 1024
_MOST_CONNECTIONS = 64
_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"
_MODE = "lambda-runtime-function-response-mode"


_NONE: Mapping[str, str] = {}


class RuntimeCalls(Protocol):
    """Who answers a sandbox: its environment. The methods return False for a call out of order."""

    def next(self, door: Door) -> bool:
        """The runtime is ready; the door takes the event now or later, through `answer`."""

    def respond(self, request_id: str, payload: bytes) -> bool: ...

    def respond_too_large(self, request_id: str, size: int) -> bool: ...

    def fail(self, request_id: str, payload: bytes, error_type: str) -> bool: ...

    def fail_init(self, payload: bytes, error_type: str) -> bool: ...

    def stream(self, request_id: str, content_type: str, door: Door) -> ResponseStream | None:
        """Where a streamed response goes as it comes; None where its whole is wanted at once."""

    def truncated(self) -> None:
        """The connection ended amidst a streamed response."""

    def running(self) -> str | None:
        """The request id of the invocation under way."""

    def left(self, door: Door) -> None:
        """The connection behind the door has ended."""

    def call_extensions(self, door: Door, route: str, headers: Mapping[str, str], body: bytes) -> None:
        """A call of the Extensions API: the method and the path below its version; answered through the door."""


class Door(asyncio.Protocol):
    """One connection of a runtime or an extension."""

    __slots__ = (
        "_body",
        "_calls",
        "_head",
        "_headers",
        "_in_head",
        "_open_doors",
        "_parser",
        "_size",
        "_stream",
        "_transport",
        "_url",
    )

    def __init__(self, calls: RuntimeCalls, open_doors: set[Door]) -> None:
        """`open_doors` are all of one sandbox; what a function opens beyond some dozens is closed at once."""
        self._calls = calls
        self._open_doors = open_doors
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._in_head = True
        self._head = 0
        self._stream: ResponseStream | None = None

    def hold(self, held: bool) -> None:
        """Read nothing more from the connection while `held`."""
        if self._transport is not None:
            self._transport.pause_reading() if held else self._transport.resume_reading()

    def answer(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] = _NONE) -> None:
        """Answer the pending call with JSON."""
        if self._transport is None:
            return
        line = "200 OK" if status is HTTPStatus.OK else f"{status.value} {status.phrase}"
        rest = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = (
            f"HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{rest}\r\n"
        )
        self._transport.write(head.encode() + body)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if len(self._open_doors) >= _MOST_CONNECTIONS:
            self._transport.abort()
        self._open_doors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open_doors.discard(self)
        if self._stream is not None:
            self._stream = None
            self._calls.truncated()
        self._calls.left(self)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
            if self._head > _LONGEST_HEAD and self._transport is not None:
                self._transport.abort()
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequest", f"not an HTTP request: {error}")
            if self._transport is not None:
                self._transport.close()

    # httptools' callbacks

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._headers.get(_MODE) == "streaming" and self._url.startswith(_INVOCATION):
            request_id, _, verb = self._url[len(_INVOCATION) :].decode(errors="replace").partition("/")
            if verb == "response" and self._calls.running() == request_id:
                kind = self._headers.get("content-type", "")
                self._stream = self._calls.stream(request_id, kind, self)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._size = 0
        self._stream = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered in _HEADERS:
            self._headers[lowered.decode(errors="replace")] = value.decode(errors="replace")
        elif lowered == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._stream is not None:
            if self._size <= MAX_STREAMED_BYTES:
                self._stream.write(body)
            return
        # What is too large is counted, not kept.
        if self._size <= MAX_RESPONSE_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0
        method = self._parser.get_method()
        url = self._url.partition(b"?")[0]
        if url == _NEXT and method == b"GET":
            if not self._calls.next(self):
                self._refuse(
                    HTTPStatus.FORBIDDEN, "InvalidStateTransition", "the runtime asks for an event already"
                )
        elif url.startswith(_INVOCATION) and method == b"POST":
            request_id, _, verb = url[len(_INVOCATION) :].decode(errors="replace").partition("/")
            self._finish(request_id, verb)
        elif url == _INIT_ERROR and method == b"POST":
            body = b"".join(self._body)
            self._answer(self._calls.fail_init(body, self._headers.get(_ERROR_TYPE) or _told_type(body)))
        elif url.startswith(_EXTENSIONS):
            route = (method + b" " + url.removeprefix(_EXTENSIONS)).decode(errors="replace")
            self._calls.call_extensions(self, route, self._headers, b"".join(self._body))
        elif method == b"PUT" and url.rstrip(b"/") in _TELEMETRY:
            route = f"PUT {_TELEMETRY[url.rstrip(b'/')]}"
            self._calls.call_extensions(self, route, self._headers, b"".join(self._body))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath", f"no {url.decode(errors='replace')} here")

    def _finish(self, request_id: str, verb: str) -> None:
        if verb not in ("response", "error"):
            self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath", f"no {verb!r} of an invocation")
        elif self._calls.running() != request_id:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
        elif self._size > (MAX_RESPONSE_BYTES if self._stream is None else MAX_STREAMED_BYTES):
            self._calls.respond_too_large(request_id, self._size)
            self._stream = None
            limit = f"Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", limit)
        elif verb == "response" and self._headers.get(_MODE) == "streaming" and _ERROR_TYPE in self._headers:
            # In the trailers: it failed amidst its answer.
            self._stream = None
            told = _decoded(self._headers.get(_ERROR_BODY, ""))
            self._answer(self._calls.fail(request_id, told, self._headers[_ERROR_TYPE]))
        elif verb == "response":
            self._stream = None
            self._answer(self._calls.respond(request_id, b"".join(self._body)))
        else:
            body = b"".join(self._body)
            self._answer(
                self._calls.fail(request_id, body, self._headers.get(_ERROR_TYPE) or _told_type(body))
            )

    def _answer(self, in_order: bool) -> None:
        if not in_order:
            self._refuse(HTTPStatus.FORBIDDEN, "InvalidStateTransition", "not in the state for this call")
        else:
            # The caller's answer goes out first: whom the call has woken is due before this.
            asyncio.get_running_loop().call_soon(self._accept)

    def _accept(self) -> None:
        if self._transport is not None:
            self._transport.write(_ACCEPTED)

    def _refuse(self, status: HTTPStatus, kind: str, message: str) -> None:
        self.answer(status, msgspec.json.encode({"errorMessage": message, "errorType": kind}))


def _decoded(body: str) -> bytes:
    """A trailer's base64; as it stands, where it is not that."""
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return body.encode()


class _Told(msgspec.Struct):
    errorType: str = ""


def _told_type(body: bytes) -> str:
    """The type in an error object, for runtimes that do not repeat it in the header."""
    try:
        return msgspec.json.decode(body, type=_Told).errorType or "Runtime.Unknown"
    except msgspec.DecodeError:
        return "Runtime.Unknown"
