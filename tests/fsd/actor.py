"""A process that acts on a mount for a test, under an identity of its own.

The tests themselves never touch a mount: what hangs is then an actor, which a deadline finds, and not pytest.
Run as a program it reads pickled requests from its standard input and answers on its standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import pickle
import random
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

#: Seconds after which a call counts as hung.
DEADLINE = 30.0

_LENGTH = struct.Struct("<I")
_SYSCALLS = {"fcntl": 72, "flock": 73}


def errno_name(error: OSError) -> str:
    """`EACCES` and the like; of two names for one number the usual one."""
    usual = {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}
    number = error.errno or 0
    return usual.get(number) or errno.errorcode.get(number, str(number))


class Pending:
    """A call under way."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    @property
    def done(self) -> bool:
        return bool(select.select([self._actor.answers], [], [], 0)[0])

    def result(self, deadline: float = DEADLINE) -> Any:
        """What the call returned, or its OSError. A call that hangs is an AssertionError."""
        if not select.select([self._actor.answers], [], [], deadline)[0]:
            raise AssertionError(f"hung for {deadline:g} s: {self._actor.describe()}")
        kind, value = _receive(self._actor.answers)
        if kind == "errno":
            raise OSError(*value)
        if kind == "raise":
            raise AssertionError(f"the actor failed: {value}")
        return value


