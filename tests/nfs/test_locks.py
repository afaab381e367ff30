"""Byte-range locks and flock, among NFS clients and with functions' mounts."""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import wire
from .conftest import Door
from .wire import EVERYTHING, READ_LOCK, WRITE_LOCK, Client, Connection

Connect = Callable[..., Connection]


@pytest.fixture
def mountpoint(door: Door) -> Iterator[Path]:
    """The file system as a function has it."""
    with tempfile.TemporaryDirectory() as directory:
        root = {"uid": 0, "gid": 0, "gids": []}
        door.call("mount", mount="function", volume="fs-1", mountpoint=directory, posix=root)
        yield Path(directory)
        door.call("unmount", mount="function")


def test_ranges_conflict_by_owner_and_tell_whom_they_conflict_with(client: Client) -> None:
    handle, opened = client.open("ranges")
    (_, first) = client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 100, 50, opened, b"one"))
    status, found = client.run(wire.putfh(handle), wire.lock_new(READ_LOCK, 149, 1, opened, b"two"))
    assert status == wire.DENIED
    assert found[-1].value == (100, 50, WRITE_LOCK, client.id, b"one")
    client.ok(wire.putfh(handle), wire.lock_new(READ_LOCK, 150, EVERYTHING, opened, b"two"))
    assert client.status(wire.putfh(handle), wire.lock_test(WRITE_LOCK, 0, 101, b"three")) == wire.DENIED
    assert client.status(wire.putfh(handle), wire.lock_test(WRITE_LOCK, 0, 100, b"three")) == wire.OK
    (_, shrunk) = client.ok(wire.putfh(handle), wire.unlock(first, 100, 10))
    assert (shrunk.other, shrunk.seqid) == (first.other, first.seqid + 1)
    client.ok(wire.putfh(handle), wire.lock_test(WRITE_LOCK, 0, 110, b"three"))
    client.ok(wire.putfh(handle), wire.lock_more(WRITE_LOCK, 0, 20, shrunk))
    assert client.status(wire.putfh(handle), wire.lock_more(WRITE_LOCK, 0, 20, first)) == wire.OLD_STATEID


def test_ranges_that_are_none(client: Client) -> None:
    handle, opened = client.open("none")
    for offset, length in [(0, 0), (EVERYTHING - 5, 10)]:
        lock = wire.lock_new(WRITE_LOCK, offset, length, opened, b"o")
        assert client.status(wire.putfh(handle), lock) == wire.INVAL


def test_a_lock_needs_the_file_open_for_what_it_is(client: Client) -> None:
    handle, reading = client.open("modes", access=1)
    exclusive = wire.lock_new(WRITE_LOCK, 0, 1, reading, b"o")
    assert client.status(wire.putfh(handle), exclusive) == wire.OPENMODE
    client.ok(wire.putfh(handle), wire.lock_new(READ_LOCK, 0, 1, reading, b"o"))


def test_closing_gives_the_locks_back(client: Client, connect: Connect) -> None:
    handle, opened = client.open("closed")
    client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, EVERYTHING, opened, b"o"))
    other = Client(connect(), ("fs-1",))
    _, theirs = other.open("closed")
    wish = wire.lock_new(WRITE_LOCK, 0, 1, theirs, b"o")
    assert other.status(wire.putfh(handle), wish) == wire.DENIED
    client.ok(wire.putfh(handle), wire.close(opened))
    other.ok(wire.putfh(handle), wish)


def test_a_client_that_ends_gives_its_locks_back(client: Client, connect: Connect) -> None:
    handle, opened = client.open("ended")
    client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, EVERYTHING, opened, b"o"))
    Client(connect(), ("fs-1",), owner=client.owner, verifier=b"2nd life")
    other = Client(connect(), ("fs-1",))
    _, theirs = other.open("ended")
    other.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 0, 1, theirs, b"o"))


def test_a_lock_excludes_a_functions_lock_and_the_other_way_round(client: Client, mountpoint: Path) -> None:
    handle, opened = client.open("shared")
    (_, state) = client.ok(wire.putfh(handle), wire.lock_new(WRITE_LOCK, 10, 10, opened, b"o"))
    with (mountpoint / "shared").open("r+b") as file:
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 19)
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 10, 10, 0)
        client.ok(wire.putfh(handle), wire.unlock(state, 0, EVERYTHING))
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)
        wish = wire.lock_new(READ_LOCK, 4, 1, opened, b"o")
        assert client.status(wire.putfh(handle), wish) == wire.DENIED
        client.ok(wire.putfh(handle), wire.lock_new(READ_LOCK, 5, 1, opened, b"o"))


def test_a_lock_of_the_whole_file_is_a_flock_as_well(client: Client, mountpoint: Path) -> None:
    """A client's kernel sends flock(2) as a lock of everything."""
    handle, opened = client.open("whole")
    whole = wire.lock_new(WRITE_LOCK, 0, EVERYTHING, opened, b"o")
    (_, state) = client.ok(wire.putfh(handle), whole)
    with (mountpoint / "whole").open("r+b") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        client.ok(wire.putfh(handle), wire.unlock(state, 0, EVERYTHING))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert client.status(wire.putfh(handle), whole) == wire.DENIED
        fcntl.flock(file, fcntl.LOCK_UN)
    client.ok(wire.putfh(handle), whole)


def test_what_a_client_changes_a_function_sees_at_once(client: Client, mountpoint: Path) -> None:
    handle, state = client.open("seen")
    watched = mountpoint / "seen"
    assert watched.stat().st_size == 0
    with watched.open("rb") as file:
        client.ok(wire.putfh(handle), wire.write(state, 0, b"one"))
        assert watched.stat().st_size == 3
        assert os.pread(file.fileno(), 10, 0) == b"one"
        client.ok(wire.putfh(handle), wire.write(state, 0, b"two!"))
        assert os.pread(file.fileno(), 10, 0) == b"two!"
    assert not (mountpoint / "later").exists()
    client.ok(*client.steps(), wire.create(2, "later"))
    assert (mountpoint / "later").is_dir()
    client.ok(*client.steps(), wire.u32(wire.SAVEFH), *client.steps(), wire.rename("later", "renamed"))
    assert not (mountpoint / "later").exists()
    assert (mountpoint / "renamed").is_dir()
    client.ok(*client.steps(), wire.remove("renamed"))
    assert not (mountpoint / "renamed").exists()
    client.ok(wire.putfh(handle), wire.setattr_(wire.ANONYMOUS, wire.attributes(mode=0o600)))
    assert watched.stat().st_mode & 0o777 == 0o600
    watched.write_bytes(b"by the function")
    assert client.ok(wire.putfh(handle), wire.read(state, 0, 99))[-1] == (True, b"by the function")
