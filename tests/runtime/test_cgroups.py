"""Control groups on hosts of every kind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lambay.runtime import cgroups
from lambay.runtime.cgroups import ControlGroup, ControlGroups, Hierarchies, find_hierarchies

from .arrange import build, invocation
from .test_life import leftovers

V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "".join(
    f"{number} 31 0:{number} / /sys/fs/cgroup/{names} rw - cgroup cgroup rw,{names}\n"
    for number, names in ((32, "cpu,cpuacct"), (35, "memory"), (37, "freezer"), (39, "pids"))
)
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def test_a_v2_host_has_all_in_one_tree() -> None:
    found = find_hierarchies(V2)

    assert found.limits_in_v2
    assert found.roots == (Path("/sys/fs/cgroup"),)


def test_a_hybrid_host_limits_with_v1_and_kills_with_v2() -> None:
    found = find_hierarchies(V1 + UNIFIED)

    assert not found.limits_in_v2
    assert found.unified == Path("/sys/fs/cgroup/unified")
    assert found.v1["cpu"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert len(found.roots) == 5


def test_a_v1_host_has_no_unified_tree() -> None:
    assert find_hierarchies(V1).unified is None


@pytest.mark.parametrize(
    ("mountinfo", "complaint"),
    [
        ("", "no cgroup file system is mounted"),
        (V1.replace("memory", "blkio"), "cgroup v1 controllers memory are not mounted"),
    ],
)
def test_what_is_missing_is_named(mountinfo: str, complaint: str) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        find_hierarchies(mountinfo)


async def test_sandboxes_live_in_v2s_tree_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This kernel's own v2 tree, as on a host that has no other; limits are written where it has their controllers."""
    unified = find_hierarchies().unified
    if unified is None:
        pytest.skip("this host has no cgroup v2 tree")

    def write(path: Path, text: str) -> None:
        if path.exists() or path.name.startswith("cgroup."):
            path.write_text(text)

    monkeypatch.setattr(cgroups, "_write", write)
    monkeypatch.setattr(cgroups, "_enable", lambda group, where: None)
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: Hierarchies(unified, {}))
    bench = await build(tmp_path)
    try:
        spec = bench.function(
            """
            import os
            def handler(event, context):
                if event == "crash":
                    os._exit(1)
                return open("/proc/self/cgroup").read().splitlines()[-1]
            """,
            timeout_s=60,
        )
        environment = await bench.fleet.acquire(spec)
        slot = environment._slot
        assert slot is not None
        group = unified / f"lambay-{bench.settings.tag}" / slot.group._memory.name
        assert (group / "cgroup.procs").read_text() != ""
        assert (await bench.fleet.invoke(environment, invocation(spec))).payload == b'"0::/"'
        slot.group.freeze()
        bench.fleet.release(environment)
        await bench.fleet.reset()
        assert not group.exists()
        assert (await bench.invoke(spec, "crash")).error_type == "Runtime.ExitError"
        assert await bench.answer(spec) == "0::/"
    finally:
        await bench.fleet.stop()
    assert leftovers(bench.settings.tag) == []


def test_what_a_killed_instance_left_is_ended_and_removed(tmp_path: Path) -> None:
    """Its processes do not end at once, and a group is removed only when they have."""
    groups = ControlGroups("test-of-leftovers")
    groups.start()
    group = groups.make("slot-1")
    sleeper = subprocess.Popen(["sleep", "600"])
    group.enter(sleeper.pid)
    group.freeze()

    groups.stop()

    assert sleeper.wait(60) == -9
    assert leftovers("test-of-leftovers") == []


def unified_group(directory: Path) -> tuple[ControlGroup, Path]:
    """A v2 group whose files are plain ones, on hosts whose own v2 tree has no controllers as well."""
    group = directory / "slot"
    group.mkdir()
    for name in (
        "memory.max",
        "memory.swap.max",
        "cpu.max",
        "pids.max",
        "cgroup.procs",
        "cgroup.freeze",
        "cgroup.kill",
    ):
        (group / name).touch()
    return ControlGroup(Hierarchies(directory, {}), "slot"), group


def test_v2_limits(tmp_path: Path) -> None:
    group, files = unified_group(tmp_path)

    group.limit_memory(128)
    group.limit_cpu(1769)
    group.enter(42)

    assert (files / "memory.max").read_text() == str(128 << 20)
    assert (files / "memory.swap.max").read_text() == "0"
    assert (files / "cpu.max").read_text() == "20000 20000"
    assert (files / "pids.max").read_text() == "1024"
    assert (files / "cgroup.procs").read_text() == "42"


def test_v2_tells_of_memory(tmp_path: Path) -> None:
    group, files = unified_group(tmp_path)
    (files / "memory.peak").write_text(f"{50 << 20}\n")
    (files / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n")

    assert group.peak_memory_mb() == 50
    assert group.out_of_memory()


def test_freezing_and_ending_are_v2s(tmp_path: Path) -> None:
    group, files = unified_group(tmp_path)

    group.freeze()
    frozen = (files / "cgroup.freeze").read_text()
    group.thaw()
    group.kill()

    assert (frozen, (files / "cgroup.freeze").read_text(), (files / "cgroup.kill").read_text()) == (
        "1",
        "0",
        "1",
    )
