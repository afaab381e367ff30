"""POSIX behaviour, with the file system beneath as the oracle."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from .actor import Actor
from .conftest import Hire, Server, Volume, every_way
from .fsx import File
from .oracle import compare, world

UID, GID, GROUP = 1234, 1234, 4321
KEEP_SIZE = 1


def plain_directory(scratch: Path) -> Path:
    plain = scratch / "plain"
    plain.mkdir()
    return plain


def run_oracle(
    fsd: Server, volume: Volume, scratch: Path, actor: Hire, rng: random.Random, mounts: int, steps: int
) -> None:
    """The plain side acts as that user itself; on the mounts the access point's identity makes it so."""
    plain = plain_directory(scratch)
    for root in (plain, volume.backing):
        os.chown(root, UID, GID)
        root.chmod(0o755)
    here = [fsd.mount(volume, uid=UID, gid=GID, gids=(GROUP,)).path for _ in range(mounts)]
    actors: list[Actor] = [actor(UID, GID, (GROUP,)) for _ in here]
    compare(
        rng,
        world(actors, here),
        world([actor(UID, GID, (GROUP,))], [plain]),
        steps=steps,
        gids=[GID, GROUP, 99],
    )


@every_way
@pytest.mark.parametrize("mounts", [1, 3])
def test_random_operations_do_what_ext4_does(
    fsd: Server, volume: Volume, scratch: Path, actor: Hire, rng: random.Random, mounts: int
) -> None:
    run_oracle(fsd, volume, scratch, actor, rng, mounts, steps=800)


@every_way
@pytest.mark.soak
@pytest.mark.parametrize("mounts", [1, 4])
def test_random_operations_at_length(
    fsd: Server, volume: Volume, scratch: Path, actor: Hire, rng: random.Random, mounts: int
) -> None:
    run_oracle(fsd, volume, scratch, actor, rng, mounts, steps=20_000)


def run_fsx(fsd: Server, volume: Volume, actor: Hire, rng: random.Random, mounts: int, steps: int) -> None:
    here = [fsd.mount(volume, uid=UID).path / "file" for _ in range(mounts)]
    file = File(rng, [actor() for _ in here], here)
    for step in range(steps):
        file.step()
        if step % 100 == 99:
            file.check()
    file.check()
    assert (volume.backing / "file").read_bytes() == file.content


@every_way
@pytest.mark.parametrize("mounts", [1, 3])
def test_file_data_is_what_was_written(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random, mounts: int
) -> None:
    run_fsx(fsd, volume, actor, rng, mounts, steps=600)


@every_way
@pytest.mark.soak
def test_file_data_at_length(fsd: Server, volume: Volume, actor: Hire, rng: random.Random) -> None:
    run_fsx(fsd, volume, actor, rng, mounts=3, steps=20_000)


