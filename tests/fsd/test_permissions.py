"""What IAM leaves a connection: changed while files are open, and a connection whose network is gone.

https://docs.aws.amazon.com/efs/latest/ug/iam-access-control-nfs-efs.html
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Any

import pytest

from .conftest import Hire, Mount, Refused, Server, Volume, every_way


def permit(fsd: Server, mount: Mount, **permissions: bool) -> int:
    bypassing: int = fsd.call("mount.permit", mount=mount.name, **permissions)["bypassing"]
    return bypassing


def unserved(fsd: Server, mount: Mount) -> int:
    waiting: int = fsd.call("stats")["mounts"][mount.name]["unserved"]
    return waiting


def wait_for_unserved(fsd: Server, mount: Mount, count: int) -> None:
    while unserved(fsd, mount) < count:
        os.sched_yield()


@every_way
def test_without_client_write_every_change_is_refused_and_reads_go_on(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    mount, a = fsd.mount(volume), actor()
    top = mount.path
    a("os.mkdir", f"{top}/d")
    a("write_file", f"{top}/f", b"content")
    permit(fsd, mount, read_only=True)
    changes: list[tuple[Any, ...]] = [
        ("write_file", f"{top}/new", b""),
        ("open_here", f"{top}/f", os.O_WRONLY),
        ("open_here", f"{top}/f", os.O_RDWR),
        ("open_here", f"{top}/new", os.O_RDONLY | os.O_CREAT),
        ("os.mkdir", f"{top}/e"),
        ("os.rmdir", f"{top}/d"),
        ("os.unlink", f"{top}/f"),
        ("os.rename", f"{top}/f", f"{top}/g"),
        ("os.link", f"{top}/f", f"{top}/l"),
        ("os.symlink", "f", f"{top}/s"),
        ("os.mknod", f"{top}/n"),
        ("os.truncate", f"{top}/f", 0),
        ("os.chmod", f"{top}/f", 0o600),
        ("os.chown", f"{top}/f", 1, 1),
        ("os.utime", f"{top}/f"),
    ]
    for change in changes:
        assert a.errno(*change) == "EROFS", change
    assert a("os.access", f"{top}/f", os.W_OK) is False
    assert a("read_file", f"{top}/f") == b"content"
    assert sorted(a("os.listdir", str(top))) == ["d", "f"]
    a("os.close", a("open_here", f"{top}/f", os.O_RDONLY | os.O_CREAT))
    assert a.errno("open_here", f"{top}/f", os.O_RDONLY | os.O_CREAT | os.O_EXCL) == "EEXIST"
    permit(fsd, mount)
    a("write_file", f"{top}/new", b"again")
    assert (volume.backing / "new").read_bytes() == b"again"


@pytest.mark.parametrize("way", ["served", "classic"])
def test_a_file_that_is_open_for_writing_becomes_read_only(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    fd = a("open_here", f"{mount.path}/f", os.O_RDWR | os.O_CREAT)
    a("os.write", fd, b"before")
    assert permit(fsd, mount, read_only=True) == 0
    assert a.errno("os.write", fd, b"after") == "EROFS"
    assert a.errno("os.ftruncate", fd, 0) == "EROFS"
    assert a.errno("fallocate", fd, 0, 0, 100) == "EROFS"
    assert a("os.pread", fd, 20, 0) == b"before"
    assert (volume.backing / "f").read_bytes() == b"before"


def test_files_that_bypass_the_server_are_told(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    fds = [
        a("open_here", f"{mount.path}/f", flags)
        for flags in (os.O_RDWR | os.O_CREAT, os.O_WRONLY, os.O_RDONLY)
    ]
    assert permit(fsd, mount, read_only=True) == 2
    assert permit(fsd, mount, denied=True) == 3
    assert permit(fsd, mount, root_squash=True) == 0
    for fd in fds:
        a("os.close", fd)
    # A close is told to the server a moment after it.
    while permit(fsd, mount, denied=True):
        os.sched_yield()


@every_way
def test_a_mount_may_begin_read_only_and_be_allowed_more(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume, permissions={"read_only": True}), actor()
    assert a.errno("write_file", f"{mount.path}/f", b"") == "EROFS"
    permit(fsd, mount, read_only=False)
    a("write_file", f"{mount.path}/f", b"")


@every_way
def test_without_root_access_root_is_nobody(fsd: Server, volume: Volume, actor: Hire) -> None:
    secret = volume.backing / "secret"
    secret.mkdir()
    (secret / "f").write_bytes(b"root's")
    secret.chmod(0o700)
    mount, other = fsd.mount(volume, uid=0), fsd.mount(volume, uid=1001)
    a = actor()
    assert a("read_file", f"{mount.path}/secret/f") == b"root's"
    a("os.stat", f"{mount.path}/secret/f")
    permit(fsd, mount, root_squash=True)
    assert a.errno("os.stat", f"{mount.path}/secret/f") == "EACCES"
    assert a.errno("read_file", f"{mount.path}/secret/f") == "EACCES"
    a("write_file", f"{mount.path}/mine", b"")
    made = (volume.backing / "mine").stat()
    assert (made.st_uid, made.st_gid) == (65534, 65534)
    permit(fsd, other, root_squash=True)
    a("write_file", f"{other.path}/other", b"")
    assert (volume.backing / "other").stat().st_uid == 1001
    permit(fsd, mount)
    assert a("read_file", f"{mount.path}/secret/f") == b"root's"


@every_way
def test_a_mount_that_is_denied_can_do_nothing(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, other = fsd.mount(volume), fsd.mount(volume)
    a = actor()
    a("write_file", f"{mount.path}/f", b"content")
    permit(fsd, mount, denied=True)
    assert a.errno("read_file", f"{mount.path}/f") == "EACCES"
    assert a.errno("write_file", f"{mount.path}/g", b"") == "EACCES"
    assert a.errno("os.listdir", str(mount.path)) == "EACCES"
    assert a("read_file", f"{other.path}/f") == b"content"
    permit(fsd, mount)
    assert a("read_file", f"{mount.path}/f") == b"content"


@pytest.mark.parametrize("way", ["served", "classic"])
def test_an_open_file_of_a_denied_mount_cannot_be_read(fsd: Server, volume: Volume, actor: Hire) -> None:
    """Not even what its client's kernel has in its page cache."""
    (volume.backing / "f").write_bytes(b"x" * 100)
    mount, a = fsd.mount(volume), actor()
    fd = a("open_here", f"{mount.path}/f", os.O_RDONLY)
    assert len(a("os.pread", fd, 100, 0)) == 100
    permit(fsd, mount, denied=True)
    # The pages go by a thread of the volume's own: once any later change has been spread they are gone.
    other = fsd.mount(volume)
    a("write_file", f"{other.path}/f", b"y" * 50)
    assert a.errno("os.pread", fd, 50, 0) == "EACCES"


