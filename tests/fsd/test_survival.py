"""Unmounting, dying, running full: nothing hangs, nothing is left, nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import WAYS, Hire, Refused, Server, Volume, detach, every_way, mounts_below


@every_way
def test_unmount_works_while_files_are_open(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, other = fsd.mount(volume), fsd.mount(volume)
    a = actor()
    a("os.chdir", str(mount.path))
    fd = a("open_here", "f", os.O_RDWR | os.O_CREAT)
    a("os.write", fd, b"kept")
    fsd.unmount(mount)
    assert str(mount.path) not in mounts_below(fsd.directory)
    assert a.errno("open_here", "f", os.O_RDONLY) in ("ENOTCONN", "ECONNABORTED", "EIO")
    assert a.errno("os.listdir") in ("ENOTCONN", "ECONNABORTED", "EIO")
    assert actor()("read_file", f"{other.path}/f") == b"kept"


def test_unmount_is_idempotent_and_its_name_free_again(fsd: Server, volume: Volume) -> None:
    mount = fsd.mount(volume)
    fsd.unmount(mount)
    fsd.unmount(mount)
    assert fsd.call("mount.list")["mounts"] == []


@every_way
def test_unmount_during_work_leaves_nobody_hanging(fsd: Server, volume: Volume, actor: Hire) -> None:
    for _ in range(10):
        mount = fsd.mount(volume)
        workers = [actor() for _ in range(3)]
        for each in workers:
            each("os.chdir", str(mount.path))
        begun = [each.begin("churn", ".", number, 20, 5) for number, each in enumerate(workers)]
        assert fsd.call("mount.list")["mounts"]
        fsd.unmount(mount)
        for pending in begun:
            with pytest.raises(OSError, match=r"."):
                pending.result(10)


def test_descriptors_do_not_leak_over_mounts(fsd: Server, volume: Volume, actor: Hire) -> None:
    a = actor()

    def once() -> int:
        mount = fsd.mount(volume)
        a("write_file", f"{mount.path}/f", b"x")
        a("os.listdir", str(mount.path))
        fsd.unmount(mount)
        return len(os.listdir(f"/proc/{fsd.process.pid}/fd"))

    once()
    before = once()
    for _ in range(50):
        after = once()
    assert after <= before + 2


def test_shutdown_unmounts_everything(scratch: Path) -> None:
    server = Server(scratch)
    volume = server.volume(scratch / "volume")
    for _ in range(3):
        server.mount(volume)
    assert len(mounts_below(scratch)) == 3
    assert server.stop() == 0
    assert mounts_below(scratch) == {}


def test_the_supervisors_end_is_fsds_end(scratch: Path) -> None:
    server = Server(scratch)
    server.mount(server.volume(scratch / "volume"))
    server.answers.close()
    server.control.close()
    assert server.process.wait(30) == 0
    assert mounts_below(scratch) == {}


def test_another_connections_end_is_not(fsd: Server, volume: Volume) -> None:
    fsd.connect().close()
    assert fsd.call("hello")["pid"] == fsd.process.pid


def read_so_far(server: Server) -> int:
    """Bytes that the server's process has asked of read(2); see proc(5), io."""
    lines = Path(f"/proc/{server.process.pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_an_unmount_costs_the_same_however_much_is_mounted_on_the_host(
    fsd: Server, volume: Volume, scratch: Path
) -> None:
    """Reading the table of all mounts for each made the end of a thousand mounts take half a minute."""
    mounts = [fsd.mount(volume) for _ in range(20)]
    crowd = [scratch / f"crowd-{number}" for number in range(100)]
    for directory in crowd:
        directory.mkdir()
        subprocess.run(["mount", "--bind", directory, directory], check=True)
    table = len(Path("/proc/self/mountinfo").read_bytes())
    before = read_so_far(fsd)
    for mount in mounts:
        fsd.unmount(mount)
    assert read_so_far(fsd) - before < table
    assert [path for path in mounts_below(scratch) if Path(path) not in crowd] == []
    for directory in crowd:
        detach(directory)


def test_an_unmount_leaves_what_is_not_its_own(fsd: Server, volume: Volume) -> None:
    mount = fsd.mount(volume)
    detach(mount.path)
    subprocess.run(["mount", "-t", "tmpfs", "none", mount.path], check=True)
    (mount.path / "kept").touch()
    fsd.unmount(mount)
    assert (mount.path / "kept").exists()
    detach(mount.path)


