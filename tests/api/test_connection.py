"""One connection and what clients may do with it: pipelining, silence, halves of requests, and plain nonsense."""

from __future__ import annotations

import asyncio
import random
import select
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from lambay.api import Listener
from lambay.http import Request, Response

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
DEADLINE = 120.0

Start = Callable[..., "asyncio.Future[int]"]


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., object]]:
    """Starts a listener with a handler and gives its port."""
    listeners: list[Listener] = []

    async def start(handle: object, **given: object) -> int:
        listener = Listener(handle, **given)  # type: ignore[arg-type]
        listeners.append(listener)
        return (await listener.start("127.0.0.1", 0)).port

    yield start
    for listener in listeners:
        await listener.stop(0)


async def echo(request: Request) -> Response:
    return Response(200, {"X-Path": request.path}, request.body)


async def talk(port: int, *sent: bytes) -> bytes:
    """All that comes back for pieces sent one by one, until the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), DEADLINE)
    finally:
        writer.close()


async def test_pipelined_requests_are_answered_in_order(listen: Start) -> None:
    async def unequal(request: Request) -> Response:
        # The first ones take longest.
        for _ in range(50 - int(request.path[1:])):
            await asyncio.sleep(0)
        return await echo(request)

    port = await listen(unequal)
    sent = b"".join(b"PUT /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" % n for n in range(49))
    answer = await talk(port, sent + b"GET /49 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    paths = [line for line in answer.split(b"\r\n") if line.startswith(b"x-path")]
    assert paths == [b"x-path: /%d" % number for number in range(50)]
    assert answer.count(b"\r\n\r\nabc") == 49


async def test_a_request_may_come_byte_by_byte(listen: Start) -> None:
    port = await listen(echo)
    sent = (
        b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n"
        b"X-Trailer: t\r\n\r\n" + LAST
    )
    answer = await talk(port, *(sent[at : at + 1] for at in range(len(sent))))
    assert b"\r\n\r\nabcde" in answer
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_large_bodies_leave_the_connection_as_it_was(listen: Start) -> None:
    port = await listen(echo)
    large = b"PUT /large HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
    answer = await talk(port, large * 3 + LAST[:10], LAST[10:])
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b"HTTP/1.1 ") == 4


async def test_what_came_before_nonsense_is_answered(listen: Start) -> None:
    port = await listen(echo)
    answer = await talk(
        port, b"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok" + b"\x00nonsense\r\n\r\n"
    )
    first, _, second = answer.partition(b"ok")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_what_follows_the_last_request_is_ignored(listen: Start) -> None:
    port = await listen(echo)
    answer = await talk(port, LAST + GET + b"\x00nonsense")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


async def test_an_offer_to_upgrade_is_declined(listen: Start) -> None:
    """Java's client makes it with its first request to every host."""
    port = await listen(echo)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    answer = await talk(port, b"GET /first HTTP/1.1\r\nHost: h\r\n" + offer + b"\r\n", LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    body = b"PUT /first HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" + offer + b"\r\nabc"
    answer = await talk(port, body + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"\r\n\r\nabc" in answer


async def test_many_offers_to_upgrade_are_declined(listen: Start) -> None:
    port = await listen(echo)
    offer = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = await talk(port, offer * 3000 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 3001


@pytest.mark.parametrize("piece", [b"X-Long: " + b"x" * 4000 + b"\r\n", b"y"])
async def test_a_head_without_an_end_is_refused(listen: Start, piece: bytes) -> None:
    port = await listen(echo)
    pieces = [b"GET / HTTP/1.1\r\nHost: h\r\n", *([piece * (64000 // len(piece))] * 20)]
    answer = await talk(port, *pieces)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_client_that_sends_too_much_hears_of_it(listen: Start) -> None:
    """It would only see a reset if the connection were closed on what it still sends."""
    port = await listen(echo, max_body=1000)
    head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n"
    answer = await talk(port, head, *([bytes(1 << 20)] * 8))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"RequestEntityTooLargeException" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
        b"PUT /streamed HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
    ],
)
async def test_who_is_silent_on_his_turn_loses_the_connection(listen: Start, sent: bytes) -> None:
    async def handle(request: Request) -> Response:
        if request.chunks is not None:
            async for _ in request.chunks:
                pass
        return await echo(request)

    port = await listen(handle, patience=1.0, streams=lambda request: request.path == "/streamed")
    assert await talk(port, sent) == b""


async def test_an_idle_connection_is_closed(listen: Start) -> None:
    port = await listen(echo, patience=1.0)
    answer = await talk(port, GET)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" not in answer


async def test_whoever_waits_for_an_answer_is_not_silent(listen: Start) -> None:
    async def slow(request: Request) -> Response:
        # Twice as long as its client may be silent.
        await asyncio.sleep(3.0)
        return await echo(request)

    port = await listen(slow, patience=1.5)
    assert (await talk(port, GET)).startswith(b"HTTP/1.1 200 OK")


async def test_whoever_does_not_take_his_answer_loses_the_connection(listen: Start) -> None:
    async def much(request: Request) -> Response:
        return Response(200, {}, bytes(64 << 20))

    port = await listen(much, patience=1.0)
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(GET)
    poll = select.poll()
    # Nothing but the connection's end.
    poll.register(client, 0)
    events = await asyncio.to_thread(poll.poll, DEADLINE * 1000)
    client.close()
    assert [event & select.POLLERR for _, event in events] == [select.POLLERR]


async def test_a_stream_does_not_run_ahead_of_its_reader(listen: Start) -> None:
    made = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(1 << 16)
            await asyncio.sleep(0)

    async def handle(request: Request) -> Response:
        return Response(200, {}, endless())

    port = await listen(handle)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    last = -1
    while last != made:
        last = made
        for _ in range(1000):
            await asyncio.sleep(0)
    writer.close()
    assert made < 1000


async def test_a_slow_reader_of_a_long_stream_keeps_it(listen: Start) -> None:
    """It takes several times its patience, and takes something all the time."""

    async def long() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield bytes(1 << 16)

    async def handle(request: Request) -> Response:
        return Response(200, {}, long())

    port = await listen(handle, patience=3.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    taken = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + 8.0
    while chunk := await asyncio.wait_for(reader.read(1 << 16), DEADLINE):
        taken += len(chunk)
        if loop.time() < until:
            await asyncio.sleep(0.02)
        if chunk.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    assert taken > 600 << 16


async def test_a_client_does_not_run_ahead_of_whoever_takes_its_body(listen: Start) -> None:
    go_on = asyncio.Event()
    taken = 0

    async def handle(request: Request) -> Response:
        nonlocal taken
        assert request.chunks is not None
        await go_on.wait()
        async for chunk in request.chunks:
            taken += len(chunk)
        return Response(200, {}, b"done")

    port = await listen(handle, streams=lambda request: True)
    whole = 64 << 20
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % whole)
    client.setblocking(False)
    sent, refused = 0, 0
    while sent < whole and refused < 1000:
        try:
            sent += client.send(bytes(min(1 << 16, whole - sent)))
            refused = 0
        except BlockingIOError:
            refused += 1
        await asyncio.sleep(0)
    assert sent < whole
    go_on.set()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, bytes(whole - sent))
    answer = await loop.sock_recv(client, 1000)
    client.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert taken == whole


async def test_100_continue_waits_for_its_turn(listen: Start) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def handle(request: Request) -> Response:
        asked.set()
        if request.path == "/":
            await go_on.wait()
        return await echo(request)

    port = await listen(handle)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + b"PUT /2 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    await asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    second = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    writer.write(b"abc")
    third = await asyncio.wait_for(reader.readuntil(b"abc"), DEADLINE)
    writer.close()
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert second == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert third.startswith(b"HTTP/1.1 200 OK")


async def test_http_1_0_gets_a_stream_that_the_connection_ends(listen: Start) -> None:
    async def two() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def handle(request: Request) -> Response:
        return Response(200, {}, two())

    port = await listen(handle)
    answer = await talk(port, b"GET / HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"\r\n\r\nonetwo")


async def test_a_stream_that_breaks_has_no_end(listen: Start) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("amidst it")

    async def handle(request: Request) -> Response:
        return Response(200, {}, breaks())

    port = await listen(handle)
    try:
        answer = await talk(port, GET)
    except ConnectionResetError:
        return
    assert b"0\r\n\r\n" not in answer


@pytest.mark.parametrize(
    "headers", [{"X-A": "1\r\nSet-Cookie: injected"}, {"X-A: 1\r\nSet-Cookie": "injected"}, {"X-A": "\x00"}]
)
async def test_no_answer_has_headers_that_nobody_gave_it(listen: Start, headers: dict[str, str]) -> None:
    async def handle(request: Request) -> Response:
        return Response(200, dict(headers))

    port = await listen(handle)
    answer = await talk(port, GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"injected" not in answer


async def test_a_handler_that_breaks_is_an_internal_error(listen: Start) -> None:
    async def handle(request: Request) -> Response:
        raise RuntimeError("secret")

    port = await listen(handle)
    answer = await talk(port, GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer


async def test_nothing_that_comes_breaks_the_server(listen: Start) -> None:
    """Requests with bytes changed, cut off, doubled and moved, from a seed."""
    broken = 0

    async def handle(request: Request) -> Response:
        nonlocal broken
        try:
            assert request.path.isascii()
            return await echo(request)
        except BaseException:
            broken += 1
            raise

    port = await listen(handle, max_body=1000, patience=5.0)
    chance = random.Random(7)
    whole = (
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\nPUT /2 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"
    )
    for _ in range(400):
        text = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    text[at] = chance.randrange(256)
                case 1:
                    del text[at : at + chance.randint(1, 10)]
                case 2:
                    text[at:at] = text[at : at + chance.randint(1, 40)]
                case _:
                    text[at:at] = chance.randbytes(chance.randint(1, 10))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(text))
        writer.write_eof()
        try:
            answer = await asyncio.wait_for(reader.read(), DEADLINE)
        except ConnectionResetError:
            answer = b""
        writer.close()
        assert b"HTTP/1.1 500" not in answer, bytes(text)
    assert broken == 0
    assert (await talk(port, LAST)).startswith(b"HTTP/1.1 200 OK")
