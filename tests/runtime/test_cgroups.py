"""Control groups on hosts of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambay.runtime.cgroups import find_hierarchies

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
