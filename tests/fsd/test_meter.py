"""What fsd counts: bytes and operations by class, per mount and per volume, and the size of a volume."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from .conftest import Hire, Mount, Server, Volume, every_way
from .oracle import compare, world


def counters(fsd: Server, mount: Mount) -> dict[str, Any]:
    found: dict[str, Any] = fsd.call("stats")["mounts"][mount.name]
    return found


def after_release(fsd: Server, mount: Mount, expected: dict[str, int]) -> dict[str, Any]:
    """The counters once they are `expected`: the kernel tells a last close after `close` returned."""
    until = time.monotonic() + 60
    while True:
        found = counters(fsd, mount)
        if all(found[name] == value for name, value in expected.items()) or time.monotonic() > until:
            return found


@every_way
def test_reads_and_writes_are_counted_exactly(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    before = counters(fsd, mount)
    assert before["read_bytes"] == before["write_bytes"] == 0
    a("write_file", f"{mount.path}/f", b"x" * 300_000)
    written = after_release(fsd, mount, {"write_bytes": 300_000})
    assert written["write_bytes"] == 300_000
    assert written["write_ops"] >= 1
    assert len(a("read_file", f"{mount.path}/f")) == 300_000
    read = after_release(fsd, mount, {"read_bytes": 300_000})
    assert read["read_bytes"] == 300_000
    assert read["read_ops"] >= 1
    assert read["metadata_ops"] > 0
    assert read["metadata_bytes"] == 4096 * read["metadata_ops"]


def test_mounts_are_counted_apart_and_the_volume_together(fsd: Server, volume: Volume, actor: Hire) -> None:
    one, two = fsd.mount(volume), fsd.mount(volume)
    a = actor()
    a("write_file", f"{one.path}/f", b"x" * 1000)
    a("write_file", f"{two.path}/g", b"x" * 2000)
    assert after_release(fsd, one, {"write_bytes": 1000})["write_bytes"] == 1000
    assert after_release(fsd, two, {"write_bytes": 2000})["write_bytes"] == 2000
    assert fsd.call("stats")["volumes"][volume.name]["write_bytes"] == 3000
    fsd.unmount(one)
    stats = fsd.call("stats")
    assert stats["volumes"][volume.name]["write_bytes"] == 3000
    assert one.name not in stats["mounts"]


@every_way
def test_usage_follows_what_is_stored(fsd: Server, volume: Volume, actor: Hire) -> None:
    mount, a = fsd.mount(volume), actor()
    empty = fsd.call("volume.usage", volume=volume.name)["bytes"]
    a("write_file", f"{mount.path}/f", bytes(1 << 20))
    full = fsd.call("volume.usage", volume=volume.name)
    assert 1 << 20 <= full["bytes"] - empty <= (1 << 20) + 8192
    a("write_file", f"{mount.path}/f", b"")
    a("os.unlink", f"{mount.path}/f")
    assert fsd.call("volume.usage", volume=volume.name)["bytes"] <= empty + 8192


@every_way
def test_usage_kept_step_by_step_is_what_a_count_finds(
    scratch: Path, fsd: Server, volume: Volume, actor: Hire, rng: random.Random
) -> None:
    """After random operations; a server that was killed counts anew."""
    plain = scratch / "plain"
    plain.mkdir()
    mounts = [fsd.mount(volume, uid=1234, gids=(4321,)) for _ in range(2)]
    for root in (plain, volume.backing):
        os.chown(root, 1234, 1234)
        root.chmod(0o755)
    actors = [actor(1234, 1234, (4321,)) for _ in range(3)]
    roots = [mount.path for mount in mounts]
    compare(rng, world(actors[1:], roots), world(actors[:1], [plain]), steps=600, gids=[1234, 4321])
    for each in actors:
        each.close()
    for mount in mounts:
        fsd.unmount(mount)
    kept = fsd.call("volume.usage", volume=volume.name)
    fsd.kill()
    (scratch / "second").mkdir()
    again = Server(scratch / "second")
    again.volume(volume.backing, volume.name)
    counted = again.call("volume.usage", volume=volume.name)
    assert again.stop() == 0
    assert {name: kept[name] for name in ("bytes", "files")} == {
        name: counted[name] for name in ("bytes", "files")
    }
