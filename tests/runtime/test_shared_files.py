"""Environments on one file system through the real file server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lambay.fsd import Fsd
from lambay.runtime import CreationInfo, EnvironmentSpec, FileSystemLost, FileSystemMount, PosixUser
from lambay.settings import Settings

from .arrange import Bench, build, invocation

SOURCE = """
    import errno, fcntl, os, time
    kept = []
    def handler(event, context):
        path = "/mnt/shared/" + event.get("name", "file")
        if event["do"] == "write":
            with open(path, "w") as file:
                file.write(event["text"])
            status = os.stat(path)
            return status.st_uid, status.st_gid
        if event["do"] == "read":
            return open(path).read()
        if event["do"] == "list":
            return sorted(os.listdir("/mnt/shared"))
        file = open(path, "a+")
        lock = fcntl.lockf if event["do"] == "fcntl" else fcntl.flock
        try:
            lock(file, fcntl.LOCK_EX | (0 if event.get("hold") else fcntl.LOCK_NB))
        except OSError as error:
            return errno.errorcode[error.errno]
        if event.get("keep"):
            kept.append(file)
        time.sleep(event.get("hold", 0))
        return "locked"
"""


class Shared:
    def __init__(self, bench: Bench, fsd: Fsd) -> None:
        self.bench = bench
        self.fsd = fsd
        self.backing = bench.directory / "fs-1"
        self.backing.mkdir()
        self.backing.chmod(0o777)

    def function(self, **mount: object) -> EnvironmentSpec:
        file_system = FileSystemMount("fs-1", "/mnt/shared", backing=self.backing)
        return replace(self.bench.function(SOURCE), file_system=replace(file_system, **mount))


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    settings = Settings(data_dir=tmp_path / "data")
    fsd = Fsd(settings)
    await fsd.start()
    bench = await build(tmp_path, file_server=fsd)
    yield Shared(bench, fsd)
    await bench.fleet.stop()
    await fsd.stop()


async def test_a_write_by_one_is_read_by_the_other_at_once(shared: Shared) -> None:
    first, second = shared.function(), shared.function()
    await shared.bench.answer(second, {"do": "list"})

    for text in ("one", "two", "three"):
        await shared.bench.answer(first, {"do": "write", "text": text})
        assert await shared.bench.answer(second, {"do": "read"}) == text


async def test_files_belong_to_the_access_points_user(shared: Shared) -> None:
    user = PosixUser(1234, 4321)
    spec = shared.function(root="/a/b", create=CreationInfo(1234, 4321, 0o750), posix=user)
    plain = shared.function()

    seen = await shared.bench.answer(spec, {"do": "write", "text": "x"})
    await shared.bench.answer(plain, {"do": "write", "text": "x", "name": "plain"})

    assert seen == [1234, 4321]
    owner = os.stat(shared.backing / "a/b/file")
    assert (owner.st_uid, owner.st_gid) == (1234, 4321)
    anonymous = os.stat(shared.backing / "plain")
    assert (anonymous.st_uid, anonymous.st_gid) == (65534, 65534)


async def test_a_read_only_mount_refuses_writes(shared: Shared) -> None:
    (shared.backing / "file").write_text("there")
    spec = shared.function(read_only=True)

    assert await shared.bench.answer(spec, {"do": "read"}) == "there"
    refused = await shared.bench.invoke(spec, {"do": "write", "text": "x"})

    assert refused.error == "Unhandled"
    assert b"Read-only file system" in refused.payload


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
async def test_locks_exclude_each_other_and_end_with_their_environment(shared: Shared, kind: str) -> None:
    first, second = shared.function(), shared.function()
    second_event = {"do": kind}
    assert await shared.bench.answer(second, second_event) == "locked"
    environment = await shared.bench.fleet.acquire(first)
    holding = asyncio.create_task(
        shared.bench.fleet.invoke(environment, invocation(first, {"do": kind, "hold": 60}))
    )
    await _until_locked(shared.backing / "file", shared, second, second_event)

    shared.bench.fleet.release(environment)
    await shared.bench.fleet.drain(first.key)
    await environment.end()

    await holding
    assert await shared.bench.answer(second, second_event) == "locked"


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
async def test_a_frozen_environment_keeps_its_lock_until_it_ends(shared: Shared, kind: str) -> None:
    first, second = shared.function(), shared.function()
    environment = await shared.bench.fleet.acquire(first)
    await shared.bench.fleet.invoke(environment, invocation(first, {"do": kind, "keep": True}))
    shared.bench.fleet.release(environment)
    for _ in range(600):
        if environment.state == "frozen":
            break
        await asyncio.sleep(0.1)

    held = await shared.bench.answer(second, {"do": kind})
    state = environment.state
    await shared.bench.fleet.drain(first.key)

    assert (state, held) == ("frozen", "EAGAIN")
    assert await shared.bench.answer(second, {"do": kind}) == "locked"


async def test_a_dead_file_server_fails_the_invocation_and_not_the_next(shared: Shared) -> None:
    spec = shared.function()
    environment = await shared.bench.fleet.acquire(spec)
    running = asyncio.create_task(
        shared.bench.fleet.invoke(environment, invocation(spec, {"do": "flock", "hold": 60}))
    )
    await asyncio.sleep(0.2)

    hello = shared.fsd.running
    assert hello is not None
    os.kill(hello.pid, 9)

    with pytest.raises(FileSystemLost):
        await running
    shared.bench.fleet.release(environment)
    assert await shared.bench.answer(spec, {"do": "write", "text": "again"}) == [65534, 65534]


async def _until_locked(path: Path, shared: Shared, spec: EnvironmentSpec, event: dict[str, str]) -> None:
    for _ in range(100):
        if await shared.bench.answer(spec, event) == "EAGAIN":
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{path} was never locked: {await shared.bench.answer(spec, event)}")
