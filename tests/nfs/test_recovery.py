"""fsd dies at any moment; clients go on."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import wire
from .conftest import Door
from .wire import EVERYTHING, WRITE_LOCK, Client, Connection, u32

Connect = Callable[..., Connection]


@pytest.fixture
def door() -> Iterator[Door]:
    """One of its own: it is killed."""
    with tempfile.TemporaryDirectory() as directory:
        door = Door(Path(directory))
        yield door
        door.stop()


def reclaim(client: Client, connection: Connection) -> None:
    client.connection = connection
    client.reclaims = True
    client.begin()


PREVIOUS = u32(1, 0)


def test_open_files_and_locks_are_reclaimed_and_nobody_comes_between(door: Door, connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    handle, opened = client.open("kept")
    client.ok(wire.putfh(handle), wire.write(opened, 0, b"before"))
    client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, EVERYTHING, opened, b"o"))

    door.kill()

    thief = Client(connect(), ("fs-1",))
    opening = wire.open_(b"thief", "kept")
    assert thief.status(*thief.steps(), opening) == wire.GRACE
    reclaim(client, connect())
    *_, again = client.ok(wire.putfh(handle), wire.open_(b"owner", claim=PREVIOUS))
    (_, locked) = client.ok(
        wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, EVERYTHING, again["state"], b"o", reclaim=True)
    )
    assert thief.status(*thief.steps(), opening) == wire.GRACE
    client.reclaim_complete()
    *_, theirs = thief.ok(*thief.steps(), opening)
    wish = wire.lock_new(WRITE_LOCK, 0, 1, theirs["state"], b"o")
    assert thief.status(wire.putfh(handle), wish) == wire.DENIED
    assert client.ok(wire.putfh(handle), wire.read(locked, 0, 99))[-1] == (True, b"before")


def test_who_held_nothing_reclaims_nothing(door: Door, connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    handle, _ = client.open("held")
    door.kill()
    stranger = Client(connect(), ("fs-1",), reclaims=True)
    claim = wire.open_(b"owner", claim=PREVIOUS)
    assert stranger.status(wire.putfh(handle), claim) == 10034
    reclaim(client, connect())
    client.ok(wire.putfh(handle), claim)
    client.reclaim_complete()
    assert client.status(wire.putfh(handle), claim) == wire.NO_GRACE


def test_a_stateid_and_a_session_of_before_are_worth_nothing(door: Door, connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    handle, opened = client.open("stale")
    door.kill()
    client.connection = connect()
    assert client.status(wire.putfh(handle)) == wire.BADSESSION
    reclaim(client, connect())
    assert client.status(wire.putfh(handle), wire.write(opened, 0, b"x")) == wire.BAD_STATEID


def test_without_clients_there_is_no_grace_period(door: Door, connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    client.open("gone")
    run = client.connection.compound
    assert run(u32(wire.DESTROY_SESSION) + client.session)[0] == wire.OK
    Client(connect(), ("fs-1",), owner=client.owner, verifier=b"2nd life")
    again = Client(connect(), ("fs-1",), owner=client.owner, verifier=b"3rd life")
    assert run(u32(wire.DESTROY_SESSION) + again.session)[0] == wire.OK
    assert run(u32(wire.DESTROY_CLIENTID) + wire.u64(again.id))[0] == wire.OK
    door.kill()
    Client(connect(), ("fs-1",)).open("at once")


def test_a_write_that_kill_9_interrupts_is_written_in_the_end(door: Door, connect: Connect) -> None:
    """As a hard mount does it: what was not committed under this verifier is sent again."""
    client = Client(connect(), ("fs-1",))
    handle, state = client.open("survivor")
    blocks = [os.urandom(64 << 10) for _ in range(64)]
    killed = threading.Thread(target=door.kill)
    verifiers: list[bytes] = []
    at = 0
    while at < len(blocks) or len(set(verifiers)) > 1:
        if at == len(blocks):
            verifiers, at = verifiers[-1:], 0
        if at == 20 and not killed.ident:
            killed.start()
        try:
            _, (size, _, verifier) = client.ok(wire.putfh(handle), wire.write(state, at << 16, blocks[at]))
            assert size == len(blocks[at])
            verifiers.append(verifier)
            at += 1
        except (OSError, EOFError):
            killed.join()
            reclaim(client, connect())
            *_, opened = client.ok(wire.putfh(handle), wire.open_(b"owner", claim=PREVIOUS))
            client.reclaim_complete()
            state = opened["state"]
    if killed.ident:
        killed.join()
    assert (door.backing / "survivor").read_bytes() == b"".join(blocks)
