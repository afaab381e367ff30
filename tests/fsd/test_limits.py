"""EFS's limits and what it does not have, with its errnos. https://docs.aws.amazon.com/efs/latest/ug/limits.html"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Any

from .conftest import Hire, Server, Volume


def test_177_hard_links(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("write_file", f"{mount}/f", b"")
    for number in range(176):
        a("os.link", f"{mount}/f", f"{mount}/l{number}")
    assert a.errno("os.link", f"{mount}/f", f"{mount}/more") == "EMLINK"
    assert a("os.stat", f"{mount}/f").st_nlink == 177
    a("os.unlink", f"{mount}/l0")
    a("os.link", f"{mount}/f", f"{mount}/more")


def test_a_directory_is_not_bound_by_the_limit_of_links(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    for number in range(200):
        a("os.mkdir", f"{mount}/d{number}")
    assert a("os.stat", str(mount)).st_nlink == 202


def test_names_of_255_bytes_of_any_value(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = os.fsencode(fsd.mount(volume).path), actor()
    for name in (b"n" * 255, bytes(byte for byte in range(1, 256) if byte != 0x2F)[:255]):
        a("write_file", mount + b"/" + name, b"")
        assert name in a("os.listdir", mount)
    assert a.errno("write_file", mount + b"/" + b"n" * 256, b"") == "ENAMETOOLONG"


def test_symlinks_of_4080_bytes(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("os.symlink", "t" * 4080, f"{mount}/longest")
    assert a("os.readlink", f"{mount}/longest") == "t" * 4080
    assert a.errno("os.symlink", "t" * 4081, f"{mount}/longer") == "ENAMETOOLONG"


def test_the_largest_file(fsd: Server, volume: Volume, actor: Hire) -> None:
    """47.9 TiB, or what the file system beneath holds where that is less (ext4: 16 TiB)."""
    mount, a = fsd.mount(volume).path, actor()
    fd = a("open_here", f"{mount}/f", os.O_RDWR | os.O_CREAT)
    largest = 52_673_613_135_872
    calls: list[tuple[Any, ...]] = [
        ("os.ftruncate", fd, largest + 1),
        ("os.pwrite", fd, b"x", largest),
        ("fallocate", fd, 0, largest, 1),
        ("os.truncate", f"{mount}/f", largest + 1),
    ]
    for call in calls:
        assert a.errno(*call) == "EFBIG", call
    assert a("os.fstat", fd).st_size == 0


def test_1000_directories_deep(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("os.chdir", str(mount))
    a("go_down", 1000)
    assert a.errno("os.mkdir", "d") == "ENAMETOOLONG"
    a("write_file", "f", b"files may be there")
    a("os.unlink", "f")
    a("go_up", 1000)
    assert a("os.listdir", ".") == []


def test_what_is_moved_counts_with_all_that_is_in_it(fsd: Server, volume: Volume, actor: Hire) -> None:
    """Also when it is moved through another mount."""
    mount, other = fsd.mount(volume).path, fsd.mount(volume).path
    a, b = actor(), actor()
    for name, levels in (("low", 600), ("high", 400)):
        a("os.chdir", str(mount))
        a("os.mkdir", name)
        a("os.chdir", name)
        a("go_down", levels)
    # It would lie 402 deep, with 600 below it.
    assert a.errno("os.rename", f"{mount}/low", "low") == "ENAMETOOLONG"
    b("os.rename", f"{other}/low/d", f"{other}/lower")
    # Met first in a rename across directories, its client's kernel would say ESTALE.
    a("os.stat", f"{mount}/lower")
    assert a.errno("os.rename", f"{mount}/lower", "lower") == "ENAMETOOLONG"
    b("os.rename", f"{other}/lower", f"{other}/high/{'d/' * 399}lower")
    a("os.chdir", "../lower")
    for _ in range(599):
        a("os.chdir", "d")
    assert a.errno("os.mkdir", "d") == "ENAMETOOLONG"
    a("os.chdir", "..")
    a("os.mkdir", "e")


def test_512_locks_on_a_file_over_all_mounts(fsd: Server, volume: Volume, actor: Hire) -> None:
    """https://docs.aws.amazon.com/efs/latest/ug/troubleshooting-efs-fileop-errors.html"""
    mounts = [fsd.mount(volume).path for _ in range(2)]
    actors = [actor(), actor()]
    actors[0]("write_file", f"{mounts[0]}/f", b"")
    fds = [each("open_here", f"{mount}/f", os.O_RDWR) for each, mount in zip(actors, mounts, strict=True)]
    for number in range(512):
        actors[number % 2]("lock", fds[number % 2], fcntl.F_WRLCK, number * 2, 1)
    for each, fd in zip(actors, fds, strict=True):
        assert each.errno("lock", fd, fcntl.F_WRLCK, 10_000, 1) == "EDQUOT"
    actors[0]("lock", fds[0], fcntl.F_UNLCK, 0, 1)
    actors[1]("lock", fds[1], fcntl.F_WRLCK, 10_000, 1)


def test_65536_open_files_a_connection(fsd: Server, volume: Volume, actor: Hire) -> None:
    """More than fsd may have descriptors. The next one: "Disk quota exceeded", as EFS says it."""
    path = f"{fsd.mount(volume).path}/f"
    actors = [actor() for _ in range(4)]
    actors[0]("write_file", path, b"")
    begun = [each.begin("hold_open", path, 16_384) for each in actors]
    assert [pending.result(60) for pending in begun] == [16_384] * 4
    assert actor().errno("open_here", path, os.O_RDONLY) == "EDQUOT"
    actors[0].kill()
    actor()("open_here", f"{fsd.mount(volume).path}/f", os.O_RDONLY)


def test_devices_attributes_and_acls_are_refused(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    a("write_file", f"{mount}/f", b"")
    for kind in (stat.S_IFBLK, stat.S_IFCHR):
        assert a.errno("os.mknod", f"{mount}/dev", kind | 0o600, os.makedev(1, 3)) == "EPERM"
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, 7, -1) for tag in (0x01, 0x04, 0x20))
    for name in ("user.note", "trusted.note", "system.posix_acl_access", "security.selinux"):
        assert a.errno("os.setxattr", f"{mount}/f", name, acl) == "EOPNOTSUPP", name
        # Asked for an ACL, the client's kernel says by itself that there is none.
        assert a.errno("os.getxattr", f"{mount}/f", name) in ("EOPNOTSUPP", "ENODATA"), name
    assert a.errno("os.listxattr", f"{mount}/f") == "EOPNOTSUPP"
    assert a("os.listdir", str(mount)) == ["f"]


def test_o_tmpfile_is_refused_or_right(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume).path, actor()
    try:
        fd = a("open_here", str(mount), os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):
            return
        raise
    a("os.write", fd, b"x")
    assert a("os.fstat", fd).st_nlink == 0
    assert a("os.listdir", str(mount)) == []
