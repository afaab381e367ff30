"""Names, attributes and data."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection, User, u32

Connect = Callable[..., Connection]

TYPE, CHANGE, SIZE, FSID, FILEHANDLE, FILEID, MODE, LINKS, OWNER, GROUP, MOUNTED_ON = (
    1,
    3,
    4,
    8,
    19,
    20,
    33,
    35,
    36,
    37,
    55,
)


def test_below_the_pseudo_root_is_what_is_exported(connect: Connect) -> None:
    client = Client(connect())
    _, (entries, complete) = client.ok(u32(wire.PUTROOTFH), wire.readdir(0, TYPE, FSID))
    assert [name for _, name, _ in entries] == [b"fs-1", b"fsap-1"]
    assert complete
    assert client.status(u32(wire.PUTROOTFH), wire.lookup("fs-2")) == wire.NOENT
    assert client.status(u32(wire.PUTROOTFH), wire.create(2, "x")) == wire.ROFS


def test_a_file_is_what_the_backing_directory_shows(door: Door, client: Client) -> None:
    handle, state = client.open("file")
    data = os.urandom(300_000)
    _, (written, stable, verifier) = client.ok(wire.putfh(handle), wire.write(state, 0, data))
    assert (written, stable) == (len(data), 0)
    _, committed = client.ok(wire.putfh(handle), u32(wire.COMMIT) + bytes(12))
    assert committed == verifier
    assert (door.backing / "file").read_bytes() == data
    _, (eof, back) = client.ok(wire.putfh(handle), wire.read(state, 1000, 1 << 20))
    assert (eof, back) == (True, data[1000:])
    _, found = client.ok(wire.putfh(handle), wire.getattr_(TYPE, SIZE, MODE, OWNER, LINKS))
    assert found == {TYPE: 1, SIZE: len(data), MODE: 0o644, OWNER: b"0", LINKS: 1}
    client.ok(wire.putfh(handle), wire.close(state))
    assert client.status(wire.putfh(handle), wire.read(state, 0, 1)) == wire.BAD_STATEID


def test_directories_links_and_renames(door: Door, client: Client) -> None:
    *_, (change, was_set) = client.ok(*client.steps(), wire.create(2, "d", mode=0o750))
    assert change[0]
    assert change[1] < change[2]
    assert was_set == [MODE]
    client.ok(*client.steps("d"), wire.create(5, "l", link="../target"))
    assert client.ok(*client.steps("d", "l"), u32(wire.READLINK))[-1] == b"../target"
    client.open("target")
    client.ok(*client.steps("target"), u32(wire.SAVEFH), *client.steps("d"), wire.link("again"))
    assert (door.backing / "d" / "again").stat().st_nlink == 2
    client.ok(*client.steps("d"), u32(wire.SAVEFH), *client.steps(), wire.rename("again", "moved"))
    assert sorted(os.listdir(door.backing / "d")) == ["l"]
    assert client.status(*client.steps(), wire.remove("d")) == wire.NOTEMPTY
    client.ok(*client.steps("d"), wire.remove("l"))
    client.ok(*client.steps(), wire.remove("d"))
    assert client.status(*client.steps(), wire.lookup("d")) == wire.NOENT


def test_what_is_refused_as_efs_refuses_it(client: Client) -> None:
    for device in (3, 4):
        assert client.status(*client.steps(), wire.create(device, "dev")) == wire.BADTYPE
    deny = wire.open_(b"o", "denied", deny=1, create=wire.unchecked())
    assert client.status(*client.steps(), deny) == wire.NOTSUPP
    by_delegation = wire.open_(b"o", claim=u32(2) + wire.ANONYMOUS.encoded() + wire.opaque(b"x"))
    assert client.status(*client.steps(), by_delegation) == wire.NOTSUPP
    assert client.status(*client.steps(), u32(wire.OPENATTR, 0)) == wire.NOTSUPP
    assert client.status(*client.steps(), u32(wire.LAYOUTGET)) == wire.NOTSUPP
    acl = wire.setattr_(wire.ANONYMOUS, wire.bitmap(12) + wire.opaque(u32(0)))
    client.open("acl")
    assert client.status(*client.steps("acl"), acl) == wire.ATTRNOTSUPP
    named = wire.setattr_(wire.ANONYMOUS, wire.attributes(owner=b"root@example.com"))
    assert client.status(*client.steps("acl"), named) == wire.BADOWNER


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", wire.INVAL),
        (".", wire.BADNAME),
        ("..", wire.BADNAME),
        ("x" * 256, wire.NAMETOOLONG),
        ("a/b", 10040),
    ],
)
def test_names_that_are_none(client: Client, name: str, status: int) -> None:
    assert client.status(*client.steps(), wire.lookup(name)) == status
    assert client.status(*client.steps(), wire.create(2, name)) == status


def test_the_wrong_kind_of_thing(client: Client) -> None:
    client.open("plain")
    client.ok(*client.steps(), wire.create(5, "symbolic", link="plain"))
    client.ok(*client.steps(), wire.create(7, "fifo"))
    assert client.status(*client.steps("plain"), wire.lookup("x")) == wire.NOTDIR
    assert client.status(*client.steps("symbolic"), wire.lookup("x")) == wire.SYMLINK
    assert client.status(*client.steps(), wire.open_(b"o", "symbolic")) == wire.SYMLINK
    assert client.status(*client.steps(), wire.open_(b"o", "fifo")) == 10083
    assert client.status(*client.steps(), wire.read(wire.ANONYMOUS, 0, 1)) == wire.ISDIR
    assert client.status(*client.steps("plain"), wire.readdir()) == wire.NOTDIR
    assert client.status(*client.steps("plain"), u32(wire.READLINK)) == 10083
    assert client.status(u32(wire.GETFH)) == wire.NOFILEHANDLE


def test_three_ways_to_create(door: Door, client: Client) -> None:
    *_, made = client.ok(*client.steps(), wire.open_(b"o", "made", create=wire.guarded(mode=0o600)))
    assert made["set"] == [MODE]
    assert client.status(*client.steps(), wire.open_(b"o", "made", create=wire.guarded())) == wire.EXIST
    (door.backing / "made").write_text("something")
    *_, cut = client.ok(*client.steps(), wire.open_(b"o", "made", create=wire.unchecked(size=0, mode=0o777)))
    assert cut["set"] == [SIZE]
    assert (door.backing / "made").stat().st_size == 0
    assert stat.S_IMODE((door.backing / "made").stat().st_mode) == 0o600

    once = wire.open_(b"o", "once", create=wire.exclusive(b"verify 1", mode=0o640))
    first, again = (client.ok(*client.steps(), once)[-1] for _ in range(2))
    assert set(first["set"]) >= {MODE, 48, 54}
    assert first["state"].other == again["state"].other
    other = wire.open_(b"o", "once", create=wire.exclusive(b"verify 2", mode=0o640))
    assert client.status(*client.steps(), other) == wire.EXIST


def test_opening_again_widens_and_downgrading_narrows(client: Client) -> None:
    handle, reading = client.open("wide", access=1)
    assert client.status(wire.putfh(handle), wire.write(reading, 0, b"x")) == wire.OPENMODE
    _, both = client.open("wide", access=2)
    assert (both.other, both.seqid) == (reading.other, reading.seqid + 1)
    client.ok(wire.putfh(handle), wire.write(both, 0, b"x"))
    assert client.status(wire.putfh(handle), wire.write(reading, 0, b"x")) == wire.OLD_STATEID
    _, narrow = client.ok(wire.putfh(handle), u32(wire.OPEN_DOWNGRADE) + both.encoded() + u32(0, 1, 0))
    assert client.status(wire.putfh(handle), wire.write(narrow, 0, b"x")) == wire.OPENMODE
    assert client.ok(wire.putfh(handle), wire.read(narrow, 0, 5))[-1] == (True, b"x")


def test_the_current_stateid_is_that_of_the_operation_before(client: Client) -> None:
    *_, data, _ = client.ok(
        *client.steps(),
        wire.open_(b"o", "current", create=wire.unchecked(mode=0o600)),
        wire.write(wire.CURRENT, 0, b"now"),
        wire.read(wire.CURRENT, 0, 9),
        wire.close(wire.CURRENT),
    )
    assert data == (True, b"now")


def test_permissions_are_those_of_the_user_who_asks(door: Door, client: Client, connect: Connect) -> None:
    (door.backing / "private").write_text("secret")
    os.chmod(door.backing / "private", 0o640)
    os.chown(door.backing / "private", 1001, 2001)
    stranger = Client(connect(User(5, 5)), ("fs-1",))
    assert stranger.status(*stranger.steps(), wire.open_(b"o", "private", access=1)) == wire.ACCES
    member = Client(connect(User(5, 5, (2001,))), ("fs-1",))
    member.ok(*member.steps(), wire.open_(b"o", "private", access=1))
    assert member.status(*member.steps(), wire.open_(b"o", "private", access=2)) == wire.ACCES
    assert member.ok(*member.steps("private"), u32(wire.ACCESS, 0x3F))[-1] == (0x2D, 0x01)
    owner = Client(connect(User(1001, 1)), ("fs-1",))
    owner.ok(*owner.steps("private"), wire.setattr_(wire.ANONYMOUS, wire.attributes(mode=0o600)))
    chown = wire.setattr_(wire.ANONYMOUS, wire.attributes(owner=b"5"))
    assert owner.status(*owner.steps("private"), chown) == wire.PERM


def test_an_access_point_has_its_root_and_its_user(door: Door, connect: Connect) -> None:
    client = Client(connect(User(0, 0)), ("fsap-1",))
    client.open("by-point")
    made = (door.backing / "ap" / "by-point").stat()
    assert (made.st_uid, made.st_gid) == (1000, 1000)
    root = (door.backing / "ap").stat()
    assert (root.st_uid, stat.S_IMODE(root.st_mode)) == (1000, 0o750)
    assert client.status(*client.steps(), u32(wire.LOOKUPP), wire.lookup("fs-1")) == wire.OK, (
        "the pseudo-root"
    )
    alone = Client(connect(port=door.alone.getsockname()[1]))
    assert alone.status(u32(wire.PUTROOTFH), u32(wire.LOOKUPP)) == wire.NOENT


def test_a_handle_is_worth_nothing_elsewhere(door: Door, connect: Connect) -> None:
    everything = Client(connect(), ("fsap-1",))
    handle, _ = everything.open("bound")
    alone = Client(connect(port=door.alone.getsockname()[1]))
    assert alone.status(wire.putfh(handle)) == wire.STALE
    for at in range(len(handle)):
        forged = bytearray(handle)
        forged[at] ^= 1
        assert everything.status(wire.putfh(bytes(forged))) == wire.BADHANDLE


def test_a_directory_moved_out_of_an_access_points_root_leads_nowhere(door: Door, connect: Connect) -> None:
    client = Client(connect(), ("fsap-1",))
    client.ok(*client.steps(), wire.create(2, "leaves"))
    handle = client.handle("leaves")
    (door.backing / "ap" / "leaves").rename(door.backing / "left")
    assert client.status(wire.putfh(handle), u32(wire.LOOKUPP)) == wire.NOENT


def test_a_large_directory_in_pages(door: Door, client: Client) -> None:
    (door.backing / "many").mkdir()
    wanted = {f"file-{n:04}".encode() for n in range(500)}
    for name in wanted:
        (door.backing / "many" / name.decode()).touch()
    seen: list[bytes] = []
    cookie, complete = 0, False
    while not complete:
        *_, (entries, complete) = client.ok(
            *client.steps("many"), wire.readdir(cookie, TYPE, FILEID, FILEHANDLE, SIZE, maxcount=3000)
        )
        seen += [name for _, name, _ in entries]
        cookie = entries[-1][0] if entries else cookie
    assert len(seen) == len(wanted)
    assert set(seen) == wanted
    handle = entries[-1][2][FILEHANDLE]
    assert client.ok(wire.putfh(handle), wire.getattr_(FILEID))[-1] == {FILEID: entries[-1][2][FILEID]}
    assert client.status(*client.steps("many"), wire.readdir(0, TYPE, maxcount=24)) == 10005
    assert client.status(*client.steps("many"), wire.readdir(1, TYPE)) == 10003


def test_verify_and_nverify(client: Client) -> None:
    handle, _ = client.open("verified")
    size = wire.bitmap(SIZE) + wire.opaque(wire.u64(0))
    other = wire.bitmap(SIZE) + wire.opaque(wire.u64(7))
    verify, nverify = u32(wire.VERIFY), u32(wire.NVERIFY)
    assert client.status(wire.putfh(handle), verify + size) == wire.OK
    assert client.status(wire.putfh(handle), verify + other) == wire.NOT_SAME
    assert client.status(wire.putfh(handle), nverify + size) == wire.SAME
    assert client.status(wire.putfh(handle), nverify + other) == wire.OK


def test_a_removed_file_that_is_open_is_still_there(client: Client) -> None:
    handle, state = client.open("doomed")
    client.ok(wire.putfh(handle), wire.write(state, 0, b"last words"))
    client.ok(*client.steps(), wire.remove("doomed"))
    assert client.ok(wire.putfh(handle), wire.read(state, 0, 99))[-1] == (True, b"last words")
    client.ok(wire.putfh(handle), wire.close(state))


def test_permissions_of_an_export_change_live(door: Door, client: Client) -> None:
    handle, state = client.open("permitted")
    try:
        door.export("fs-1", permissions={"read_only": True})
        assert client.status(wire.putfh(handle), wire.write(state, 0, b"x")) == wire.ROFS
        assert client.status(*client.steps(), wire.create(2, "no")) == wire.ROFS
        door.export("fs-1", permissions={"root_squash": True})
        assert client.status(*client.steps(), wire.create(2, "no")) == wire.ACCES
        door.export("fs-1", permissions={"denied": True})
        assert client.status(wire.putfh(handle), wire.read(state, 0, 1)) == wire.ACCES
    finally:
        door.export("fs-1")
    client.ok(wire.putfh(handle), wire.write(state, 0, b"x"))


def test_traffic_is_metered_and_connections_are_counted(door: Door, client: Client) -> None:
    before = door.call("stats")["volumes"]["fs-1"]
    handle, state = client.open("metered")
    client.ok(wire.putfh(handle), wire.write(state, 0, bytes(50_000)))
    client.ok(wire.putfh(handle), wire.read(state, 0, 50_000))
    after = door.call("stats")["volumes"]["fs-1"]
    assert after["write_bytes"] - before["write_bytes"] == 50_000
    assert after["read_bytes"] - before["read_bytes"] == 50_000
    assert after["metadata_write_ops"] - before["metadata_write_ops"] == 1, "one OPEN that creates"
    assert after["connections"] >= 1


@pytest.mark.parametrize(("want", "why"), [(0x400, 0), (0x500, 7), (0x100, 2), (0x200, 2), (0x300, 2)])
def test_who_wants_a_delegation_or_none_is_told_why_there_is_none(
    client: Client, want: int, why: int
) -> None:
    handle, _ = client.open("wanted")

    opened = client.ok(wire.putfh(handle), wire.open_(b"w", access=1 | want))[-1]

    assert opened["why"] == why


def test_the_mode_of_a_symbolic_link_is_nobodys_business(client: Client) -> None:
    client.ok(*client.steps(), wire.create(5, "pointer", link="nowhere"))

    assert (
        client.status(*client.steps("pointer"), wire.setattr_(wire.ANONYMOUS, wire.attributes(mode=0o755)))
        == wire.OK
    )
