"""Advisory locks over mounts and processes: one table, whoever asks and whichever way."""

from __future__ import annotations

import fcntl
import os
import signal
from fcntl import F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from pathlib import Path

import pytest

from .actor import Actor, Pending
from .conftest import Hire, Mount, Server, Volume, every_way


@pytest.fixture
def mounts(fsd: Server, volume: Volume) -> list[Mount]:
    """Two mounts of one volume with an empty file `f`."""
    (volume.backing / "f").touch(0o666)
    (volume.backing / "f").chmod(0o666)
    return [fsd.mount(volume), fsd.mount(volume)]


def opened(actor: Actor, mount: Mount, name: str = "f") -> int:
    fd: int = actor("open_here", str(mount.path / name), os.O_RDWR | os.O_CREAT)
    return fd


@pytest.mark.parametrize("other", [0, 1], ids=["same mount", "other mount"])
class TestBetweenProcesses:
    def test_ranges_exclude_each_other(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_WRLCK, 10, 10)
        assert b.errno("lock", fb, F_WRLCK, 19, 1) == "EAGAIN"
        assert b.errno("lock", fb, F_RDLCK, 0, 0) == "EAGAIN"
        b("lock", fb, F_WRLCK, 20, 0)
        assert a.errno("lock", fa, F_WRLCK, 15, 0) == "EAGAIN"
        a("lock", fa, F_UNLCK, 0, 0)
        b("lock", fb, F_WRLCK, 0, 0)

    def test_readers_share(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_RDLCK)
        b("lock", fb, F_RDLCK)
        assert a.errno("lock", fa, F_WRLCK) == "EAGAIN"
        b("lock", fb, F_UNLCK)
        a("lock", fa, F_WRLCK)

    def test_getlk_tells_the_lock_in_the_way(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        assert b("get_lock", fb, F_WRLCK)[0] == F_UNLCK
        a("lock", fa, F_RDLCK, 100, 50)
        kind, start, length, pid = b("get_lock", fb, F_WRLCK, 0, 0)
        assert (kind, start, length) == (F_RDLCK, 100, 50)
        assert pid == a.pid or other == 1
        assert b("get_lock", fb, F_RDLCK, 0, 0)[0] == F_UNLCK
        assert a("get_lock", fa, F_WRLCK, 0, 0)[0] == F_UNLCK

    def test_a_waiter_gets_the_lock_when_it_is_free(
        self, mounts: list[Mount], actor: Hire, other: int
    ) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_WRLCK, 0, 100)
        waiting = b.begin_blocked("fcntl", "lock", fb, F_WRLCK, 50, 1, True)
        a("lock", fa, F_UNLCK, 0, 50)
        assert not waiting.done
        a("lock", fa, F_UNLCK, 50, 50)
        waiting.result()

    def test_flock_excludes_and_waits(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("flock", fa, LOCK_SH)
        b("flock", fb, LOCK_SH)
        assert b.errno("flock", fb, LOCK_EX | LOCK_NB) == "EAGAIN"
        waiting = b.begin_blocked("flock", "flock", fb, LOCK_EX)
        a("flock", fa, LOCK_UN)
        waiting.result()
        assert a.errno("flock", fa, LOCK_SH | LOCK_NB) == "EAGAIN"

    def test_flock_and_fcntl_do_not_know_each_other(
        self, mounts: list[Mount], actor: Hire, other: int
    ) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("flock", fa, LOCK_EX)
        b("lock", fb, F_WRLCK)

    def test_a_circle_is_refused(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_WRLCK, 0, 1)
        b("lock", fb, F_WRLCK, 1, 1)
        waiting = a.begin_blocked("fcntl", "lock", fa, F_WRLCK, 1, 1, True)
        assert b.errno("lock", fb, F_WRLCK, 0, 1, True) == "EDEADLK"
        b("lock", fb, F_UNLCK, 1, 1)
        waiting.result()

    def test_closing_any_descriptor_releases_the_processes_ranges(
        self, mounts: list[Mount], actor: Hire, other: int
    ) -> None:
        a, b = actor(), actor()
        fa, second, fb = opened(a, mounts[0]), opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_WRLCK)
        a("os.close", second)
        b("lock", fb, F_WRLCK)

    def test_a_flock_lives_as_long_as_its_open_file(
        self, mounts: list[Mount], actor: Hire, other: int
    ) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("flock", fa, LOCK_EX)
        copy = a("os.dup", fa)
        a("os.close", fa)
        assert b.errno("flock", fb, LOCK_EX | LOCK_NB) == "EAGAIN"
        a("os.close", copy)
        b("flock", fb, LOCK_EX)

    @pytest.mark.parametrize("family", ["fcntl", "flock"])
    def test_kill_9_releases_what_was_held(
        self, mounts: list[Mount], actor: Hire, other: int, family: str
    ) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        if family == "fcntl":
            a("lock", fa, F_WRLCK)
            waiting = b.begin_blocked("fcntl", "lock", fb, F_WRLCK, 0, 0, True)
        else:
            a("flock", fa, LOCK_EX)
            waiting = b.begin_blocked("flock", "flock", fb, LOCK_EX)
        a.kill()
        waiting.result()

    def test_a_killed_waiter_leaves_the_queue(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b, c = actor(), actor(), actor()
        fa, fb, fc = opened(a, mounts[0]), opened(b, mounts[other]), opened(c, mounts[other])
        a("lock", fa, F_WRLCK)
        b.begin_blocked("fcntl", "lock", fb, F_WRLCK, 0, 0, True)
        b.kill()
        waiting = c.begin_blocked("fcntl", "lock", fc, F_WRLCK, 0, 0, True)
        a("lock", fa, F_UNLCK)
        waiting.result()

    def test_a_signal_ends_the_wait(self, mounts: list[Mount], actor: Hire, other: int) -> None:
        a, b = actor(), actor()
        fa, fb = opened(a, mounts[0]), opened(b, mounts[other])
        a("lock", fa, F_WRLCK)
        waiting = b.begin_blocked("fcntl", "interrupted_lock", fb, F_WRLCK)
        os.kill(b.pid, signal.SIGUSR1)
        assert waiting.result() == "interrupted"
        a("lock", fa, F_UNLCK)
        c = actor()
        c("lock", opened(c, mounts[0]), F_WRLCK)


@every_way
def test_waiters_are_served_in_the_order_they_came(mounts: list[Mount], actor: Hire) -> None:
    a = actor()
    fa = opened(a, mounts[0])
    a("lock", fa, F_WRLCK)
    queue: list[tuple[Actor, int, Pending]] = []
    for number in range(6):
        each = actor()
        fd = opened(each, mounts[number % 2])
        queue.append((each, fd, each.begin_blocked("fcntl", "lock", fd, F_WRLCK, 0, 0, True)))
    a("lock", fa, F_UNLCK)
    for number, (each, fd, pending) in enumerate(queue):
        pending.result()
        assert not any(later.done for _, _, later in queue[number + 1 :])
        each("lock", fd, F_UNLCK)


@every_way
def test_more_waiters_than_any_queue_is_deep(mounts: list[Mount], fsd: Server, actor: Hire) -> None:
    """Parked requests must not block the unlock that they wait for, nor anything else on that mount."""
    a, b = actor(), actor()
    fa = opened(a, mounts[0])
    a("flock", fa, LOCK_EX)
    waiters = b.begin("wait_in_threads", str(mounts[0].path / "f"), 200)
    # Every waiter has its request in the queue, or the kernel has no more room; neither may stop the others.
    assert b.wait_for_threads_in("flock", 200) == 200
    a("write_file", str(mounts[0].path / "g"), b"works meanwhile")
    assert a("read_file", str(mounts[0].path / "g")) == b"works meanwhile"
    a("flock", fa, LOCK_UN)
    assert waiters.result() == 200


@every_way
def test_unmounting_releases_locks_and_waiters(mounts: list[Mount], fsd: Server, actor: Hire) -> None:
    a, b, c = actor(), actor(), actor()
    fa, fb, fc = opened(a, mounts[0]), opened(b, mounts[1]), opened(c, mounts[0])
    a("lock", fa, F_WRLCK, 0, 10)
    a("flock", fa, LOCK_EX)
    ranges = b.begin_blocked("fcntl", "lock", fb, F_WRLCK, 5, 1, True)
    own = c.begin_blocked("fcntl", "lock", fc, F_WRLCK, 5, 1, True)
    fsd.unmount(mounts[0])
    ranges.result()
    b("flock", fb, LOCK_EX)
    with pytest.raises(OSError, match=r"."):
        own.result()


def test_a_lock_taken_through_different_access_points_is_one_lock(
    fsd: Server, volume: Volume, actor: Hire
) -> None:
    """The same file under two roots."""
    (volume.backing / "dir").mkdir()
    (volume.backing / "dir/f").touch()
    whole, inner = fsd.mount(volume), fsd.mount(volume, root="/dir")
    a, b = actor(), actor()
    fa, fb = opened(a, whole, "dir/f"), opened(b, inner)
    a("lock", fa, F_WRLCK)
    assert b.errno("lock", fb, F_RDLCK) == "EAGAIN"


def test_hard_links_share_their_locks(mounts: list[Mount], actor: Hire) -> None:
    a, b = actor(), actor()
    a("os.link", str(mounts[0].path / "f"), str(mounts[0].path / "g"))
    fa, fb = opened(a, mounts[0], "f"), opened(b, mounts[1], "g")
    a("flock", fa, LOCK_EX)
    assert b.errno("flock", fb, LOCK_EX | LOCK_NB) == "EAGAIN"


@every_way
@pytest.mark.parametrize("whole", [False, True], ids=["fcntl", "flock"])
def test_counters_under_a_lock_lose_no_increment(
    fsd: Server, volume: Volume, actor: Hire, whole: bool
) -> None:
    mounts = [fsd.mount(volume).path for _ in range(3)]
    actors = [actor() for _ in range(6)]
    actors[0]("write_file", f"{mounts[0]}/counter", bytes(8))
    begun = [
        each.begin("count_up", f"{mounts[number % 3]}/counter", 200, whole)
        for number, each in enumerate(actors)
    ]
    for pending in begun:
        pending.result(60)
    assert int.from_bytes(Path(volume.backing / "counter").read_bytes(), "little") == 6 * 200


def test_a_lock_needs_the_descriptors_mode(mounts: list[Mount], actor: Hire) -> None:
    a = actor()
    fd = a("open_here", str(mounts[0].path / "f"), os.O_RDONLY)
    assert a.errno("lock", fd, fcntl.F_WRLCK) == "EBADF"
