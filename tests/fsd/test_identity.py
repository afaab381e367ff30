"""Who a mount acts as, and that nothing leads out of an access point's root directory."""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any

import pytest

from .conftest import Hire, Refused, Server, Volume, every_way


@every_way
def test_files_belong_to_the_access_points_user_whoever_calls(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    """https://docs.aws.amazon.com/efs/latest/ug/enforce-identity-access-points.html"""
    mount = fsd.mount(volume, uid=1001, gid=2002).path
    for number, caller in enumerate([actor(0, 0), actor(500, 500), actor(65534, 65534)]):
        caller("write_file", f"{mount}/f{number}", b"mine")
        caller("os.mkdir", f"{mount}/d{number}")
        caller("os.symlink", "f0", f"{mount}/l{number}")
        for name in (f"f{number}", f"d{number}", f"l{number}"):
            status = (volume.backing / name).lstat()
            assert (status.st_uid, status.st_gid) == (1001, 2002)


def test_the_callers_root_is_not_root_behind_a_mount(fsd: Server, volume: Volume, actor: Hire) -> None:
    secret = volume.backing / "secret"
    secret.write_bytes(b"for uid 7 alone")
    secret.chmod(0o600)
    os.chown(secret, 7, 7)
    root = actor(0, 0)
    stranger, owner = fsd.mount(volume, uid=1001).path, fsd.mount(volume, uid=7).path
    assert root.errno("read_file", f"{stranger}/secret") == "EACCES"
    assert root.errno("os.chmod", f"{stranger}/secret", 0o777) == "EPERM"
    assert root.errno("os.chown", f"{stranger}/secret", 1001, 1001) == "EPERM"
    assert root.errno("set_times", f"{stranger}/secret".encode(), 1, 1) == "EPERM"
    assert root("os.access", f"{stranger}/secret", os.R_OK) is False
    assert root("read_file", f"{owner}/secret") == b"for uid 7 alone"


def test_uid_0_of_an_access_point_is_root(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume, uid=0).path, actor(1001, 1001)
    a("write_file", f"{mount}/f", b"")
    a("os.chown", f"{mount}/f", 5, 6)
    a("os.chmod", f"{mount}/f", 0)
    assert a("read_file", f"{mount}/f") == b""


def test_secondary_groups_count(fsd: Server, volume: Volume, actor: Hire) -> None:
    shared = volume.backing / "shared"
    shared.mkdir()
    os.chown(shared, 0, 3003)
    shared.chmod(0o2770)
    member, other = fsd.mount(volume, uid=1, gids=(77, 3003)).path, fsd.mount(volume, uid=1, gids=(77,)).path
    a = actor()
    a("write_file", f"{member}/shared/f", b"")
    assert (shared / "f").stat().st_gid == 3003
    assert a.errno("os.listdir", f"{other}/shared") == "EACCES"
    a("os.chown", f"{member}/shared/f", -1, 77)
    assert a.errno("os.chown", f"{other}/shared", -1, 77) == "EPERM"


@every_way
def test_a_search_permission_is_not_skipped_because_a_name_is_known(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    closed = volume.backing / "closed"
    closed.mkdir()
    (closed / "f").write_bytes(b"content")
    mount, other = fsd.mount(volume, uid=1001).path, fsd.mount(volume, uid=0).path
    a, b = actor(), actor()
    assert a("read_file", f"{mount}/closed/f") == b"content"
    b("os.chmod", f"{other}/closed", 0o700)
    assert a.errno("read_file", f"{mount}/closed/f") == "EACCES"
    assert a.errno("os.stat", f"{mount}/closed/f") == "EACCES"
    assert a.errno("os.listdir", f"{mount}/closed") == "EACCES"


@every_way
def test_a_search_permission_lost_through_the_same_mount(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume, uid=1001).path, actor()
    a("os.mkdir", f"{mount}/d")
    a("write_file", f"{mount}/d/f", b"content")
    a("os.chmod", f"{mount}/d", 0o600)
    assert a.errno("os.stat", f"{mount}/d/f") == "EACCES"
    assert a.errno("read_file", f"{mount}/d/f") == "EACCES"
    a("os.chmod", f"{mount}/d", 0o700)
    assert a("read_file", f"{mount}/d/f") == b"content"


def test_two_access_points_know_the_same_file_each_by_its_own_rights(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    writer, reader = fsd.mount(volume, uid=10).path, fsd.mount(volume, uid=20).path
    a, b = actor(), actor()
    a("write_file", f"{writer}/f", b"ten's")
    a("os.chmod", f"{writer}/f", 0o644)
    assert b("read_file", f"{reader}/f") == b"ten's"
    assert b.errno("open_here", f"{reader}/f", os.O_WRONLY) == "EACCES"
    assert b.errno("os.truncate", f"{reader}/f", 0) == "EACCES"
    a("os.chmod", f"{writer}/f", 0o600)
    assert b.errno("read_file", f"{reader}/f") == "EACCES"


def test_without_a_posix_user_requests_act_as_the_anonymous_ids(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    mount = fsd.mount(volume, uid=None, anonymous=(2000, 3000)).path
    for caller in (actor(0, 0), actor(1234, 1234)):
        caller("write_file", f"{mount}/by-{caller.pid}", b"")
        status = (volume.backing / f"by-{caller.pid}").stat()
        assert (status.st_uid, status.st_gid) == (2000, 3000)


def test_a_sticky_directory_protects_others_files(fsd: Server, volume: Volume, actor: Hire) -> None:
    volume.backing.chmod(0o1777)
    mine, theirs = fsd.mount(volume, uid=10).path, fsd.mount(volume, uid=20).path
    a = actor()
    a("write_file", f"{mine}/f", b"")
    assert a.errno("os.unlink", f"{theirs}/f") == "EPERM"
    assert a.errno("os.rename", f"{theirs}/f", f"{theirs}/g") == "EPERM"
    a("os.unlink", f"{mine}/f")


def test_neither_set_user_id_programs_nor_devices_work_from_a_mount(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    """Also those that somebody placed on the disk itself."""
    shutil.copy("/usr/bin/id", volume.backing / "id")
    (volume.backing / "id").chmod(0o4755)
    os.mknod(volume.backing / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (volume.backing / "null").chmod(0o666)
    mount = fsd.mount(volume, uid=0).path
    assert actor(500, 500)("run", f"{mount}/id", "-u") == b"500\n"
    assert actor().errno("open_here", f"{mount}/null", os.O_RDWR) == "EACCES"


class TestRoot:
    """The access point's root directory."""

    def test_is_created_with_its_owner_and_mode_once(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        """https://docs.aws.amazon.com/efs/latest/ug/enforce-root-directory-access-point.html"""
        mount = fsd.mount(volume, uid=11, root="/a/b", create=(11, 22, 0o2750)).path
        status = (volume.backing / "a/b").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2750, 11, 22)
        a = actor()
        a("write_file", f"{mount}/f", b"inside")
        assert (volume.backing / "a/b/f").read_bytes() == b"inside"
        fsd.mount(volume, uid=99, root="/a/b", create=(99, 99, 0o777))
        assert (volume.backing / "a/b").stat().st_uid == 11

    def test_missing_without_creation_is_an_error(self, fsd: Server, volume: Volume) -> None:
        with pytest.raises(Refused) as refused:
            fsd.mount(volume, root="/nowhere")
        assert refused.value.code == "RootDirectoryMissing"
        assert not (volume.backing / "nowhere").exists()

    @pytest.mark.parametrize("root", ["/link", "/link/inner", "/../outside", "/a/../../outside"])
    def test_never_leads_out_of_the_volume(self, fsd: Server, volume: Volume, actor: Hire, root: str) -> None:
        """Refused, or a directory of the volume; what lies outside is never seen and never changed."""
        outside = volume.backing.parent / "outside"
        (outside / "inner").mkdir(parents=True)
        (outside / "inner/secret").touch()
        (volume.backing / "link").symlink_to(outside)
        (volume.backing / "a").mkdir()
        try:
            mount = fsd.mount(volume, root=root, create=(0, 0, 0o755))
        except Refused:
            pass
        else:
            assert actor()("os.listdir", str(mount.path)) == []
        assert sorted(path.name for path in outside.rglob("*")) == ["inner", "secret"]

    def test_cannot_be_left(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        (volume.backing / "secret").write_bytes(b"outside")
        mount = fsd.mount(volume, uid=0, root="/ap", create=(0, 0, 0o755)).path
        a = actor()
        for target in ("../secret", "/secret", "..", "d/../../secret"):
            a("os.symlink", target, f"{mount}/link")
            # The client resolves a link, on its side of the mount: there is no such file.
            assert a.errno("read_file", f"{mount}/link") in ("ENOENT", "EISDIR")
            a("os.unlink", f"{mount}/link")
        a("os.chdir", str(mount))
        assert a("os.stat", "..").st_ino != volume.backing.stat().st_ino
        assert a.errno("read_file", "../secret") == "ENOENT"
        assert a.errno("os.rename", f"{mount}", f"{mount}/../elsewhere") in ("EBUSY", "EXDEV", "EINVAL")

    def test_keeps_other_access_points_apart(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        one = fsd.mount(volume, uid=0, root="/one", create=(0, 0, 0o755)).path
        two = fsd.mount(volume, uid=0, root="/two", create=(0, 0, 0o755)).path
        a = actor()
        a("write_file", f"{one}/f", b"of one")
        assert a("os.listdir", str(two)) == []
        assert a.errno("os.link", f"{one}/f", f"{two}/f") == "EXDEV"
        assert a.errno("os.rename", f"{one}/f", f"{two}/f") == "EXDEV"

    def test_moved_away_by_another_mount_still_confines(
        self, fsd: Server, volume: Volume, actor: Hire
    ) -> None:
        """A directory that is in use inside is moved out of the root: its ".." must not be a way out."""
        whole = fsd.mount(volume, uid=0).path
        inner = fsd.mount(volume, uid=0, root="/ap", create=(0, 0, 0o755)).path
        (volume.backing / "secret").write_bytes(b"outside")
        a, b = actor(), actor()
        a("os.mkdir", f"{inner}/d")
        a("os.chdir", f"{inner}/d")
        b("os.rename", f"{whole}/ap/d", f"{whole}/moved")
        assert a.errno("read_file", "../secret") in ("ENOENT", "ESTALE", "EACCES")

    def test_follows_a_symlink_planted_beneath_it_only_as_a_link(
        self, fsd: Server, volume: Volume, actor: Hire
    ) -> None:
        """Links made on the disk itself reach the client as links, also absolute ones; fsd follows none."""
        (volume.backing / "shadow").symlink_to("/etc/shadow")
        mount, a = fsd.mount(volume, uid=0).path, actor(500, 500)
        assert a("os.readlink", f"{mount}/shadow") == "/etc/shadow"
        assert a.errno("read_file", f"{mount}/shadow") == "EACCES"
        assert a.errno("open_here", f"{mount}/shadow", os.O_RDONLY | os.O_NOFOLLOW) == "ELOOP"
        assert a.errno("os.listdir", f"{mount}/shadow/..") in ("ENOTDIR", "EACCES")


class TestReadOnly:
    def test_refuses_every_change(self, fsd: Server, volume: Volume, actor: Hire) -> None:
        (volume.backing / "f").write_bytes(b"fixed")
        (volume.backing / "d").mkdir()
        mount, a = fsd.mount(volume, uid=0, read_only=True).path, actor()
        path = f"{mount}/f"
        assert a("read_file", path) == b"fixed"
        calls: list[tuple[Any, ...]] = [
            ("write_file", path, b""),
            ("open_here", f"{mount}/new", os.O_CREAT | os.O_WRONLY),
            ("os.mkdir", f"{mount}/new"),
            ("os.unlink", path),
            ("os.rmdir", f"{mount}/d"),
            ("os.rename", path, f"{mount}/g"),
            ("os.link", path, f"{mount}/g"),
            ("os.symlink", "f", f"{mount}/g"),
            ("os.chmod", path, 0o777),
            ("os.chown", path, 5, 5),
            ("os.truncate", path, 0),
            ("set_times", path.encode(), 1, 1),
        ]
        for call in calls:
            assert a.errno(*call) == "EROFS", call
        assert (volume.backing / "f").read_bytes() == b"fixed"

    def test_still_locks_and_sees_the_writes_of_others(
        self, fsd: Server, volume: Volume, actor: Hire
    ) -> None:
        writer, reader = fsd.mount(volume).path, fsd.mount(volume, read_only=True).path
        a, b = actor(), actor()
        a("write_file", f"{writer}/f", b"one")
        assert b("read_file", f"{reader}/f") == b"one"
        a("write_file", f"{writer}/f", b"second")
        assert b("read_file", f"{reader}/f") == b"second"
        fd = b("open_here", f"{reader}/f", os.O_RDONLY)
        b("flock", fd, 1)
        other = a("open_here", f"{writer}/f", os.O_RDWR)
        assert a.errno("flock", other, 2 | 4) == "EAGAIN"
