"""What fsd counts: bytes and operations by class, per mount and per volume, and the size of a volume."""

from __future__ import annotations

import os
from typing import Any

from .conftest import Hire, Mount, Server, Volume


def counters(fsd: Server, mount: Mount) -> dict[str, Any]:
    found: dict[str, Any] = fsd.call("stats")["mounts"][mount.name]
    return found


def test_reads_and_writes_are_counted_exactly(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    before = counters(fsd, mount)
    assert before["read_bytes"] == before["write_bytes"] == 0
    fd = a("open_here", f"{mount.path}/f", os.O_RDWR | os.O_CREAT)
    a("os.pwrite", fd, b"x" * 300_000, 0)
    a("os.close", fd)
    written = counters(fsd, mount)
    assert written["write_bytes"] == 300_000
    assert written["write_ops"] >= 1
    fd = a("open_here", f"{mount.path}/f", os.O_RDONLY)
    assert len(a("os.pread", fd, 300_000, 0)) == 300_000
    read = counters(fsd, mount)
    # Readahead and whole pages may add to it; a cache may not hide it.
    assert 300_000 <= read["read_bytes"] <= 1_000_000
    assert read["metadata_ops"] > 0


def test_mounts_are_counted_apart_and_the_volume_together(fsd: Server, volume: Volume, actor: Hire) -> None:
    one, two = fsd.mount(volume), fsd.mount(volume)
    a = actor()
    a("write_file", f"{one.path}/f", b"x" * 1000)
    a("write_file", f"{two.path}/g", b"x" * 2000)
    stats = fsd.call("stats")
    assert (stats["mounts"][one.name]["write_bytes"], stats["mounts"][two.name]["write_bytes"]) == (
        1000,
        2000,
    )
    assert stats["volumes"][volume.name]["write_bytes"] == 3000
    fsd.unmount(one)
    assert fsd.call("stats")["volumes"][volume.name]["write_bytes"] == 3000
    assert one.name not in fsd.call("stats")["mounts"]


def test_usage_follows_what_is_stored(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    empty = fsd.call("volume.usage", volume=volume.name)["bytes"]
    a("write_file", f"{mount.path}/f", bytes(1 << 20))
    full = fsd.call("volume.usage", volume=volume.name)
    assert 1 << 20 <= full["bytes"] - empty <= (1 << 20) + 8192
    a("write_file", f"{mount.path}/f", b"")
    a("os.unlink", f"{mount.path}/f")
    assert fsd.call("volume.usage", volume=volume.name)["bytes"] <= empty + 8192