class Actor:
    """One process; one call at a time. `actor("os.stat", path)` runs that function there."""

    def __init__(self, uid: int = 0, gid: int = 0, groups: tuple[int, ...] = (), umask: int = 0o022) -> None:
        identity = [str(uid), str(gid), ",".join(map(str, groups)), str(umask)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *identity], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, function: str, *arguments: Any) -> Pending:
        _send(self.requests, (function, arguments))
        return Pending(self)

    def __call__(self, function: str, *arguments: Any) -> Any:
        return self.begin(function, *arguments).result()

    def errno(self, function: str, *arguments: Any) -> str | None:
        """The name of the errno that the call fails with; None when it succeeds."""
        try:
            self(function, *arguments)
        except OSError as error:
            return errno_name(error)
        return None

    def begin_blocked(self, syscall: str, function: str, *arguments: Any) -> Pending:
        """Begin a call and return once the process sleeps in that system call."""
        pending = self.begin(function, *arguments)
        until = time.monotonic() + DEADLINE
        while not pending.done:
            # The kernel tells nobody that a process went to sleep: look, and give others the processor.
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            number = Path(f"/proc/{self.pid}/syscall").read_text().split()[0]
            if state in "SD" and number == str(_SYSCALLS[syscall]):
                return pending
            assert time.monotonic() < until, f"never blocked in {syscall}: {self.describe()}"
            os.sched_yield()
        return pending

    def wait_for_threads_in(self, syscall: str, count: int) -> int:
        """Return how many threads sleep in a system call, once `count` do."""
        until = time.monotonic() + DEADLINE
        number = str(_SYSCALLS[syscall])
        while True:
            tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
            asleep = sum((task / "syscall").read_text().split()[0] == number for task in tasks)
            if asleep >= count:
                return asleep
            assert time.monotonic() < until, f"{asleep} threads in {syscall}: {self.describe()}"
            os.sched_yield()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, deadline: float = DEADLINE) -> int:
        """The end of the process; one that cannot die is an AssertionError."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not die: {self.describe()}") from None

    def close(self) -> None:
        self.process.kill()
        self.process.stdin and self.process.stdin.close()
        self.process.stdout and self.process.stdout.close()
        self.process.wait(5)

    def describe(self) -> str:
        """Where the kernel has it."""
        parts = []
        for name in ("stat", "syscall", "stack"):
            try:
                parts.append(f"{name}: {Path(f'/proc/{self.pid}/{name}').read_text().strip()}")
            except OSError as error:
                parts.append(f"{name}: {error.strerror}")
        return "\n".join(parts)


def _send(stream: IO[bytes], message: Any) -> None:
    body = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    # Unbuffered, so that select tells the truth about what is left to read.
    def exactly(length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            part = os.read(stream.fileno(), length - len(parts))
            if not part:
                raise EOFError("the other end is gone")
            parts += part
        return bytes(parts)

    return pickle.loads(exactly(_LENGTH.unpack(exactly(_LENGTH.size))[0]))


# What an actor can do beside the functions of `os`.

_libc = ctypes.CDLL(None, use_errno=True)
_maps: dict[int, mmap.mmap] = {}


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read_file(path: str | bytes) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        return stream.readall()


def write_file(path: str | bytes, content: bytes) -> int:
    with open(path, "wb", buffering=0) as stream:
        return stream.write(content)


def open_here(path: str | bytes, flags: int, mode: int = 0o666) -> int:
    return os.open(path, flags, mode)


def lock(fd: int, kind: int, start: int = 0, length: int = 0, block: bool = False) -> None:
    """fcntl with F_RDLCK, F_WRLCK or F_UNLCK over the open file."""
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, fcntl.F_SETLKW if block else fcntl.F_SETLK, request)


def get_lock(fd: int, kind: int, start: int = 0, length: int = 0) -> tuple[int, int, int, int]:
    """F_GETLK: kind, start, length and pid of the first lock in the way; kind F_UNLCK when none is."""
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, request))
    return kind, start, length, pid


def flock(fd: int, operation: int) -> None:
    fcntl.flock(fd, operation)


def wait_in_threads(path: str, count: int) -> int:
    """Wait for an exclusive flock in many threads at once; how many got it, one after the other."""
    got = []

    def wait() -> None:
        fd = os.open(path, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        got.append(fd)
        os.close(fd)

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(got)


def interrupted_lock(fd: int, kind: int) -> str:
    """Wait for a lock until SIGUSR1 comes."""

    def stop(*_: object) -> None:
        raise InterruptedError

    signal.signal(signal.SIGUSR1, stop)
    try:
        lock(fd, kind, block=True)
    except InterruptedError:
        return "interrupted"
    return "granted"


def count_up(path: str, times: int, whole: bool) -> None:
    """Add one to the number in a file, `times` times, each under a lock."""
    fd = os.open(path, os.O_RDWR)
    for _ in range(times):
        if whole:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            lock(fd, fcntl.F_WRLCK, 0, 8, block=True)
        value = int.from_bytes(os.pread(fd, 8, 0), "little")
        os.pwrite(fd, (value + 1).to_bytes(8, "little"), 0)
        if whole:
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            lock(fd, fcntl.F_UNLCK, 0, 8)
    os.close(fd)


def append_records(path: str, who: int, times: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for number in range(times):
        os.write(fd, struct.pack("<II", who, number))
    os.close(fd)


def churn(directory: str, seed: int, seconds: float, names: int) -> None:
    """Make, rename, link and remove names where others do so too; what a race explains is no error.

    At least 50 changes, however long they take.
    """
    rng = random.Random(seed)
    fine = {
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOTEMPTY,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EINVAL,
        errno.EPERM,
        errno.ESTALE,
    }
    done = 0
    os.chdir(directory)
    until = time.monotonic() + seconds

    def path() -> str:
        inner = f"/d{rng.randrange(3)}" if rng.random() < 0.3 else ""
        return f".{inner}/{'d' if rng.random() < 0.3 else 'f'}{rng.randrange(names)}"

    while done < 50 or time.monotonic() < until:
        try:
            match rng.randrange(8):
                case 0:
                    os.mkdir(path())
                case 1:
                    os.rmdir(path())
                case 2 | 3:
                    os.close(
                        os.open(path(), os.O_CREAT | os.O_WRONLY | (os.O_EXCL if rng.random() < 0.5 else 0))
                    )
                case 4:
                    os.unlink(path())
                case 5:
                    os.rename(path(), path())
                case 6:
                    os.link(path(), path())
                case 7:
                    os.listdir()
            done += 1
        except OSError as error:
            if error.errno not in fine:
                raise


def write_acknowledged(directory: str, name: str, acknowledged: str) -> None:
    """Append numbered records for ever; note each beside the mount after its write was acknowledged.

    From within the mount, and opening the file each time: an absolute path would lead past a mount that is
    gone, and a file that is open may go on by itself (passthrough).
    """
    os.chdir(directory)
    note = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    number = 0
    while True:
        record = struct.pack("<Q", number)
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, record)
        os.close(fd)
        os.write(note, record)
        number += 1


def publish(directory: str, acknowledged: str, times: int, observers: int) -> None:
    """Change a value, a size and names, and say beside the mount what has been done.

    The note holds 8-byte words: the last number done, the number after which it ended (0 until then), and
    how often each observer has looked. It ends after `times` changes, or when each observer has looked 20 times if that
    is later: how the processes are scheduled does not decide how much is seen.
    """
    note = os.open(acknowledged, os.O_RDWR)
    value = os.open(f"{directory}/value", os.O_WRONLY)
    log = os.open(f"{directory}/log", os.O_WRONLY | os.O_APPEND)
    number = 0
    while number < times or min(struct.unpack(f"<{observers}Q", os.pread(note, 8 * observers, 16))) < 20:
        number += 1
        record = struct.pack("<Q", number)
        os.pwrite(value, record, 0)
        os.write(log, record)
        os.close(os.open(f"{directory}/n{number}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644))
        os.chmod(f"{directory}/value", 0o600 | number & 0o77)
        if number > 3:
            os.unlink(f"{directory}/n{number - 3}")
        os.pwrite(note, record, 0)
    os.pwrite(note, struct.pack("<Q", number), 8)


def observe(directory: str, acknowledged: str, who: int) -> None:
    """Look through another mount until `publish` has ended. What was acknowledged before a look must be seen."""
    note = os.open(acknowledged, os.O_RDWR)
    value = os.open(f"{directory}/value", os.O_RDONLY)
    looks = last = 0
    while not last:
        done, last = struct.unpack("<QQ", os.pread(note, 16, 0))
        (seen,) = struct.unpack("<Q", os.pread(value, 8, 0))
        assert seen >= done, f"value {seen} after {done} was acknowledged"
        size = os.stat(f"{directory}/log").st_size
        assert size >= done * 8, f"size {size} after record {done} was acknowledged"
        if done > 3:
            gone = f"{directory}/n{done - 3}"
            assert not os.path.exists(gone), f"{gone} is there after its removal was acknowledged"
        if done:
            exists = os.path.exists(f"{directory}/n{done}")
            (now,) = struct.unpack("<Q", os.pread(note, 8, 0))
            assert exists or now >= done + 2, f"n{done} is not there after it was acknowledged ({now} by now)"
        looks += 1
        os.pwrite(note, struct.pack("<Q", looks), 16 + 8 * who)
    assert os.stat(f"{directory}/value").st_mode & 0o777 == 0o600 | last & 0o77


def hammer(path: str, who: int, seed: int, seconds: float, pages: int) -> None:
    """Count up in pages of one's own and look at all pages, by reads and by maps: no count ever goes back.

    `who` is this actor's number of 4; page n belongs to actor n % 4. At least 50 steps, however long they take.
    """
    rng = random.Random(seed)
    # Apart, because what is open for reading alone may be cached.
    fd, out = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    view = mmap.mmap(fd, pages * 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    seen = [0] * pages
    steps = 0
    until = time.monotonic() + seconds
    while steps < 50 or time.monotonic() < until:
        page = rng.randrange(pages)
        if page % 4 == who and rng.random() < 0.5:
            seen[page] += 1
            os.pwrite(out, struct.pack("<Q", seen[page]) * 512, page * 4096)
        elif rng.random() < 0.5:
            (now,) = struct.unpack_from("<Q", view, page * 4096)
            assert now >= seen[page], f"page {page} by map: {now} after {seen[page]}"
            seen[page] = now
        else:
            span = rng.randrange(1, 9)
            content = os.pread(fd, 4096 * span, page * 4096)
            for n in range(len(content) // 4096):
                (now,) = struct.unpack_from("<Q", content, n * 4096)
                assert now >= seen[page + n], f"page {page + n} by read: {now} after {seen[page + n]}"
                seen[page + n] = now
        if rng.random() < 0.02:
            os.close(fd)
            fd = os.open(path, os.O_RDONLY)
        steps += 1


def scribble(path: str, seed: int, seconds: float) -> None:
    """Whatever moves pages: maps, direct and cached reads and writes, cuts, holes, fsync, close.

    What the file then holds is anybody's; that every call comes back is the point.
    """
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    steps = 0
    while steps < 20 or time.monotonic() < until:
        fd = os.open(path, rng.choice([os.O_RDWR, os.O_RDWR, os.O_RDONLY]))
        may_write = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        size = os.fstat(fd).st_size
        view = None
        if size:
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if may_write else 0)
            with contextlib.suppress(ValueError):  # it was cut meanwhile
                view = mmap.mmap(fd, size, mmap.MAP_SHARED, protection)
        for _ in range(rng.randrange(1, 20)):
            offset = rng.randrange(300_000)
            deed = rng.randrange(8)
            if deed == 0 and may_write:
                os.pwrite(fd, rng.randbytes(rng.choice([1, 4096, 70_000])), offset)
            elif deed == 1:
                os.pread(fd, rng.choice([1, 4096, 70_000]), offset)
            elif deed == 2 and may_write:
                os.ftruncate(fd, offset)
            elif deed == 3 and may_write:
                with contextlib.suppress(OSError):
                    fallocate(fd, 3, offset, 10_000)
            elif deed == 4 and may_write:
                os.fsync(fd)
            elif view is not None and deed in (5, 6) and offset < len(view):
                # A page that was cut off is SIGBUS: that ends a child, not this actor.
                child = os.fork()
                if child == 0:
                    if deed == 5 and may_write:
                        view[offset] = 7
                    else:
                        _ = view[offset]
                    os._exit(0)
                os.waitpid(child, 0)
            elif view is not None and may_write and deed == 7:
                with contextlib.suppress(OSError):
                    view.flush()
        if view is not None:
            view.close()
        os.close(fd)
        steps += 1


def wait_for_size(path: str, size: int) -> None:
    while not os.path.exists(path) or os.path.getsize(path) < size:
        os.sched_yield()


def map_file(fd: int, length: int, writable: bool) -> None:
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    _maps[fd] = mmap.mmap(fd, length, mmap.MAP_SHARED, protection)


def map_private(fd: int, length: int) -> bytes:
    with mmap.mmap(fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
        return view[:]


def map_read(fd: int, offset: int, length: int) -> bytes:
    return _maps[fd][offset : offset + length]


def map_write(fd: int, offset: int, content: bytes) -> None:
    _maps[fd][offset : offset + len(content)] = content


def map_sync(fd: int) -> None:
    _maps[fd].flush()


def unmap(fd: int) -> None:
    _maps.pop(fd).close()


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _check(_libc.fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)))


def rename_flags(source: bytes, target: bytes, flags: int) -> None:
    _check(_libc.renameat2(-100, source, -100, target, flags))


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def statx_times(path: str | bytes) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns


def fill_directory(directory: str, first: int, last: int) -> None:
    for number in range(first, last):
        os.close(os.open(f"{directory}/f{number:07d}", os.O_CREAT | os.O_WRONLY, 0o644))


def run(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def stat_tree(root: str) -> int:
    """stat every name below; how many there are."""
    count = 0
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            os.lstat(os.path.join(directory, name))
            count += 1
    return count


def write_until_full(path: str, chunk: int = 1 << 20) -> tuple[int, str]:
    """Write until it fails; bytes written and the errno's name."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    written = 0
    try:
        while True:
            written += os.write(fd, b"x" * chunk)
    except OSError as error:
        return written, errno_name(error)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def go_down(levels: int) -> None:
    """Make directories named d below one another and end in the last."""
    for _ in range(levels):
        os.mkdir("d")
        os.chdir("d")


