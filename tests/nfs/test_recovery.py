"""fsd dies at any moment; clients go on."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

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


@pytest.fixture
def mountpoint(door: Door) -> Iterator[Path]:
    """Where a function has the file system, once `mounted`; a restart ends its mount."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
        subprocess.run(["umount", "-l", directory], check=False, capture_output=True)


def mounted(door: Door, mountpoint: Path) -> Path:
    root = {"uid": 0, "gid": 0, "gids": []}
    door.call("mount", mount="function", volume="fs-1", mountpoint=str(mountpoint), posix=root)
    return mountpoint


def locked(client: Client, name: str) -> tuple[bytes, wire.StateId, wire.StateId]:
    """A file of that name, its open state and a lock of all of it."""
    handle, opened = client.open(name)
    (_, held) = client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, EVERYTHING, opened, b"o"))
    return handle, opened, held


def reclaim_lock(client: Client, handle: bytes) -> wire.StateId:
    *_, again = client.ok(wire.putfh(handle), wire.open_(b"owner", claim=PREVIOUS))
    wish = wire.lock_new(WRITE_LOCK, 0, EVERYTHING, again["state"], b"o", reclaim=True)
    (_, held) = client.ok(wire.putfh(handle), wish)
    state: wire.StateId = held
    return state


EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB


def refused(file: BinaryIO) -> bool:
    """Whether a function gets neither kind of lock of the file at once."""
    for take in (fcntl.flock, fcntl.lockf):
        try:
            take(file, EXCLUSIVE)
        except BlockingIOError:
            continue
        take(file, fcntl.LOCK_UN)
        return False
    return True


def test_a_function_gets_no_lock_before_a_client_had_time_to_reclaim_its_own(
    door: Door, connect: Connect, mountpoint: Path
) -> None:
    client = Client(connect(), ("fs-1",))
    handle, _, _ = locked(client, "held")
    door.kill()
    with (mounted(door, mountpoint) / "held").open("r+b") as file:
        assert refused(file)
        asked = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 7, 1, 0))
        assert struct.unpack("hhqqi4x", asked) == (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        reclaim(client, connect())
        assert refused(file)
        held = reclaim_lock(client, handle)
        assert refused(file)
        client.reclaim_complete()
        assert refused(file), "it is the client's"
        client.ok(wire.putfh(handle), wire.unlock(held, 0, EVERYTHING))
        assert not refused(file)


def test_a_function_that_waits_is_served_when_the_clients_have_what_was_theirs(
    door: Door, connect: Connect, mountpoint: Path
) -> None:
    client = Client(connect(), ("fs-1",))
    held, _, _ = locked(client, "held")
    locked(client, "given up")
    door.kill()
    directory = mounted(door, mountpoint)
    with (directory / "held").open("r+b") as theirs, (directory / "given up").open("r+b") as free:
        granted = threading.Event()

        def wait() -> None:
            fcntl.flock(free, fcntl.LOCK_EX)
            granted.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        while door.call("stats")["volumes"]["fs-1"]["lock_waiters"] < 1:
            assert waiting.is_alive(), "it was let in"
        reclaim(client, connect())
        reclaim_lock(client, held)
        assert not granted.is_set()
        client.reclaim_complete()
        waiting.join(wire.DEADLINE)
        assert granted.is_set()
        assert refused(theirs)


@pytest.mark.parametrize("had", ["no client", "no lock", "lock of an earlier life", "elsewhere"])
def test_without_clients_that_held_locks_no_function_waits(
    door: Door, connect: Connect, mountpoint: Path, had: str
) -> None:
    (door.backing / "file").touch()
    if had != "no client":
        client = Client(connect(), ("fs-1",))
        handle, opened = client.open("file")
    if had == "lock of an earlier life":
        client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, 9, opened, b"o"))
        Client(connect(), ("fs-1",), owner=client.owner, verifier=b"2nd life")
    if had == "elsewhere":
        door.offer_another()
        locked(Client(connect(), ("fs-2",)), "file")
    door.kill()
    with (mounted(door, mountpoint) / "file").open("r+b") as file:
        assert not refused(file)


def test_a_second_restart_before_anything_was_reclaimed_changes_nothing(
    door: Door, connect: Connect, mountpoint: Path
) -> None:
    client = Client(connect(), ("fs-1",))
    handle, _, _ = locked(client, "held")
    door.kill()
    reclaim(client, connect())
    door.kill()
    with (mounted(door, mountpoint) / "held").open("r+b") as file:
        assert refused(file)
        reclaim(client, connect())
        held = reclaim_lock(client, handle)
        client.reclaim_complete()
        assert refused(file)
        client.ok(wire.putfh(handle), wire.unlock(held, 0, EVERYTHING))
        assert not refused(file)
