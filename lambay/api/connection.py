"""One HTTP/1.1 connection: requests in, one answered after the other, each answer in one write where it can be.

The parsing is llhttp's through httptools, strict: what two parsers could read differently is refused (RFC 9112,
section 11). Everything that a client can make this side hold has a limit, and a client that stays silent where it
is its turn loses the connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple, cast

import httptools

from lambay.api.body import Body, TooLarge
from lambay.api.heads import answer_head, date, without_offer
from lambay.http import Request, Response

Handle = Callable[[Request], Awaitable[Response]]

_LONGEST_HEAD = 64 << 10
_ONE_WRITE = 64 << 10
# In thirds, so that one timer a connection does for all of them.
_PATIENCE_THIRDS = 3
_LINGER_SECONDS = 5.0

# Where in a message the connection is.
_BETWEEN, _HEAD, _BODY = range(3)

_NO_BODY = frozenset({204, 304})
_TOO_LARGE = (
    b'{"__type":"RequestEntityTooLargeException","message":"the request body is larger than allowed"}'
)

_log = logging.getLogger("lambay.api")


@dataclass(slots=True)
class Serving:
    """What the connections of one listening socket share."""

    handle: Handle
    max_body: int
    streams: Callable[[Request], bool]
    patience: float
    connections: set[Connection] = field(default_factory=set)
    orphans: set[asyncio.Task[None]] = field(default_factory=set)

    def unanswered(self) -> set[asyncio.Task[None]]:
        """The requests that are being handled, also those whose clients have gone."""
        return self.orphans | {each.task for each in self.connections if each.task is not None}


class _Asked(NamedTuple):
    """A request, and what it allows its answer: to leave the connection open, to be chunked."""

    request: Request
    keep_alive: bool
    chunked: bool


class Connection(asyncio.Protocol):
    """A client's connection. `task` handles the request that is being answered, where there is one."""

    __slots__ = (
        "_body",
        "_closing",
        "_continue",
        "_drained",
        "_fresh",
        "_head_size",
        "_headers",
        "_heard",
        "_keep_alive",
        "_last",
        "_loop",
        "_parser",
        "_parts",
        "_poured_chunks",
        "_pouring",
        "_reading",
        "_refused",
        "_request",
        "_scheme",
        "_served",
        "_serving",
        "_silent",
        "_size",
        "_source_ip",
        "_stage",
        "_timer",
        "_transport",
        "_url",
        "_waiting",
        "task",
    )

    def __init__(self, serving: Serving, loop: asyncio.AbstractEventLoop) -> None:
        self._serving = serving
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._source_ip = ""
        self._scheme = "http"
        # The message that is coming.
        self._url = b""
        self._headers: dict[str, str] = {}
        self._request: Request | None = None
        self._body: Body | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._stage = _BETWEEN
        self._fresh = False
        self._head_size = 0
        self._keep_alive = True
        self._continue = False
        self._last = False
        self._refused: tuple[HTTPStatus, bytes] | None = None
        # What is being answered, and what waits for that.
        self.task: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._pouring: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._reading = True
        self._closing = False
        # For the timer: what it saw last, and how often in a row.
        self._served = 0
        self._poured_chunks = 0
        self._heard: tuple[int, ...] = (0, 0, 0, 0)
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None

    def shut_down(self) -> None:
        """Take no further request; close once those that have come are answered."""
        self._closing = True
        if self.task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._serving.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._source_ip = str(peer[0]) if isinstance(peer, tuple) else ""
        self._scheme = "https" if transport.get_extra_info("sslcontext") is not None else "http"
        self._timer = self._loop.call_later(self._serving.patience / _PATIENCE_THIRDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._serving.connections.discard(self)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._body is not None:
            self._body.lose()
        if self._pouring is not None:
            self._pouring.cancel()
        self.resume_writing()
        if self.task is not None:
            # What was asked for is carried out all the same.
            self._serving.orphans.add(self.task)
            self.task.add_done_callback(self._serving.orphans.discard)

    def data_received(self, data: bytes) -> None:
        if self._last or self._refused is not None:
            # After what says that it is the last message nothing is listened to.
            return
        self._fresh = False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if not self._last and self._refused is None:
                self._refuse(HTTPStatus.BAD_REQUEST, f"not an HTTP request: {_cause(error)}")
            return
        if self._stage == _HEAD and not self._fresh:
            # What came with the end of the message before it is not counted.
            self._head_size += len(data)
            if self._head_size > _LONGEST_HEAD:
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is larger than allowed"
                )

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes the offer for accepted. It is not: the head is read again without it.
                rest = memoryview(rest)[upgrade.args[0] :]
                head = without_offer(self._parser.get_method(), self._url, self._headers)
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._request = None
        self._parts = []
        self._size = 0
        self._stage = _HEAD
        self._fresh = True
        self._head_size = 0
        self._continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage != _HEAD:
            # A trailer, which no service reads.
            return
        lowered, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers = self._headers
        headers[lowered] = f"{headers[lowered]},{text}" if lowered in headers else text

    def on_headers_complete(self) -> None:
        self._stage = _BODY
        if self._last:
            return
        parser = self._parser
        if "upgrade" in self._headers and parser.should_upgrade():
            return
        self._keep_alive = parser.get_http_version() == "1.1" and parser.should_keep_alive()
        headers, url = self._headers, self._url
        if url.startswith(b"/") and b"#" not in url:
            path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            if parsed.path is None:
                raise _Unreadable("its target has no path")
            path, query = parsed.path, parsed.query or b""
        if self._scheme == "https":
            # Addresses that answers contain are the client's way to here.
            headers.setdefault("x-forwarded-proto", "https")
        self._request = request = Request(
            parser.get_method().decode("ascii"),
            path.decode("ascii"),
            query.decode("ascii", "replace"),
            headers,
            b"",
            self._source_ip,
            self._scheme,
        )
        if headers.get("expect", "").lower() == "100-continue":
            self._continue = True
            if self.task is None:
                self._send_continue()
        if self._serving.streams(request):
            self._body = body = Body(self._regulate, self._serving.max_body)
            request.chunks = body.chunks()
            self._take(request)

    def on_body(self, part: bytes) -> None:
        if self._last or self._refused is not None:
            return
        self._continue = False
        self._size += len(part)
        if self._body is not None:
            self._body.add(part)
            self._regulate()
        elif self._size <= self._serving.max_body:
            self._parts.append(part)
        else:
            self._parts = []
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "", _TOO_LARGE)

    def on_message_complete(self) -> None:
        if self._last or self._refused is not None or self._request is None:
            return
        self._stage, self._continue = _BETWEEN, False
        self._last = not self._keep_alive
        if self._body is not None:
            body, self._body = self._body, None
            body.complete()
            return
        request, parts = self._request, self._parts
        if parts:
            self._parts = []
            request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._take(request)

    # One request after the other

    def _take(self, request: Request) -> None:
        """Answer a request, or have it wait for those before it."""
        asked = _Asked(request, self._keep_alive, self._parser.get_http_version() == "1.1")
        if self.task is None:
            self.task = self._loop.create_task(self._answer(asked))
        else:
            self._waiting.append(asked)
            self._regulate()

    async def _answer(self, asked: _Asked) -> None:
        request = asked.request
        try:
            if request.chunks is None:
                response = await self._serving.handle(request)
            else:
                response = await self._handle_streamed(request, request.chunks)
            if isinstance(response.body, bytes):
                keep_alive = self._send(response, response.body, asked)
            else:
                keep_alive = await self._stream(response, response.body, asked)
        except (Exception, asyncio.CancelledError) as error:
            # Only a listener that stops cancels, after it has closed the connections.
            if self._transport is not None:
                if isinstance(error, Exception):
                    _log.exception("a request broke: %s %s", request.method, request.path)
                self._write_plainly(HTTPStatus.INTERNAL_SERVER_ERROR, b"Internal Server Error")
            keep_alive = False
        self._answered(keep_alive)

    def _answered(self, keep_alive: bool) -> None:
        if self._transport is None:
            return
        self.task = None
        self._served += 1
        if not keep_alive:
            self._close_gently()
        elif self._waiting:
            self.task = self._loop.create_task(self._answer(self._waiting.popleft()))
            self._regulate()
            if self._continue and self._body is not None and not self._waiting:
                self._send_continue()
        elif self._refused is not None:
            self._write_plainly(*self._refused)
            self._close_gently()
        elif self._closing:
            self._transport.close()
        elif self._continue:
            self._send_continue()

    async def _handle_streamed(self, request: Request, chunks: AsyncIterator[bytes]) -> Response:
        try:
            answer = await self._serving.handle(request)
            # Who is refused early hears of it: a client that still sends would only see a reset.
            async for _ in chunks:
                pass
        except TooLarge:
            return Response(413, {"Content-Type": "application/json", "Connection": "close"}, _TOO_LARGE)
        return answer

    # Answers

    def _send(self, response: Response, body: bytes, asked: _Asked) -> bool:
        """Write an answer whose body is there; whether the connection goes on."""
        bodiless = asked.request.method == "HEAD"
        head, keep_alive = answer_head(response, asked.keep_alive and not self._closing, bodiless=bodiless)
        if response.status in _NO_BODY:
            body = b""
        elif not bodiless:
            head += f"content-length: {len(body)}\r\n"
        transport = self._transport
        if transport is None:
            return False
        encoded = f"{head}\r\n".encode("latin-1", "replace")
        if bodiless or not body:
            transport.write(encoded)
        elif len(body) <= _ONE_WRITE:
            transport.write(encoded + body)
        else:
            transport.writelines((encoded, body))
        return keep_alive

    async def _stream(self, response: Response, chunks: AsyncIterator[bytes], asked: _Asked) -> bool:
        """Write an answer as it comes; its source is closed as soon as the client leaves."""
        bodiless = asked.request.method == "HEAD"
        try:
            head, keep_alive = answer_head(
                response, asked.keep_alive and not self._closing, bodiless=bodiless
            )
            bodiless = bodiless or response.status in _NO_BODY
            if asked.chunked and not bodiless:
                head += "transfer-encoding: chunked\r\n"
            if self._transport is None:
                return False
            self._transport.write(f"{head}\r\n".encode("latin-1", "replace"))
            if bodiless:
                return keep_alive
            return await self._poured(chunks, chunked=asked.chunked) and keep_alive
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _poured(self, chunks: AsyncIterator[bytes], *, chunked: bool) -> bool:
        """Whether the client stayed to the end, and there was one."""
        self._pouring = pouring = asyncio.ensure_future(self._pour(chunks, chunked=chunked))
        try:
            await asyncio.wait((pouring,))
            pouring.result()
            return True
        except asyncio.CancelledError:
            return False
        except Exception:
            if self._transport is not None:
                _log.exception("an answer broke off")
                # Without an end it is known to be incomplete.
                self._transport.abort()
            return False
        finally:
            self._pouring = None
            if not pouring.done():
                pouring.cancel()
                await asyncio.wait((pouring,))

    async def _pour(self, chunks: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for chunk in chunks:
            if self._drained is not None:
                await self._drained
            if self._transport is None:
                return
            self._poured_chunks += 1
            if chunk:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        if chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")

    def _send_continue(self) -> None:
        """RFC 9110, section 10.1.1: the client waits for it before it sends the body."""
        if self._transport is not None:
            self._continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: HTTPStatus, message: str, body: bytes = b"") -> None:
        """Answer what cannot be read on, after what came before it, and take nothing more."""
        self._refused = (status, body or message.encode())
        if self._body is not None:
            self._body.lose()
            self._body = None
        if self.task is None:
            self._write_plainly(*self._refused)
            self._close_gently()

    def _write_plainly(self, status: HTTPStatus, body: bytes) -> None:
        kind = "application/json" if body.startswith(b"{") else "text/plain; charset=utf-8"
        if self._transport is not None:
            self._transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ndate: {date.now()}\r\ncontent-type: {kind}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                + body
            )

    def _close_gently(self) -> None:
        """Close, but let a client that still sends read what it was told: a reset would take that from it.

        RFC 9112, section 9.6.
        """
        transport = self._transport
        if transport is None:
            return
        self._last = True
        self._waiting.clear()
        between_messages = self._refused is None and self._stage == _BETWEEN
        if between_messages or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        self._regulate()
        self._loop.call_later(_LINGER_SECONDS, transport.close)

    # What keeps both sides going

    def _regulate(self) -> None:
        """Read from the connection, unless there is enough to do."""
        reading = not self._waiting and (self._body is None or not self._body.full)
        if self._transport is None or self._reading is reading:
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _look(self) -> None:
        """Close where a client has been silent on its turn: between requests, in one, or in taking its answer."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        # What is unsent of a stream may be as much as before and yet be something else.
        heard = (self._served, self._size, unsent, self._poured_chunks)
        receiving = self._reading and (self.task is None or self._body is not None)
        theirs = unsent > 0 or receiving
        self._silent = self._silent + 1 if theirs and heard == self._heard else 0
        self._heard = heard
        if self._silent >= _PATIENCE_THIRDS:
            if unsent:
                # Or the kernel would go on offering what is left of it.
                opened: socket.socket = transport.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()
            return
        self._timer = self._loop.call_later(self._serving.patience / _PATIENCE_THIRDS, self._look)


class _Unreadable(Exception):
    """A request that the parser takes and that nothing can be made of."""


def _cause(error: Exception) -> str:
    """What the parser says, or what one of its callbacks has raised."""
    return str(error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error)