def go_up(levels: int) -> None:
    """The way back, taking them away."""
    for _ in range(levels):
        os.chdir("..")
        os.rmdir("d")


def hold_open(path: str, count: int) -> int:
    """Open one file `count` times and keep all of them; how many that are."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, max(count + 64, 20_000)))
    return len([os.open(path, os.O_RDONLY) for _ in range(count)])


def snapshot(root: bytes) -> dict[bytes, tuple[Any, ...]]:
    """Every name below `root`: kind and mode, owner, links, content. Hard links share a number."""
    found: dict[bytes, tuple[Any, ...]] = {}
    numbers: dict[int, int] = {}
    todo = [b""]
    while todo:
        directory = todo.pop()
        for name in sorted(os.listdir(os.path.join(root, directory) if directory else root)):
            path = os.path.join(directory, name)
            full = os.path.join(root, path)
            status = os.lstat(full)
            kind = stat.S_IFMT(status.st_mode)
            content: Any = None
            if kind == stat.S_IFREG:
                content = (status.st_size, _content(full))
            elif kind == stat.S_IFLNK:
                content = os.readlink(full)
            elif kind == stat.S_IFDIR and os.access(full, os.R_OK | os.X_OK):
                todo.append(path)
            number = numbers.setdefault(status.st_ino, len(numbers))
            times = status.st_mtime_ns if status.st_mtime_ns < _OLD else None
            found[path] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_nlink,
                number,
                content,
                times,
            )
    return found


#: 2005: tests set times before it, so that a later one means "now".
_OLD = 1_100_000_000 * 10**9


def _content(path: bytes) -> Any:
    try:
        return read_file(path)
    except OSError as error:
        return errno_name(error)


def describe_status(status: os.stat_result) -> tuple[Any, ...]:
    size = None if stat.S_ISDIR(status.st_mode) else status.st_size
    times = status.st_mtime_ns if status.st_mtime_ns < _OLD else None
    return (oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, size, times)


def set_times(path: bytes, atime: int, mtime: int) -> None:
    os.utime(path, ns=(atime, mtime))


def stat_path(path: bytes) -> tuple[Any, ...]:
    return describe_status(os.stat(path))


def lstat_path(path: bytes) -> tuple[Any, ...]:
    return describe_status(os.lstat(path))


def stat_fd(fd: int) -> tuple[Any, ...]:
    return describe_status(os.fstat(fd))


def list_sorted(path: bytes) -> list[bytes]:
    return sorted(os.listdir(path))


def _resolve(function: str) -> Any:
    if function.startswith("os."):
        return getattr(os, function.removeprefix("os."))
    return globals()[function]


def _act(uid: int, gid: int, groups: list[int], umask: int) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(umask)
    while True:
        try:
            function, arguments = _receive(requests)
        except EOFError:
            return
        try:
            answer = ("value", _resolve(function)(*arguments))
        except OSError as error:
            answer = ("errno", (error.errno, f"{function}: {error.strerror}"))
        except Exception as error:
            answer = ("raise", repr(error))
        _send(answers, answer)


if __name__ == "__main__":
    _uid, _gid, _groups, _umask = sys.argv[1:]
    _act(int(_uid), int(_gid), [int(group) for group in _groups.split(",") if group], int(_umask))