@pytest.mark.parametrize("round_", range(3))
def test_after_kill_9_nobody_hangs_and_nothing_acknowledged_is_lost(
    scratch: Path, actor: Hire, round_: int
) -> None:
    server = Server(scratch)
    volume = server.volume(scratch / "volume")
    mounts = [server.mount(volume) for _ in range(3)]
    loggers = [actor() for _ in mounts]
    sleeper = actor()
    fd = sleeper("open_here", f"{mounts[0].path}/lock", os.O_RDWR | os.O_CREAT)
    sleeper("flock", fd, 2)
    waiter = actor()
    wd = waiter("open_here", f"{mounts[1].path}/lock", os.O_RDWR)
    waiting = waiter.begin_blocked("flock", "flock", wd, 2)
    begun = [
        each.begin("write_acknowledged", str(mount.path), f"log{number}", str(scratch / f"ack{number}"))
        for number, (each, mount) in enumerate(zip(loggers, mounts, strict=True))
    ]
    for number in range(3):
        # Every logger is at work: its acknowledgements have begun.
        actor()("wait_for_size", str(scratch / f"ack{number}"), 800 * (round_ + 1))
    server.kill()
    for pending in [*begun, waiting]:
        with pytest.raises(OSError, match=r"."):
            pending.result(10)
    for number in range(3):
        acknowledged = (scratch / f"ack{number}").read_bytes()
        written = (volume.backing / f"log{number}").read_bytes()
        assert len(acknowledged) >= 800
        assert written[: len(acknowledged)] == acknowledged
        records = len(written) // 8
        assert written[: records * 8] == struct.pack(f"<{records}Q", *range(records))
    server.stop()
    again = Server(scratch)
    volume = again.volume(scratch / "volume", volume.name)
    mount, a = again.mount(volume), actor()
    assert a("os.stat", f"{mount.path}/log0").st_size == len((volume.backing / "log0").read_bytes())
    fd = a("open_here", f"{mount.path}/lock", os.O_RDWR)
    a("flock", fd, 2 | 4)
    assert again.stop() == 0


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    image, where = scratch / "image", scratch / "small"
    with image.open("wb") as stream:
        stream.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "512", image], check=True)
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", image, where], check=True)
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@every_way
def test_a_full_disk_is_an_error_and_works_again_when_space_is_freed(
    fsd: Server, small: Path, actor: Hire, way: str
) -> None:
    volume = fsd.volume(small / "volume", passthrough=WAYS[way][1])
    mount, a = fsd.mount(volume).path, actor()
    written, error = a("write_until_full", f"{mount}/big")
    assert error == "ENOSPC"
    assert 8 << 20 < written < 32 << 20
    assert a("os.stat", f"{mount}/big").st_size >= written
    assert a("os.listdir", str(mount)) == ["big"]
    a("os.unlink", f"{mount}/big")
    assert a("write_file", f"{mount}/next", bytes(4 << 20)) == 4 << 20
    assert a("read_file", f"{mount}/next") == bytes(4 << 20)


def test_no_inodes_left_is_an_error_too(fsd: Server, small: Path, actor: Hire) -> None:
    volume = fsd.volume(small / "volume")
    mount, a = fsd.mount(volume).path, actor()
    assert a.errno("fill_directory", str(mount), 0, 1000) == "ENOSPC"
    a("os.unlink", f"{mount}/f0000000")
    a("write_file", f"{mount}/again", b"")


def test_reset_empties_a_volume_that_has_no_mounts(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount = fsd.mount(volume)
    a = actor()
    a("os.makedirs", f"{mount.path}/a/b/c")
    a("write_file", f"{mount.path}/a/f", b"x")
    with pytest.raises(Refused):
        fsd.call("reset", volume=volume.name)
    fsd.unmount(mount)
    fsd.call("reset", volume=volume.name)
    assert list(volume.backing.iterdir()) == []
    usage = fsd.call("volume.usage", volume=volume.name)
    assert usage["files"] == 0


class TestControlSocket:
    @pytest.mark.parametrize(
        "line",
        [
            b"not json\n",
            b"{}\n",
            b'{"id":7}\n',
            b'{"id":7,"op":"no.such"}\n',
            b'{"id":7,"op":"mount"}\n',
            b'{"id":7,"op":"mount","mount":"m","volume":"fs-none","mountpoint":"/nowhere","root":"/","posix":null,'
            b'"anonymous":{"uid":1,"gid":1},"read_only":false,"create":null}\n',
            b'{"id":7,"op":"mount","mount":5,"volume":[],"mountpoint":{}}\n',
            b'{"id":7,"op":"volume.open","volume":"v","backing":"relative"}\n',
            b'{"id":7,"op":"volume.open","volume":"v","backing":"/nowhere/at/all"}\n',
            b"[" * 100_000 + b"\n",
            b'{"id":7,"op":"' + b"x" * 1_000_000 + b'"}\n',
            b"\xff\xfe\x00\n",
            b"\n",
        ],
    )
    def test_survives_what_it_cannot_use(self, fsd: Server, volume: Volume, line: bytes) -> None:
        with fsd.connect() as control, control.makefile("rb") as answers:
            control.sendall(line)
            control.shutdown(1)
            for answer in answers:
                assert "error" in json.loads(answer)
        assert fsd.call("hello")["pid"] == fsd.process.pid

    def test_a_refusal_names_what_is_wrong(self, fsd: Server, volume: Volume) -> None:
        with pytest.raises(Refused, match="fs-none"):
            fsd.call("volume.usage", volume="fs-none")

    def test_many_mounts(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        """One set of threads serves them all; an idle one costs less than 512 KiB."""
        threads, before = len(os.listdir(f"/proc/{fsd.process.pid}/task")), resident(fsd)
        mounts = [fsd.mount(volume) for _ in range(100)]
        assert len(os.listdir(f"/proc/{fsd.process.pid}/task")) <= threads + 4
        assert (resident(fsd) - before) / 100 < 512 * 1024
        a = actor()
        for mount in mounts:
            a("write_file", f"{mount.path}/f", mount.name.encode())
        assert a("read_file", f"{mounts[0].path}/f") == mounts[-1].name.encode()
        assert len(fsd.call("mount.list")["mounts"]) == 100


def resident(server: Server) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096
