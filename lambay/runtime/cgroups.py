"""Control groups: what an environment may use, what it has used, and how it is frozen and ended.

Limits are cgroup v2's where its controllers are there, else v1's. Freezing and ending is v2's on hybrid
hosts too (it is mounted at /sys/fs/cgroup/unified there): a process that v1's freezer holds ignores SIGKILL.
See Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from lambay import pidfd

# Lambda gives one vCPU at this size and a share below: Lambda Developer Guide, "Configure memory".
MEMORY_OF_ONE_CPU_MB = 1769
_PERIOD_US = 20_000
_SHORTEST_QUOTA_US = 1_000
_PIDS = 1024
_END_SECONDS = 10.0
_CONTROLLERS = ("memory", "cpu", "pids")


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where this host has each controller: `unified` is v2's tree, `v1` what is mounted the old way."""

    unified: Path | None
    v1: dict[str, Path]

    @property
    def limits_in_v2(self) -> bool:
        return not self.v1

    @property
    def roots(self) -> tuple[Path, ...]:
        found = list(self.v1.values())
        if self.unified is not None:
            found.append(self.unified)
        return tuple(dict.fromkeys(found))


def find_hierarchies(mountinfo: str | None = None) -> Hierarchies:
    """Raises RuntimeError naming the controllers that the host lacks."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    unified: Path | None = None
    v1: dict[str, Path] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        mounted_at = Path(before.split(" ")[4])
        if kind == "cgroup2" and unified is None:
            unified = mounted_at
        elif kind == "cgroup":
            for name in options.split(" ")[1].split(","):
                if name in (*_CONTROLLERS, "freezer"):
                    v1.setdefault(name, mounted_at)
    if any(name in v1 for name in _CONTROLLERS):
        missing = [name for name in _CONTROLLERS if name not in v1]
        if missing:
            raise RuntimeError(
                f"cgroup v1 controllers {', '.join(missing)} are not mounted under /sys/fs/cgroup"
            )
        return Hierarchies(unified, v1)
    if unified is None:
        raise RuntimeError(
            "no cgroup file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup"
        )
    return Hierarchies(unified, {})


class ControlGroups:
    """All control groups of one instance: `lambay-TAG` in every hierarchy, one child an environment."""

    def __init__(self, tag: str, hierarchies: Hierarchies | None = None) -> None:
        self._hierarchies = hierarchies or find_hierarchies()
        self._name = f"lambay-{tag}"

    def start(self) -> None:
        """End what an earlier instance left and make the parent groups."""
        self.stop()
        unified = self._hierarchies.unified
        if self._hierarchies.limits_in_v2:
            assert unified is not None
            _enable(unified, unified)
        for root in self._hierarchies.roots:
            (root / self._name).mkdir(exist_ok=True)
        if self._hierarchies.limits_in_v2:
            assert unified is not None
            _enable(unified / self._name, unified / self._name)

    def stop(self) -> None:
        """Kill every process of this instance's environments and remove the groups. Raises OSError."""
        found: list[Path] = []
        for root in self._hierarchies.roots:
            parent = root / self._name
            if parent.is_dir():
                found += [*(entry for entry in parent.iterdir() if entry.is_dir()), parent]
        for group in found:
            _end(group)
        for group in found:
            _remove(group)

    def make(self, name: str) -> ControlGroup:
        return ControlGroup(self._hierarchies, f"{self._name}/{name}")


