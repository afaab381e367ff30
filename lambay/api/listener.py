"""Serves the gateway over HTTP/1.1 on as many sockets as are given, in the running event loop.

Every socket is one small server of its own, so that thousands can come and go: each execution environment has one
in its network namespace.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from lambay.api.connection import Connection, Handle, Serving
from lambay.http import Request

# Longer than SDKs keep an idle connection, so that it is they who close it.
PATIENCE_SECONDS = 90.0
BACKLOG = 2048
MAX_BODY_BYTES = 5 << 30


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
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Where `streams` says so of a request without its body, it is handled before the body has come.

        A client that is silent for `patience` seconds and a little where it is its turn loses its connection.
        """
        self._handle = handle
        self._max_body = max_body
        self._streams = streams
        self._patience = patience
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
        serving = Serving(self._handle, self._max_body, self._streams, self._patience)
        endpoint = Endpoint(listening, serving, self._stopped)
        await endpoint.open(tls)
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
        self,
        listening: socket.socket,
        serving: Serving,
        stopped: Callable[[Endpoint, set[asyncio.Task[None]]], None],
    ) -> None:
        self._socket = listening
        self._serving = serving
        self._stopped = stopped
        self._server: asyncio.Server | None = None
        self.host, self.port = _address(listening)

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._serving, loop), sock=self._socket, backlog=BACKLOG, ssl=tls
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
        unanswered = self._serving.unanswered()
        self._stopped(self, unanswered)
        for connection in list(self._serving.connections):
            connection.shut_down()
        if unanswered and grace > 0:
            await asyncio.wait(unanswered, timeout=grace)
        for connection in list(self._serving.connections):
            connection.abort()
        self._socket.close()


def _address(listening: socket.socket) -> tuple[str, int]:
    name = listening.getsockname()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else (str(name), 0)
