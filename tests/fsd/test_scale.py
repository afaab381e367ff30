"""Many mounts and many files on one server. Run by `make soak`, which shows what they take (`-s`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Hire, Server, Volume
from .test_survival import resident

pytestmark = pytest.mark.soak

MIB = 1 << 20


def descriptors(fsd: Server) -> int:
    return len(list(Path(f"/proc/{fsd.process.pid}/fd").iterdir()))


def threads(fsd: Server) -> int:
    return len(list(Path(f"/proc/{fsd.process.pid}/task").iterdir()))


def test_a_thousand_idle_mounts(fsd: Server, volume: Volume, actor: Hire) -> None:
    a = actor()
    a("write_file", f"{fsd.mount(volume).path}/f", b"content")
    before, began_with = resident(fsd), threads(fsd)
    mounts = [fsd.mount(volume, uid=1000 + number) for number in range(1000)]
    for mount in mounts:
        assert a("read_file", f"{mount.path}/f") == b"content"
    each = (resident(fsd) - before) / len(mounts)
    print(
        f"1,000 mounts: {each / 1024:.0f} KiB resident each, {threads(fsd)} threads, {descriptors(fsd)} descriptors"
    )
    assert each < 512 * 1024
    assert threads(fsd) == began_with
    for mount in mounts:
        fsd.unmount(mount)
    assert a.errno("os.stat", f"{mounts[0].path}/f") == "ENOENT"


def test_a_million_known_files(fsd: Server, volume: Volume, actor: Hire) -> None:
    """The client's kernel remembers every one; the server finds them again by their handles."""
    directories, files = 100, 10_000
    makers = [actor(), actor()]
    for directory in range(directories):
        (volume.backing / f"d{directory}").mkdir()
        makers[directory % 2].begin("fill_directory", str(volume.backing / f"d{directory}"), 0, files).result(
            120
        )
    mount, a = fsd.mount(volume).path, actor()
    before = resident(fsd)
    assert a.begin("stat_tree", str(mount)).result(600) == directories * (files + 1)
    known = fsd.call("stats")["volumes"][volume.name]["known_inodes"]
    took = resident(fsd) - before
    print(
        f"{known:,} known files: {took / MIB:.0f} MiB resident, {took / known:.0f} bytes each, "
        f"{descriptors(fsd)} descriptors"
    )
    assert known > directories * files
    assert took / known < 400
    assert descriptors(fsd) < 20_000
    for number in (0, 4_999, 9_999):
        name = sorted(os.listdir(volume.backing / "d7"))[number]
        a("write_file", f"{mount}/d7/{name}", b"again")
        assert (volume.backing / "d7" / name).read_bytes() == b"again"
