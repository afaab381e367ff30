"""The client that matters: Linux's own, in a virtual machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Door
from .guest import Guest

OPTIONS = "vers=4.1,proto=tcp,addr=10.0.2.2,clientaddr=10.0.2.15,hard,timeo=50,retrans=2"


@pytest.fixture(scope="module")
def guest(door: Door) -> Iterator[Guest]:
    guest = Guest()
    try:
        guest.run(f"mount -t nfs4 -o {OPTIONS},port={door.port} 10.0.2.2:/fs-1 /mnt")
        yield guest
    finally:
        guest.stop()


def test_it_mounts_and_sees_what_efs_shows(guest: Guest) -> None:
    mounted = guest.run("grep /mnt /proc/mounts")
    assert "vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard" in mounted
    blocks, size = guest.run("stat -f -c '%b %S' /mnt").split()
    assert int(blocks) * int(size) == (2**43 - 1) << 20


def test_a_tree_of_files(guest: Guest, door: Door) -> None:
    said = guest.run("""
        set -e
        cd /mnt; mkdir tree; cd tree
        for i in 1 2 3 4 5 6 7 8 9; do mkdir d$i; echo $i > d$i/file; ln -s ../d1/file d$i/link; done
        mv d9 moved; rm -r d8; ln d1/file hard; chmod 640 hard; chown 12:34 hard; touch -d '2001-02-03 04:05:06' d2/file
        mkfifo fifo; echo more >> d1/file; echo cut > d3/file; truncate -s 10000 d4/file
        ls | wc -l; cat moved/link; stat -c '%a %u %g %h %s' d1/file; stat -c %y d2/file
        find . | wc -l
    """)
    assert said.splitlines()[:4] == ["10", "1", "more", "640 12 34 2 7"]
    assert said.splitlines()[4].startswith("2001-02-03 04:05:06")
    assert said.splitlines()[5] == str(1 + 8 * 3 + 2)
    tree = door.backing / "tree"
    assert (tree / "d3" / "file").read_text() == "cut\n"
    assert (tree / "d4" / "file").stat().st_size == 10000
    guest.run("rm -r /mnt/tree")
    assert not tree.exists()


def test_large_files_arrive_whole(guest: Guest, door: Door) -> None:
    content = os.urandom(8 << 20)
    (door.backing / "from-outside").write_bytes(content)
    guest.run("cp /mnt/from-outside /mnt/copy; sync")
    assert (door.backing / "copy").read_bytes() == content
    sums = guest.run("echo 3 > /proc/sys/vm/drop_caches; cd /mnt; md5sum from-outside copy")
    assert len({line.split()[0] for line in sums.splitlines()}) == 1


def test_a_flock_excludes_a_function_and_is_excluded(guest: Guest, door: Door) -> None:
    (door.backing / "lock").touch()
    root = {"uid": 0, "gid": 0, "gids": []}
    with tempfile.TemporaryDirectory() as directory:
        door.call("mount", mount="function", volume="fs-1", mountpoint=directory, posix=root)
        try:
            with (Path(directory) / "lock").open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                assert guest.run("flock -n /mnt/lock true && echo got || echo busy") == "busy"
                fcntl.flock(file, fcntl.LOCK_UN)
                assert guest.run("flock -n /mnt/lock true && echo got || echo busy") == "got"
                guest.begin("flock /mnt/lock sh -c 'echo HELD; while [ ! -e /mnt/enough ]; do sleep 1; done'")
                guest.wait_for("HELD")
                with pytest.raises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (door.backing / "enough").touch()
                assert guest.result()[0] == 0
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            door.call("unmount", mount="function")


def test_a_hard_mount_writes_on_over_the_death_of_the_server(guest: Guest, door: Door) -> None:
    """And an open file with a lock is the client's again."""
    guest.begin("""
        set -e
        exec 9>/mnt/locked; flock -n 9
        i=0
        while [ $i -lt 24 ]; do
            dd if=/dev/urandom of=/tmp/block bs=64k count=4 2>/dev/null
            cat /tmp/block >> /tmp/all; cat /tmp/block >> /mnt/survivor
            i=$((i+1)); [ $i != 6 ] || echo HALF-WAY
        done
        echo still >&9; sync; md5sum < /tmp/all; md5sum < /mnt/survivor
    """)
    guest.wait_for("HALF-WAY")
    door.kill()
    status, said = guest.result()
    assert status == 0, said
    sent, seen = said.splitlines()[-2:]
    assert sent == seen
    assert (door.backing / "survivor").stat().st_size == 24 * (256 << 10)
    assert (door.backing / "locked").read_text() == "still\n"


def test_it_unmounts(guest: Guest) -> None:
    guest.run("umount /mnt; ! grep /mnt /proc/mounts")