@every_way
class TestAStalledMount:
    def test_serves_what_waited_once_it_is_resumed(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        mount, a = fsd.mount(volume), actor()
        actors = [actor() for _ in range(20)]
        fsd.call("mount.stall", mount=mount.name)
        waiting = [
            each.begin("write_file", f"{mount.path}/f{number}", b"content")
            for number, each in enumerate(actors)
        ]
        wait_for_unserved(fsd, mount, 1)
        assert list(volume.backing.iterdir()) == []
        other = fsd.mount(volume)
        a("write_file", f"{other.path}/g", b"the others go on")
        assert not any(pending.done for pending in waiting)
        fsd.call("mount.resume", mount=mount.name)
        assert [pending.result() for pending in waiting] == [7] * 20
        assert len(a("os.listdir", str(mount.path))) == 21
        assert unserved(fsd, mount) == 0

    def test_fails_with_eio_what_waits_and_what_comes(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        mount, a, b = fsd.mount(volume), actor(), actor()
        fd = a("open_here", f"{mount.path}/f", os.O_RDWR | os.O_CREAT)
        fsd.call("mount.stall", mount=mount.name)
        pending = b.begin("os.mkdir", f"{mount.path}/d")
        wait_for_unserved(fsd, mount, 1)
        fsd.call("mount.fail", mount=mount.name)
        with pytest.raises(OSError, match="Input/output error"):
            pending.result()
        assert b.errno("os.mkdir", f"{mount.path}/d") == "EIO"
        assert a.errno("os.fsync", fd) == "EIO"
        assert not (volume.backing / "d").exists()
        with pytest.raises(OSError, match="Input/output error"):
            a("os.close", fd)
        fsd.call("mount.resume", mount=mount.name)
        b("os.mkdir", f"{mount.path}/d")

    def test_lets_those_go_who_are_killed(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        mount, a = fsd.mount(volume), actor()
        fsd.call("mount.stall", mount=mount.name)
        a.begin("os.mkdir", f"{mount.path}/d")
        wait_for_unserved(fsd, mount, 1)
        a.process.send_signal(signal.SIGKILL)
        assert a.wait() == -signal.SIGKILL
        assert unserved(fsd, mount) == 0
        fsd.call("mount.resume", mount=mount.name)
        assert not (volume.backing / "d").exists()

    def test_ends_with_its_mount(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        mount, a = fsd.mount(volume), actor()
        fsd.call("mount.stall", mount=mount.name)
        pending = a.begin("os.mkdir", f"{mount.path}/d")
        wait_for_unserved(fsd, mount, 1)
        fsd.unmount(mount)
        with pytest.raises(OSError, match=r"ECONNABORTED|ENOTCONN|connect|abort|interrupt"):
            pending.result()

    def test_loses_its_locks_when_it_fails(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        mount, other = fsd.mount(volume), fsd.mount(volume)
        a, b = actor(), actor()
        a("lock", a("open_here", f"{mount.path}/f", os.O_RDWR | os.O_CREAT), fcntl.F_WRLCK)
        fd = b("open_here", f"{other.path}/f", os.O_RDWR)
        assert b.errno("lock", fd, fcntl.F_WRLCK) == "EAGAIN"
        fsd.call("mount.fail", mount=mount.name)
        b("lock", fd, fcntl.F_WRLCK)


def test_unknown_mounts_are_refused(fsd: Server) -> None:
    for operation in ("mount.permit", "mount.stall", "mount.resume", "mount.fail"):
        with pytest.raises(Refused, match="MountNotFound"):
            fsd.call(operation, mount="nobody")
