"""HTTP as it is on the wire."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator

import pytest

from lambay.api import Listener
from lambay.http import Request, Response


class Server:
    """A listener whose handler describes the request it got."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def handle(self, request: Request) -> Response:
        self.seen.append(request)
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if request.path == "/stream":
            return Response(200, {}, _chunks())
        return Response(200, {"X-Length": str(len(request.body))}, request.body[:100])


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in (b"one", b"two"):
        yield chunk


async def talk(port: int, sent: bytes, until: bytes | None = None) -> bytes:
    """All that comes back, until `until` or the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if until is not None:
            return await asyncio.wait_for(reader.readuntil(until), 10)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, int, Listener]]:
    built = Server()
    listener = Listener(built.handle, max_body=300 << 20)
    endpoint = await listener.start("127.0.0.1", 0)
    yield built, endpoint.port, listener
    await listener.stop(0)


async def test_a_request_is_taken_apart(server: tuple[Server, int, Listener]) -> None:
    built, port, _ = server
    await talk(
        port,
        b"PUT /a%2Fb/c?x=1&y=%20 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
    )
    (request,) = built.seen
    assert (request.method, request.path, request.query, request.body) == (
        "PUT",
        "/a%2Fb/c",
        "x=1&y=%20",
        b"hi",
    )
    assert request.headers["x-a"] == "1,2"
    assert (request.source_ip, request.scheme) == ("127.0.0.1", "http")


async def test_a_connection_serves_several_requests_in_order(server: tuple[Server, int, Listener]) -> None:
    built, port, _ = server
    one = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na"
    two = b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast"
    answer = await talk(port, one + two)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"last")
    assert [request.path for request in built.seen] == ["/1", "/2"]


async def test_100_continue_comes_before_the_body_is_sent(server: tuple[Server, int, Listener]) -> None:
    _, port, _ = server
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await asyncio.wait_for(reader.readuntil(b"abc"), 10)).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_chunked_uploads_arrive_whole(server: tuple[Server, int, Listener]) -> None:
    built, port, _ = server
    body = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
    await talk(port, b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body, b"abcde")
    assert built.seen[0].body == b"abcde"


async def test_a_body_of_256_mib_arrives_whole(server: tuple[Server, int, Listener]) -> None:
    built, port, _ = server
    block = bytes(range(256)) * 4096
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /big HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (len(block) * 256))
    digest = hashlib.sha256()
    for _ in range(256):
        writer.write(block)
        digest.update(block)
        await writer.drain()
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    assert b"x-length: %d" % (len(block) * 256) in head
    assert hashlib.sha256(built.seen[0].body).digest() == digest.digest()


async def test_a_body_beyond_the_limit_is_refused_and_the_connection_closed() -> None:
    built = Server()
    listener = Listener(built.handle, max_body=1000)
    endpoint = await listener.start("127.0.0.1", 0)
    answer = await talk(
        endpoint.port, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000
    )
    await listener.stop(0)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"RequestEntityTooLargeException" in answer
    assert built.seen == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01 is TLS, not HTTP\r\n\r\n",
    ],
)
async def test_what_two_parsers_could_read_differently_is_refused(
    request_bytes: bytes, server: tuple[Server, int, Listener]
) -> None:
    """RFC 9112 section 11.2, request smuggling."""
    built, port, _ = server
    answer = await talk(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200" not in answer
    assert not any("smuggled" in request.path for request in built.seen)


async def test_a_streamed_answer_is_chunked(server: tuple[Server, int, Listener]) -> None:
    _, port, _ = server
    answer = await talk(port, b"GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"transfer-encoding: chunked" in answer
    assert answer.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_stream_ends_when_its_client_leaves() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handle(request: Request) -> Response:
        return Response(200, {}, endless())

    listener = Listener(handle)
    endpoint = await listener.start("127.0.0.1", 0)

    await talk(endpoint.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", until=b"first")

    await asyncio.wait_for(ended.wait(), 10)
    await listener.stop(0)


async def test_a_head_request_gets_no_body(server: tuple[Server, int, Listener]) -> None:
    _, port, _ = server
    answer = await talk(
        port, b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert answer.endswith(b"\r\n\r\n")


async def test_a_socket_that_listens_already_is_served_and_stopped_by_itself() -> None:
    built = Server()
    listener = Listener(built.handle)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    endpoints = [await listener.start_on(each) for each in sockets]
    request = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    for endpoint in endpoints:
        assert (await talk(endpoint.port, request)).startswith(b"HTTP/1.1 200")
    await endpoints[0].stop()
    with pytest.raises(OSError, match="Connect"):
        await talk(endpoints[0].port, request)
    assert sockets[0].fileno() == -1
    assert (await talk(endpoints[1].port, request)).startswith(b"HTTP/1.1 200")
    await listener.stop()
    assert [each.fileno() for each in sockets] == [-1, -1, -1]


async def test_a_thousand_sockets_come_and_go() -> None:
    built = Server()
    listener = Listener(built.handle)
    endpoints = [await listener.start_on(socket.create_server(("127.0.0.1", 0))) for _ in range(1000)]
    for endpoint in endpoints[::100]:
        request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        assert (await talk(endpoint.port, request)).startswith(b"HTTP/1.1 200")
    await listener.stop()
    assert len(built.seen) == 10


async def test_stopping_lets_a_request_under_way_finish() -> None:
    built = Server()
    built.hold = asyncio.Event()
    listener = Listener(built.handle)
    endpoint = await listener.start("127.0.0.1", 0)
    asking = asyncio.create_task(
        talk(endpoint.port, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    )
    await built.asked.wait()
    stopping = asyncio.create_task(listener.stop(10))
    await asyncio.sleep(0)
    built.hold.set()
    answer = await asking
    await stopping
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer


async def test_stopping_cuts_off_what_does_not_finish_and_idle_connections() -> None:
    built = Server()
    listener = Listener(built.handle)
    endpoint = await listener.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    built.hold = asyncio.Event()
    built.asked.clear()
    asking = asyncio.create_task(talk(endpoint.port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
    await built.asked.wait()
    await asyncio.wait_for(listener.stop(0), 5)
    assert await reader.read() == b""
    assert await _ended(asking) == b""
    writer.close()


async def test_a_stopped_socket_does_not_undo_what_was_asked() -> None:
    built = Server()
    built.hold = asyncio.Event()
    carried_out = asyncio.Event()

    async def handle(request: Request) -> Response:
        response = await built.handle(request)
        carried_out.set()
        return response

    listener = Listener(handle)
    endpoint = await listener.start("127.0.0.1", 0)
    asking = asyncio.create_task(talk(endpoint.port, b"DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n"))
    await built.asked.wait()
    await endpoint.stop(0)
    assert await _ended(asking) == b""
    built.hold.set()
    await asyncio.wait_for(carried_out.wait(), 5)
    await listener.stop(0)


async def _ended(asking: asyncio.Task[bytes]) -> bytes:
    """What was received before the connection ended, which a reset does as well as a close."""
    try:
        return await asking
    except ConnectionResetError:
        return b""


async def test_an_address_in_use_is_reported() -> None:
    listener = Listener(Server().handle)
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match="in use"):
        await listener.start("127.0.0.1", taken.getsockname()[1])
