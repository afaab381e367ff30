"""Connections that somebody else accepted, and exports that no directory lists."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection, u32


@pytest.fixture
def handed_over(door: Door) -> Iterator[Client]:
    """A client whose connection fsd was given; it sees an export that is for it alone."""
    door.export("fs-1@vpc-1", listed=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(listening.getsockname()[1])
        accepted, _ = listening.accept()
    with accepted:
        door.call("nfs.serve", accepted.fileno(), state=door.state, export="fs-1@vpc-1")
    yield Client(connection)
    connection.close()


def test_a_connection_is_served_with_its_export_as_root(
    door: Door, handed_over: Client, client: Client
) -> None:
    (door.backing / "shared").write_text("the same file")

    handle = handed_over.handle("shared")
    found = handed_over.ok(wire.putfh(handle), wire.read(wire.ANONYMOUS, 0, 100))[-1]

    assert found == (True, b"the same file")
    assert client.handle("shared")


def test_an_export_that_is_not_listed_is_out_of_reach_for_others(client: Client, handed_over: Client) -> None:
    own = handed_over.handle()
    root = u32(wire.PUTROOTFH)

    names = [name for _, name, _ in client.ok(root, wire.readdir(0, 1))[-1][0]]

    assert b"fs-1" in names
    assert b"fs-1@vpc-1" not in names
    assert client.status(root, wire.lookup("fs-1@vpc-1")) == wire.NOENT
    assert client.status(wire.putfh(own)) == wire.STALE


def test_a_connection_ends_for_all_when_it_is_shut_down(
    door: Door, connect: Callable[..., Connection]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(listening.getsockname()[1])
        accepted, _ = listening.accept()
    with accepted:
        door.call("nfs.serve", accepted.fileno(), state=door.state, export="fs-1")
        Client(connection)

        accepted.shutdown(socket.SHUT_RDWR)

        assert connection.socket.recv(1) == b""
    connection.close()
