"""Serves the gateway over HTTP/1.1 on as many sockets as are given, in the running event loop.

The HTTP itself is uvicorn's httptools protocol (llhttp, strict: conflicting lengths are refused, RFC 9112
section 6.3). Every socket is one small server of its own, so that thousands can come and go: each execution
environment has one in its network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from email.utils import formatdate

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from lambay.http import Request, Response

Handle = Callable[[Request], Awaitable[Response]]

# Longer than SDKs keep an idle connection, so that it is they who close it.
KEEP_ALIVE_SECONDS = 90
BACKLOG = 2048
MAX_BODY_BYTES = 5 << 30

# Framing is the listener's: a handler that passes on somebody's answer passes on their framing as well.
_FRAMING = frozenset({"content-length", "transfer-encoding", "date"})
_NO_BODY = frozenset({204, 304})

_TOO_LARGE = (
    b'{"__type":"RequestEntityTooLargeException","message":"the request body is larger than allowed"}'
)


class Listener:
    """Sockets that answer with one handler.

    `start` and `start_on` give an Endpoint that can be stopped by itself; `stop` stops all that are left.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        max_body: int = MAX_BODY_BYTES,
        streams: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        """Where `streams` says so of a request without its body, it is handled before the body has come."""
        self._config = Config(
            _Application(handle, max_body, streams),
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self._endpoints: set[Endpoint] = set()
        self._unanswered: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> Endpoint:
        """Listen at an address; port 0 takes a free one. Raises OSError where it cannot be had."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        return await self.start_on(listening)

    async def start_on(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> Endpoint:
        """Serve a socket that is bound and listening already, from this network namespace or another.

        The socket is the endpoint's from here on and closed with it. With `tls` it speaks HTTPS.
        """
        listening.setblocking(False)
        endpoint = Endpoint(listening, self._stopped)
        await endpoint.open(self._config, tls)
        self._endpoints.add(endpoint)
        return endpoint

    async def stop(self, grace: float = 5.0) -> None:
        """Stop accepting, let requests under way finish for `grace` seconds, then cancel them."""
        await asyncio.gather(*(endpoint.stop(grace) for endpoint in list(self._endpoints)))
        for task in self._unanswered:
            task.cancel()
        await asyncio.gather(*self._unanswered, return_exceptions=True)

    def _stopped(self, endpoint: Endpoint, unanswered: set[asyncio.Task[None]]) -> None:
        self._endpoints.discard(endpoint)
        self._unanswered |= unanswered
        for task in unanswered:
            task.add_done_callback(self._unanswered.discard)


class Endpoint:
    """One listening socket and its connections. `host` and `port` are where it listens."""

    def __init__(
        self, listening: socket.socket, stopped: Callable[[Endpoint, set[asyncio.Task[None]]], None]
    ) -> None:
        self._socket = listening
        self._stopped = stopped
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self.host, self.port = _address(listening)

    async def open(self, config: Config, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpToolsProtocol(config, self._state, {}, loop),
            sock=self._socket,
            backlog=BACKLOG,
            ssl=tls,
        )

    async def stop(self, grace: float = 5.0) -> None:
        """Idempotent. Requests under way have `grace` seconds to be answered.

        Those that take longer lose their connection, not their effect: what a function asked for before it
        ended is carried out, as in the cloud. Only the listener's own stop cancels them.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._stopped(self, set(self._state.tasks))
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks and grace > 0:
            await asyncio.wait(list(self._state.tasks), timeout=grace)
        for connection in list(self._state.connections):
            connection.transport.abort()
        self._socket.close()


class _Application:
    """ASGI on one side, `Request` and `Response` on the other."""

    def __init__(self, handle: Handle, max_body: int, streams: Callable[[Request], bool]) -> None:
        self._handle = handle
        self._max_body = max_body
        self._streams = streams

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        # Only a listener that stops cancels this, after aborting the connections.
        with contextlib.suppress(asyncio.CancelledError):
            request = _request(scope, b"")
            if self._streams(request):
                await self._answer_streamed(request, receive, send)
                return
            body = await self._body(receive)
            if body is None:
                return
            if len(body) > self._max_body:
                await _send(_too_large(), receive, send)
                return
            answer = await self._handle(dataclasses.replace(request, body=body))
            await _send(answer, receive, send, bodiless=scope["method"] == "HEAD")

    async def _answer_streamed(
        self, request: Request, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        chunks = self._chunks(receive)
        try:
            answer = await self._handle(dataclasses.replace(request, chunks=chunks))
            # Who is refused early hears of it: a client that still sends would only see a reset.
            async for _ in chunks:
                pass
        except _TooLarge:
            answer = _too_large()
        except ConnectionResetError:
            return
        await _send(answer, receive, send)

    async def _chunks(self, receive: ASGIReceiveCallable) -> AsyncIterator[bytes]:
        """The body as it comes."""
        size = 0
        more = True
        while more:
            event = await receive()
            if event["type"] != "http.request":
                raise ConnectionResetError("the client went away")
            size += len(event["body"])
            if size > self._max_body:
                raise _TooLarge
            more = event["more_body"]
            if event["body"]:
                yield event["body"]

    async def _body(self, receive: ASGIReceiveCallable) -> bytes | None:
        """The whole body, or None where the client went away. Stops reading beyond the allowed size."""
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return None
            chunks.append(event["body"])
            size += len(event["body"])
            if not event["more_body"] or size > self._max_body:
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _TooLarge(Exception):
    """A streamed body is larger than allowed."""


def _too_large() -> Response:
    return Response(413, {"Content-Type": "application/json", "Connection": "close"}, _TOO_LARGE)


def _request(scope: HTTPScope, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if scope["scheme"] == "https":
        # Addresses that answers contain are the client's way to here.
        headers.setdefault("x-forwarded-proto", "https")
    client = scope["client"]
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("ascii"),
        query=scope["query_string"].decode("ascii", "replace"),
        headers=headers,
        body=body,
        source_ip=client[0] if client else "",
        scheme=scope["scheme"],
    )


async def _send(
    response: Response, receive: ASGIReceiveCallable, send: ASGISendCallable, *, bodiless: bool = False
) -> None:
    """A `bodiless` answer, to HEAD, may announce the length of what it does not send."""
    body = response.body
    headers = [(b"date", _date.now())]
    for name, value in response.headers.items():
        if name.lower() not in _FRAMING or (bodiless and name.lower() == "content-length"):
            headers.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
    if response.status in _NO_BODY:
        body = b""
    elif isinstance(body, bytes) and not bodiless:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    if await _stream(body, receive, send):
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _stream(chunks: AsyncIterator[bytes], receive: ASGIReceiveCallable, send: ASGISendCallable) -> bool:
    """Whether the client stayed to the end; the chunks' source is closed as soon as it leaves."""

    async def pour() -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    pouring = asyncio.ensure_future(pour())
    leaving = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((pouring, leaving), return_when=asyncio.FIRST_COMPLETED)
        if pouring.done():
            pouring.result()
            return True
        return False
    finally:
        for task in (pouring, leaving):
            task.cancel()
        await asyncio.wait((pouring, leaving))
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _departure(receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Date:
    """The Date header, formatted once a second.

    It is the machine's time: SDKs correct their own clocks by it.
    """

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


_date = _Date()


def _address(listening: socket.socket) -> tuple[str, int]:
    name = listening.getsockname()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else (str(name), 0)