class ControlGroup:
    """One environment's group. Limits are set before its first process enters."""

    def __init__(self, hierarchies: Hierarchies, name: str) -> None:
        v1 = hierarchies.v1
        self._directories = tuple(root / name for root in hierarchies.roots)
        self._v2_limits = hierarchies.limits_in_v2
        self._unified = hierarchies.unified / name if hierarchies.unified else None
        self._freezer = v1["freezer"] / name if self._unified is None and "freezer" in v1 else None
        home = self._unified if self._v2_limits else None
        self._memory = home or v1["memory"] / name
        self._cpu = home or v1["cpu"] / name
        self._pids = home or v1["pids"] / name
        self._limit_mb = 0
        self._peak = -1
        for directory in self._directories:
            directory.mkdir(exist_ok=True)
        _write(self._pids / "pids.max", str(_PIDS))

    def limit_memory(self, megabytes: int) -> None:
        """At most `megabytes` MiB, and no swap."""
        limit = str(megabytes * 1024 * 1024)
        self._limit_mb = megabytes
        if self._v2_limits:
            _write(self._memory / "memory.max", limit)
            with contextlib.suppress(FileNotFoundError):
                _write(self._memory / "memory.swap.max", "0")
            return
        _write(self._memory / "memory.limit_in_bytes", limit)
        with contextlib.suppress(FileNotFoundError):
            _write(self._memory / "memory.memsw.limit_in_bytes", limit)

    def limit_cpu(self, megabytes: int) -> None:
        """From now on, the CPU share of a function of this memory size; until then it is all of the host's."""
        quota = max(_SHORTEST_QUOTA_US, _PERIOD_US * megabytes // MEMORY_OF_ONE_CPU_MB)
        if self._v2_limits:
            _write(self._cpu / "cpu.max", f"{quota} {_PERIOD_US}")
            return
        _write(self._cpu / "cpu.cfs_period_us", str(_PERIOD_US))
        _write(self._cpu / "cpu.cfs_quota_us", str(quota))

    def enter(self, pid: int) -> None:
        """Move the process into the group; its later children are born there."""
        for directory in self._directories:
            _write(directory / "cgroup.procs", str(pid))

    def entrances(self) -> tuple[list[int], list[int]]:
        """Descriptors to enter by: v1's `tasks`, into which a process of one thread writes `0` for itself,
        and, where there is one, v2's directory, into which a process can be cloned.

        Neither takes the lock over all processes of the host that moving others does, which waits for an
        RCU grace period.
        """
        opened: list[int] = []
        try:
            v1 = [directory / "tasks" for directory in self._directories if directory != self._unified]
            opened += [os.open(tasks, os.O_WRONLY | os.O_CLOEXEC) for tasks in v1]
            if self._unified is None:
                return opened, []
            return opened, [os.open(self._unified, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise

    def processes(self) -> list[int]:
        """The host's pids of all that run in the group."""
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in (self._memory / "cgroup.procs").read_text().split()]
        return []

    def freeze(self) -> None:
        if self._unified is not None:
            _write(self._unified / "cgroup.freeze", "1")
        elif self._freezer is not None:
            _write(self._freezer / "freezer.state", "FROZEN")

    def thaw(self) -> None:
        if self._unified is not None:
            _write(self._unified / "cgroup.freeze", "0")
        elif self._freezer is not None:
            _write(self._freezer / "freezer.state", "THAWED")

    def kill(self) -> None:
        """SIGKILL to every process, frozen or not."""
        with contextlib.suppress(FileNotFoundError):
            if self._freezer is not None:
                self.thaw()
            _kill(self._unified or self._memory)

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for want of memory."""
        name = "memory.events" if self._v2_limits else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self._memory / name).read_text().splitlines():
                key, _, count = line.partition(" ")
                if key == "oom_kill":
                    return int(count) > 0
        return False

    def peak_memory_mb(self) -> int:
        """The most that was in use at once, in MiB; 0 where the kernel does not tell (v2 before 5.19)."""
        name = "memory.peak" if self._v2_limits else "memory.max_usage_in_bytes"
        try:
            if self._peak < 0:
                self._peak = os.open(self._memory / name, os.O_RDONLY | os.O_CLOEXEC)
            peak = int(os.pread(self._peak, 32, 0))
        except OSError:
            return 0
        return min(-(-peak // 1048576), self._limit_mb or 1 << 30)

    def remove(self) -> None:
        """Remove the group; every process has to have ended."""
        if self._peak >= 0:
            os.close(self._peak)
            self._peak = -1
        for directory in self._directories:
            _remove(directory)


def _enable(group: Path, where: Path) -> None:
    have = (group / "cgroup.controllers").read_text().split()
    missing = [name for name in _CONTROLLERS if name not in have]
    if missing:
        raise RuntimeError(f"cgroup v2 at {where} has no controllers {', '.join(missing)}")
    wanted = " ".join(f"+{name}" for name in _CONTROLLERS)
    try:
        _write(group / "cgroup.subtree_control", wanted)
    except OSError:
        # Only leaves may hold processes, except in the host's true root: move a container's own to a leaf.
        leaf = group / "init"
        leaf.mkdir(exist_ok=True)
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                _write(leaf / "cgroup.procs", pid)
        _write(group / "cgroup.subtree_control", wanted)


def _end(group: Path) -> None:
    """Kill what runs there and return once it has ended: a group is removed only then."""
    ends: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                ends.append(os.pidfd_open(int(pid)))
    _kill(group)
    for end in ends:
        pidfd.ended(end, _END_SECONDS)
        os.close(end)


def _kill(group: Path) -> None:
    try:
        _write(group / "cgroup.kill", "1")
        return
    except OSError:
        # v1, or v2 before Linux 5.14.
        pass
    with contextlib.suppress(FileNotFoundError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _remove(group: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        group.rmdir()


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