@every_way
def test_an_unlinked_file_lives_until_its_last_close(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, other = fsd.mount(volume), fsd.mount(volume)
    a, b = actor(), actor()
    fd = a("open_here", str(mount.path / "f"), os.O_RDWR | os.O_CREAT)
    a("os.write", fd, b"still here")
    b("os.unlink", str(other.path / "f"))
    assert a("os.fstat", fd).st_nlink == 0
    assert a("os.pread", fd, 100, 0) == b"still here"
    a("os.ftruncate", fd, 5)
    assert a("os.fstat", fd).st_size == 5
    assert a.errno("os.stat", str(mount.path / "f")) == "ENOENT"


@every_way
def test_a_file_open_for_reading_does_all_that_reading_may(fsd: Server, volume: Volume, actor: Hire) -> None:
    (mine, owners), a, owner = (fsd.mount(volume, uid=uid).path for uid in (1001, 0)), actor(), actor()
    content = os.urandom(300_000)
    owner("write_file", f"{owners}/f", content)
    owner("os.chmod", f"{owners}/f", 0o644)
    owner("os.chmod", owners.as_posix(), 0o777)
    assert a("read_file", f"{mine}/f") == content
    fd = a("open_here", f"{mine}/f", os.O_RDONLY)
    owner("os.chmod", f"{owners}/f", 0o600)
    assert a.errno("open_here", f"{mine}/f", os.O_RDONLY) == "EACCES"
    owner("os.unlink", f"{owners}/f")
    assert a("os.pread", fd, 400_000, 0) == content
    assert a("os.lseek", fd, 0, os.SEEK_HOLE) == len(content)
    a("os.fsync", fd)
    copy = a("open_here", f"{mine}/copy", os.O_RDWR | os.O_CREAT)
    assert a("os.copy_file_range", fd, copy, 1000, 0, 0) == 1000
    assert a("os.pread", copy, 2000, 0) == content[:1000]
    assert a.errno("os.pwrite", fd, b"x", 0) == "EBADF"
    a("os.close", fd)


def test_a_rename_replaces_an_open_file(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("write_file", f"{mount}/old", b"old")
    a("write_file", f"{mount}/new", b"new")
    fd = a("open_here", f"{mount}/old", os.O_RDONLY)
    a("os.rename", f"{mount}/new", f"{mount}/old")
    assert a("os.pread", fd, 10, 0) == b"old"
    assert a("read_file", f"{mount}/old") == b"new"


def test_appends_from_several_mounts_are_never_torn_or_lost(fsd: Server, volume: Volume, actor: Hire) -> None:
    mounts = [fsd.mount(volume).path for _ in range(3)]
    actors = [actor() for _ in mounts]
    actors[0]("write_file", f"{mounts[0]}/log", b"")
    begun = [
        each.begin("append_records", f"{mount}/log", number, 500)
        for number, (each, mount) in enumerate(zip(actors, mounts, strict=True))
    ]
    for pending in begun:
        pending.result()
    content = actors[0]("read_file", f"{mounts[0]}/log")
    records = [
        (content[n], int.from_bytes(content[n + 4 : n + 8], "little")) for n in range(0, len(content), 8)
    ]
    for number in range(3):
        assert [record for who, record in records if who == number] == list(range(500))


def test_times_are_kept_to_the_nanosecond(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("write_file", f"{mount}/f", b"")
    a("set_times", f"{mount}/f".encode(), 1_111_111_111_123_456_789, 1_222_222_222_987_654_321)
    assert a("statx_times", f"{mount}/f")[:2] == (1_111_111_111_123_456_789, 1_222_222_222_987_654_321)
    before = a("statx_times", f"{mount}/f")[2]
    a("os.chmod", f"{mount}/f", 0o600)
    assert a("statx_times", f"{mount}/f")[2] > before


def test_a_sparse_file_stays_sparse(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    fd = a("open_here", f"{mount}/f", os.O_RDWR | os.O_CREAT)
    a("os.pwrite", fd, b"x" * 4096, 1 << 30)
    assert a("os.fstat", fd).st_blocks * 512 < 1 << 20
    assert a("os.lseek", fd, 0, os.SEEK_DATA) == 1 << 30
    assert a("os.lseek", fd, 1 << 30, os.SEEK_HOLE) == (1 << 30) + 4096
    a("fallocate", fd, KEEP_SIZE, 0, 1 << 20)
    assert a("os.fstat", fd).st_blocks * 512 >= 1 << 20


def test_a_large_directory_lists_every_name_once_while_it_changes(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    mounts = [fsd.mount(volume).path for _ in range(2)]
    a, b = actor(), actor()
    a("os.mkdir", f"{mounts[0]}/many")
    a("fill_directory", f"{mounts[0]}/many", 0, 2000)
    filling = b.begin("fill_directory", f"{mounts[1]}/many", 2000, 3000)
    while not filling.done:
        names = a("os.listdir", f"{mounts[0]}/many")
        assert len(names) == len(set(names))
        assert sum(name < "f0002000" for name in names) == 2000
    filling.result()
    assert len(a("os.listdir", f"{mounts[0]}/many")) == 3000


def test_many_small_files_are_all_known_again(fsd: Server, volume: Volume, actor: Hire) -> None:
    """More files than descriptors: what fsd remembers of a file must not hold it open."""
    mount, a = fsd.mount(volume).path, actor()
    for number in range(3):
        directory = volume.backing / f"d{number}"
        directory.mkdir()
        for name in range(2_000):
            os.close(os.open(directory / f"f{name:05d}", os.O_CREAT | os.O_WRONLY, 0o644))
    assert a("stat_tree", str(mount)) == 6_003
    assert len(os.listdir(f"/proc/{fsd.process.pid}/fd")) < 5_500
    assert a("stat_tree", str(mount)) == 6_003


def test_a_directory_is_its_mounts_root(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    assert a("os.stat", f"{mount}/.").st_ino == a("os.stat", str(mount)).st_ino
    a("os.makedirs", f"{mount}/a/b/c")
    assert a("os.stat", f"{mount}/a/b/c/../..").st_ino == a("os.stat", f"{mount}/a").st_ino


def test_statfs_shows_what_efs_shows(fsd: Server, volume: Volume, actor: Hire) -> None:
    """8 EiB, whatever the disk beneath has. https://docs.aws.amazon.com/efs/latest/ug/metered-sizes.html"""
    mount, a = fsd.mount(volume).path, actor()
    found = a("os.statvfs", str(mount))
    assert found.f_blocks * found.f_frsize == 1 << 63 or found.f_blocks * found.f_frsize == (1 << 63) - (
        1 << 20
    )
    assert found.f_namemax == 255


def test_a_fifo_and_a_socket_work_between_mounts_processes(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount = fsd.mount(volume).path
    a, b = actor(), actor()
    a("os.mkfifo", f"{mount}/fifo")
    reading = a.begin("read_file", f"{mount}/fifo")
    b("write_file", f"{mount}/fifo", b"through the pipe")
    assert reading.result() == b"through the pipe"
    a("make_socket", f"{mount}/socket")
    assert b("lstat_path", f"{mount}/socket".encode())[0].startswith("0o14")


@every_way
def test_a_program_can_be_executed_and_mapped(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("write_file", f"{mount}/run", b"#!/bin/sh\nexit 42\n")
    a("os.chmod", f"{mount}/run", 0o755)
    assert a("os.spawnv", os.P_WAIT, f"{mount}/run", ["run"]) == 42
    a("write_file", f"{mount}/model", bytes(range(256)) * 4096)
    fd = a("open_here", f"{mount}/model", os.O_RDONLY)
    assert a("map_private", fd, 1 << 20) == bytes(range(256)) * 4096
