"""What one mount has done every other mount sees at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from .actor import Actor
from .conftest import Hire, Server, Volume, every_way


@pytest.fixture
def two(fsd: Server, volume: Volume, actor: Hire) -> tuple[Actor, Path, Actor, Path]:
    return actor(), fsd.mount(volume).path, actor(), fsd.mount(volume).path


Two = tuple[Actor, Path, Actor, Path]


@every_way
def test_a_new_name_is_seen_also_where_it_was_missed_before(two: Two) -> None:
    a, here, b, there = two
    for number in range(50):
        assert b.errno("os.stat", f"{there}/f{number}") == "ENOENT"
        a("write_file", f"{here}/f{number}", b"x")
        assert b("os.stat", f"{there}/f{number}").st_size == 1
        assert len(b("os.listdir", str(there))) == number + 1


def test_a_removed_name_is_gone_at_once(two: Two) -> None:
    a, here, b, there = two
    for _ in range(50):
        a("write_file", f"{here}/f", b"x")
        assert b("read_file", f"{there}/f") == b"x"
        a("os.unlink", f"{here}/f")
        assert b.errno("read_file", f"{there}/f") == "ENOENT"
        assert b("os.listdir", str(there)) == []


def test_a_name_given_to_another_file_means_that_file(two: Two) -> None:
    a, here, b, there = two
    for number in range(50):
        a("write_file", f"{here}/new", str(number).encode())
        a("os.rename", f"{here}/new", f"{here}/f")
        assert b("read_file", f"{there}/f") == str(number).encode()


def test_a_directory_becomes_a_file_becomes_a_link(two: Two) -> None:
    a, here, b, there = two
    for _ in range(20):
        a("os.mkdir", f"{here}/x")
        assert b("os.listdir", f"{there}/x") == []
        a("os.rmdir", f"{here}/x")
        a("write_file", f"{here}/x", b"file")
        assert b("read_file", f"{there}/x") == b"file"
        a("os.unlink", f"{here}/x")
        a("os.symlink", "nowhere", f"{here}/x")
        assert b("os.readlink", f"{there}/x") == "nowhere"
        a("os.unlink", f"{here}/x")


@every_way
def test_attributes_are_seen_at_once(two: Two) -> None:
    a, here, b, there = two
    a("write_file", f"{here}/f", b"")
    for mode in (0o600, 0o644, 0o755) * 10:
        a("os.chmod", f"{here}/f", mode)
        assert b("os.stat", f"{there}/f").st_mode & 0o777 == mode
    for size in (0, 1, 100_000, 5) * 5:
        a("os.truncate", f"{here}/f", size)
        assert b("os.stat", f"{there}/f").st_size == size
    a("os.link", f"{here}/f", f"{here}/g")
    assert b("os.stat", f"{there}/f").st_nlink == 2
    a("os.mkdir", f"{here}/d")
    assert b("os.stat", str(there)).st_nlink == a("os.stat", str(here)).st_nlink


@every_way
def test_data_is_seen_by_files_that_are_already_open(two: Two) -> None:
    a, here, b, there = two
    fa = a("open_here", f"{here}/f", os.O_RDWR | os.O_CREAT)
    fb = b("open_here", f"{there}/f", os.O_RDWR)
    for number in range(100):
        content = number.to_bytes(4, "little") * 1024
        writer, fw, reader, fr = (a, fa, b, fb) if number % 2 else (b, fb, a, fa)
        writer("os.pwrite", fw, content, 0)
        assert reader("os.pread", fr, 4096, 0) == content
    a("os.ftruncate", fa, 10)
    assert b("os.fstat", fb).st_size == 10
    assert len(b("os.pread", fb, 4096, 0)) == 10
    a("os.pwrite", fa, b"end", 5000)
    assert b("os.pread", fb, 10_000, 0) == (content[:10] + bytes(4990) + b"end")


@every_way
def test_data_is_seen_in_both_directions_within_one_mount(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount = fsd.mount(volume).path
    a, b = actor(), actor()
    fa = a("open_here", f"{mount}/f", os.O_RDWR | os.O_CREAT)
    fb = b("open_here", f"{mount}/f", os.O_RDWR)
    a("os.pwrite", fa, b"first", 0)
    assert b("os.pread", fb, 5, 0) == b"first"
    b("os.pwrite", fb, b"FI", 0)
    assert a("os.pread", fa, 5, 0) == b"FIrst"


@every_way
def test_a_shared_map_sees_the_writes_of_others(two: Two) -> None:
    a, here, b, there = two
    fa = a("open_here", f"{here}/f", os.O_RDWR | os.O_CREAT)
    a("os.pwrite", fa, bytes(16_384), 0)
    fb = b("open_here", f"{there}/f", os.O_RDWR)
    b("map_file", fb, 16_384, False)
    assert b("map_read", fb, 0, 16_384) == bytes(16_384)
    for number in range(1, 50):
        a("os.pwrite", fa, bytes([number]) * 100, 4000)
        assert b("map_read", fb, 4000, 100) == bytes([number]) * 100
    a("map_file", fa, 16_384, True)
    a("map_write", fa, 8192, b"through the map")
    a("map_sync", fa)
    assert b("os.pread", fb, 15, 8192) == b"through the map"
    assert b("map_read", fb, 8192, 15) == b"through the map"


@every_way
def test_what_is_written_through_a_map_is_seen_once_its_file_is_closed(two: Two) -> None:
    a, here, b, there = two
    fa = a("open_here", f"{here}/f", os.O_RDWR | os.O_CREAT)
    a("os.ftruncate", fa, 8192)
    fb = b("open_here", f"{there}/f", os.O_RDONLY)
    assert b("os.pread", fb, 8192, 0) == bytes(8192)
    a("map_file", fa, 8192, True)
    a("map_write", fa, 4090, b"across pages")
    a("unmap", fa)
    a("os.close", fa)
    assert b("os.pread", fb, 12, 4090) == b"across pages"


def scribble_from(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random, seconds: float, processes: int
) -> None:
    (volume.backing / "f").write_bytes(bytes(200_000))
    (volume.backing / "f").chmod(0o666)
    mounts = [fsd.mount(volume).path for _ in range(3)]
    begun = [
        actor().begin("scribble", f"{mounts[who % 3]}/f", rng.randrange(10**9), seconds)
        for who in range(processes)
    ]
    for pending in begun:
        pending.result(seconds + 60)


@every_way
def test_nobody_hangs_while_all_map_write_and_cut_one_file(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    scribble_from(fsd, volume, actor, rng, seconds=4, processes=6)


@pytest.mark.soak
@every_way
def test_nobody_hangs_while_all_map_write_and_cut_one_file_at_length(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    scribble_from(fsd, volume, actor, rng, seconds=20, processes=9)


@every_way
def test_a_private_map_made_after_a_write_shows_it(two: Two) -> None:
    """As a function maps a model that another one replaced in place, also where the file was open before."""
    a, here, b, there = two
    fa = a("open_here", f"{here}/f", os.O_RDWR | os.O_CREAT)
    a("os.pwrite", fa, bytes(16_384), 0)
    old = b("open_here", f"{there}/f", os.O_RDONLY)
    for number in range(1, 20):
        content = bytes([number]) * 16_384
        a("os.pwrite", fa, content, 0)
        fresh = b("open_here", f"{there}/f", os.O_RDONLY)
        assert b("map_private", fresh, 16_384) == content
        b("os.close", fresh)
        a("os.pwrite", fa, content[:-1] + b"!", 0)
        assert b("map_private", old, 16_384) == content[:-1] + b"!"


def test_what_is_placed_beneath_the_mounts_is_seen(fsd: Server, volume: Volume, actor: Hire) -> None:
    """Names that no client has asked for before; what it knows already it may keep for some seconds."""
    mount, a = fsd.mount(volume).path, actor()
    (volume.backing / "models").mkdir()
    (volume.backing / "models/f").write_bytes(b"placed")
    assert a("read_file", f"{mount}/models/f") == b"placed"
    (volume.backing / "models/f").write_bytes(b"replaced, and longer")
    assert a("read_file", f"{mount}/models/f") == b"replaced, and longer"


def churn_from(mounts: list[Path], actors: list[Actor], rng: random.Random, seconds: float) -> None:
    """Every actor mutates the same directory; one that hangs (state D) is found by its deadline."""
    begun = [
        each.begin("churn", str(mount), rng.randrange(10**9), seconds, 6)
        for each, mount in zip(actors, mounts, strict=True)
    ]
    for pending in begun:
        pending.result(seconds + 60)
    trees = [each("snapshot", os.fsencode(mount)) for each, mount in zip(actors, mounts, strict=True)]
    assert all(tree == trees[0] for tree in trees)


def news(fsd: Server, volume: Volume, actor: Hire, scratch: Path, times: int) -> None:
    """A writer and observers on three mounts, at the same time; a plain file beside them carries the news."""
    mounts = [fsd.mount(volume).path for _ in range(3)]
    note = scratch / "acknowledged"
    note.write_bytes(bytes(8 * (2 + len(mounts))))
    (volume.backing / "value").write_bytes(bytes(8))
    (volume.backing / "log").touch()
    looks = [actor().begin("observe", str(mount), str(note), who) for who, mount in enumerate(mounts)]
    writing = actor().begin("publish", str(mounts[0]), str(note), times, len(mounts))
    for pending in [*looks, writing]:
        pending.result(600)


@every_way
def test_what_was_acknowledged_is_seen_while_others_work(
    fsd: Server, volume: Volume, actor: Hire, scratch: Path
) -> None:
    news(fsd, volume, actor, scratch, times=400)


@pytest.mark.soak
@every_way
def test_what_was_acknowledged_is_seen_at_length(
    fsd: Server, volume: Volume, actor: Hire, scratch: Path
) -> None:
    news(fsd, volume, actor, scratch, times=10_000)


@every_way
def test_two_mounts_change_one_directory_and_nobody_hangs(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    mounts = [fsd.mount(volume).path for _ in range(2)] * 2
    churn_from(mounts, [actor() for _ in mounts], rng, seconds=2)


@every_way
@pytest.mark.soak
def test_four_mounts_change_one_directory_at_length(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    mounts = [fsd.mount(volume).path for _ in range(4)] * 2
    churn_from(mounts, [actor() for _ in mounts], rng, seconds=60)


def hammer_from(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random, seconds: float, pages: int
) -> None:
    """Four processes on three mounts write and look at one file; one that hangs is found by its deadline."""
    (volume.backing / "f").write_bytes(bytes(pages * 4096))
    (volume.backing / "f").chmod(0o666)
    mounts = [fsd.mount(volume).path for _ in range(3)]
    begun = [
        actor().begin("hammer", f"{mounts[who % 3]}/f", who, rng.randrange(10**9), seconds, pages)
        for who in range(4)
    ]
    for pending in begun:
        pending.result(seconds + 60)


@every_way
def test_no_reader_ever_sees_a_count_go_back(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    hammer_from(fsd, volume, actor, rng, seconds=2, pages=64)


@pytest.mark.soak
@every_way
def test_no_reader_ever_sees_a_count_go_back_at_length(
    fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    hammer_from(fsd, volume, actor, rng, seconds=40, pages=16)


def test_concurrent_creators_of_one_name_agree_on_the_winner(two: Two) -> None:
    a, here, b, there = two
    for number in range(100):
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        first = a.begin("open_here", f"{here}/f{number}", flags)
        second = b.begin("open_here", f"{there}/f{number}", flags)
        won = 0
        for pending in (first, second):
            try:
                pending.result()
                won += 1
            except FileExistsError:
                continue
        assert won == 1
