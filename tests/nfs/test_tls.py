"""Encryption in transit: asked for by the client (RFC 9289), or from the first byte."""

from __future__ import annotations

import os
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
    connection = connect(port=door.wrapped.getsockname()[1])
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


def test_a_socket_without_a_certificate_says_so(
    door: Door, connect: Connect, trusting: ssl.SSLContext
) -> None:
    with pytest.raises(Denied):
        connect(port=door.alone.getsockname()[1]).start_tls(trusting)


def test_no_tls_where_it_is_due_is_no_connection(door: Door, connect: Connect) -> None:
    connection = connect(port=door.wrapped.getsockname()[1])
    with pytest.raises((EOFError, ConnectionError)):
        connection.call(0, b"")


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
