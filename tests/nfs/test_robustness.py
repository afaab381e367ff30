"""What no client of good will sends, and clients that are slow."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection, Denied, opaque, sequence, u32

Connect = Callable[..., Connection]


def test_calls_that_are_none_of_ours(connect: Connect) -> None:
    connection = connect()
    connection.call(0, b"")
    connection.call(0, b"", u32(0, 0))
    for procedure, accepted in [(2, 3), (99, 3)]:
        with pytest.raises(Denied) as denied:
            connection.call(procedure, b"")
        assert denied.value.reason == (accepted,)
    with pytest.raises(Denied) as denied:
        connection.call(1, u32(0xFFFFFFFF))
    assert denied.value.reason == (4,)
    with pytest.raises(Denied) as denied:
        connection.call(1, b"", u32(6) + opaque(b"kerberos"))
    assert denied.value.reason[0] == 1
    xid, record = connection.call_record(0, b"")
    connection.send(record[:8] + u32(3) + record[12:])
    with pytest.raises(Denied):
        connection.answer(xid)


def test_records_in_pieces_and_many_at_once(client: Client) -> None:
    connection = client.connection
    sent = []
    stream = b""
    for slot in range(1, 9):
        body = opaque(b"test") + u32(1, 1) + sequence(client.session, 1, slot)
        xid, record = connection.call_record(1, body)
        sent.append(xid)
        cut = len(record) // 3
        stream += u32(cut) + record[:cut] + u32(0) + u32(len(record) - cut | 1 << 31) + record[cut:]
    for at in range(0, len(stream), 7):
        connection.socket.sendall(stream[at : at + 7])
    answered = {int.from_bytes(connection.receive()[:4]) for _ in sent}
    assert answered == set(sent), "in any order"


def test_a_record_too_long_closes_its_connection_and_no_other(client: Client, connect: Connect) -> None:
    connection = connect()
    connection.socket.sendall(u32(0x7FFFFFFF))
    with pytest.raises((EOFError, ConnectionError)):
        connection.receive()
    assert client.status() == wire.OK


def test_a_client_that_reads_no_answers_holds_nobody_else(client: Client, connect: Connect) -> None:
    handle, state = client.open("big")
    client.ok(wire.putfh(handle), wire.write(state, 0, bytes(1 << 20)))
    stuck = Client(connect(), ("fs-1",))
    stuck.connection.socket.settimeout(0.5)
    try:
        for slot in range(1, 16):
            body = opaque(b"test") + u32(1, 3) + sequence(stuck.session, 1, slot)
            _, record = stuck.connection.call_record(
                1, body + wire.putfh(handle) + wire.read(wire.ANONYMOUS, 0, 1 << 20)
            )
            stuck.connection.send(record)
    except TimeoutError:
        pass
    for _ in range(50):
        assert client.status(wire.putfh(handle), wire.read(state, 0, 4096)) == wire.OK


def test_idle_connections_are_kept(connect: Connect, client: Client) -> None:
    """A mount target's lifelines never speak."""
    lifelines = [connect() for _ in range(50)]
    assert client.status() == wire.OK
    for lifeline in lifelines:
        lifeline.call(0, b"")


def test_random_operations_neither_end_nor_hang_the_server(door: Door, connect: Connect) -> None:
    """Valid compounds with bytes changed, cut off and added; a healthy client looks in between."""
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    client = Client(connect(), ("fs-1",))
    handle, state = client.open("fuzzed")
    models = [
        wire.getattr_(*range(80)),
        wire.write(state, 5, b"data"),
        wire.read(state, 0, 100),
        wire.lock_new(2, 0, 10, state, b"owner"),
        wire.open_(b"o", "x", create=wire.unchecked(mode=0o600, size=1)),
        wire.readdir(0, *range(60)),
        wire.create(5, "link", link="to"),
        wire.setattr_(wire.ANONYMOUS, wire.attributes(mode=0o600, size=3, owner=b"0")),
        wire.exchange_id(b"other"),
        wire.create_session(1, 1),
        wire.rename("a", "b"),
        u32(wire.TEST_STATEID, 1) + state.encoded(),
        wire.lookup("name"),
    ]
    connection = connect()
    for round_ in range(1500):
        body = bytearray(b"".join(chance.sample(models, chance.randint(1, 3))))
        for _ in range(chance.randint(0, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if chance.random() < 0.2:
            del body[chance.randrange(len(body)) :]
        client.number += 1
        head = opaque(b"test") + u32(1, chance.choice((2, 3, 4, 5, 0xFFFFFFFF)))
        head += sequence(client.session, client.number) + wire.putfh(handle)
        xid, record = connection.call_record(1, head + bytes(body))
        try:
            connection.send(record)
            answer = connection.receive()
            assert answer[:4] == xid.to_bytes(4)
        except (EOFError, ConnectionError):
            connection = connect()
        if round_ % 100 == 0:
            client = Client(connect(), ("fs-1",))
            client.open("fuzzed")
    assert door.process.poll() is None
    assert Client(connect(), ("fs-1",)).status() == wire.OK


def test_noise_instead_of_rpc(door: Door, client: Client) -> None:
    for size in (1, 4, 100, 5000):
        with socket.create_connection(("127.0.0.1", door.port)) as noise:
            noise.sendall(os.urandom(size))
    assert client.status() == wire.OK
