"""Encryption in transit: asked for by the client (RFC 9289), or from the first byte."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection, Denied, u32

Connect = Callable[..., Connection]


@pytest.fixture
def trusting(door: Door) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=door.identity["certificate"])
    context.set_alpn_protocols(["sunrpc"])
    return context


def test_tls_starts_when_the_client_asks(connect: Connect, trusting: ssl.SSLContext) -> None:
    connection = connect()
    assert connection.start_tls(trusting) == "sunrpc"
    client = Client(connection, ("fs-1",))
    handle, state = client.open("sealed")
    data = os.urandom(1 << 20)
    client.ok(wire.putfh(handle), wire.write(state, 0, data))
    assert client.ok(wire.putfh(handle), wire.read(state, 0, 1 << 20))[-1] == (True, data)


def test_tls_from_the_first_byte(door: Door, connect: Connect, trusting: ssl.SSLContext) -> None:
    connection = connect()
    connection.wrap(trusting)
    client = Client(connection, ("fs-1",))
    handle, state = client.open("wrapped")
    client.ok(wire.putfh(handle), wire.write(state, 0, b"x" * 100_000))
    assert (door.backing / "wrapped").stat().st_size == 100_000


def test_many_requests_at_once_over_tls(connect: Connect, trusting: ssl.SSLContext) -> None:
    connection = connect()
    connection.start_tls(trusting)
    client = Client(connection, ("fs-1",))
    handle, state = client.open("crowd")
    client.ok(wire.putfh(handle), wire.write(state, 0, bytes(200_000)))
    sent = []
    for slot in range(1, 15):
        body = wire.opaque(b"test") + u32(1, 3) + wire.sequence(client.session, 1, slot)
        xid, record = connection.call_record(1, body + wire.putfh(handle) + wire.read(state, 0, 200_000))
        connection.send(record)
        sent.append(xid)
    answers = [connection.receive() for _ in sent]
    assert {int.from_bytes(answer[:4]) for answer in answers} == set(sent)
    assert {len(answer) for answer in answers} == {len(answers[0])}


def test_tls_does_not_start_twice(connect: Connect, trusting: ssl.SSLContext) -> None:
    connection = connect()
    connection.wrap(trusting)
    with pytest.raises(Denied):
        connection.start_tls(trusting)


def test_a_handshake_that_comes_byte_by_byte(door: Door, connect: Connect, trusting: ssl.SSLContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    bare = connect().socket
    bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            for byte in outgoing.read():
                bare.send(bytes([byte]))
            incoming.write(bare.recv(65_536))
    assert tls.version() == "TLSv1.3"


def test_what_is_no_handshake_ends(connect: Connect) -> None:
    bare = connect().socket
    bare.sendall(b"\x16\x03\x01\x00\x05hello")
    while bare.recv(65_536):
        pass


def test_a_policy_can_demand_it(door: Door, connect: Connect, trusting: ssl.SSLContext) -> None:
    """aws:SecureTransport."""
    door.export("fs-1", permissions={"denied": True}, secure_permissions={})
    try:
        plain = Client(connect(), ("fs-1",))
        assert plain.status(*plain.steps(), u32(wire.GETFH)) == wire.ACCES
        connection = connect()
        connection.start_tls(trusting)
        Client(connection, ("fs-1",)).open("demanded")
    finally:
        door.export("fs-1")
