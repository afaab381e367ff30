"""Random operations, done twice: on mounts of one volume and on a plain directory. Both tell the same."""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .actor import Actor, errno_name

_NAMES = [b"a", b"b", b"c", b"sub", b"\xff\xfe odd\n", "ünïcødé".encode(), b"x" * 255]
_DIRECTORIES = [b"", b"d1", b"d2", b"d1/e"]
_MODES = [0o777, 0o755, 0o700, 0o644, 0o600, 0o000, 0o4755, 0o2755, 0o2644, 0o1777, 0o6711]
_DIRECTORY_MODES = [0o777, 0o755, 0o755, 0o2775, 0o1777, 0o700, 0o500, 0o300]
_OPEN = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_RDWR | os.O_TRUNC,
]
_RENAMES = ("os.rename", "rename_flags")
#: Errnos that the client's kernel finds before it asks the file system, where ext4 may refuse for its rights.
_EARLIER = {
    "os.rename": ("ENOTDIR", "EISDIR", "ENOENT", "EINVAL"),
    "rename_flags": ("ENOTDIR", "EISDIR", "ENOENT", "EEXIST", "EINVAL"),
    "os.link": ("ENOENT", "EEXIST", "EPERM"),
    "os.unlink": ("EISDIR",),
    "os.rmdir": ("ENOTDIR",),
}
_LONG_AGO = 1_000_000_000 * 10**9
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
_NOREPLACE, _EXCHANGE = 1, 2


@dataclass
class Side:
    """One of the two worlds: where operations go, by which actors, and the descriptors open there."""

    actors: list[Actor]
    roots: list[bytes]
    fds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def path(self, who: int, relative: bytes) -> bytes:
        return os.path.join(self.roots[who], relative) if relative else self.roots[who]

    def act(self, who: int, function: str, *arguments: Any) -> Any:
        """What a call returns, or the name of its errno."""
        try:
            return self.actors[who](function, *arguments)
        except OSError as error:
            return errno_name(error)


@dataclass(frozen=True)
class Deed:
    """An operation, the same for both worlds. `paths` are relative, `slot` names an open file."""

    function: str
    paths: tuple[bytes, ...] = ()
    slot: int | None = None
    arguments: tuple[Any, ...] = ()

    def do(self, side: Side, who: int) -> Any:
        match self.function:
            case "open":
                return self._open(side, who)
            case "close":
                opener, fd = side.fds.pop(self.slot or 0)
                return side.act(opener, "os.close", fd)
            case "os.symlink":
                return side.act(who, "os.symlink", self.arguments[0], side.path(who, self.paths[0]))
        if self.slot is not None:
            opener, fd = side.fds[self.slot]
            return side.act(opener, self.function, fd, *self.arguments)
        return side.act(who, self.function, *(side.path(who, path) for path in self.paths), *self.arguments)

    def _open(self, side: Side, who: int) -> Any:
        answer = side.act(who, "open_here", side.path(who, self.paths[0]), *self.arguments)
        if isinstance(answer, int):
            side.fds[self.slot or 0] = (who, answer)
            return "opened"
        return answer


class Choices:
    """Draws deeds that are likely to meet each other: few names, few directories."""

    def __init__(self, rng: random.Random, gids: list[int]) -> None:
        self.rng = rng
        self.gids = gids
        self.next_slot = 0

    def path(self) -> bytes:
        return os.path.join(self.rng.choice(_DIRECTORIES), self.rng.choice(_NAMES))

    def directory(self) -> bytes:
        return self.rng.choice(_DIRECTORIES[1:]) if self.rng.random() < 0.7 else self.path()

    def offset(self) -> int:
        return self.rng.choice([0, 1, 100, 4095, 4096, 5000, 8192, 70_000, 200_001])

    def content(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 1, 100, 4096, 10_000, 140_000]))

    def deed(self, slots: list[int]) -> Deed:
        rng = self.rng
        if slots and (len(slots) > 8 or rng.random() < 0.45):
            return self._on_open_file(rng.choice(slots), slots)
        return self._on_path()

    def _on_open_file(self, slot: int, slots: list[int]) -> Deed:
        rng = self.rng
        if len(slots) > 8 or rng.random() < 0.1:
            return Deed("close", slot=slot)
        offset, size = self.offset(), self.offset()
        modes = [0, _KEEP_SIZE, _KEEP_SIZE | _PUNCH_HOLE, _ZERO_RANGE, _KEEP_SIZE | _ZERO_RANGE]
        function, arguments = rng.choice(
            [
                ("os.read", (size,)),
                ("os.pread", (size, offset)),
                ("os.write", (self.content(),)),
                ("os.pwrite", (self.content(), offset)),
                ("os.ftruncate", (offset,)),
                ("stat_fd", ()),
                ("os.fsync", ()),
                ("os.fdatasync", ()),
                ("os.lseek", (offset, rng.choice([os.SEEK_SET, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE]))),
                ("fallocate", (rng.choice(modes), offset, size)),
                ("os.fchmod", (rng.choice(_MODES),)),
                ("os.fchown", (-1, rng.choice(self.gids))),
            ]
        )
        return Deed(function, slot=slot, arguments=arguments)

    def _on_path(self) -> Deed:
        rng = self.rng
        path, other = self.path(), self.path()
        now = _LONG_AGO + rng.randrange(10**9)
        target = rng.choice([b"a", b"../a", b"nowhere", b"sub/b", b"d1", b"c", b"./b", b"d2/../a"])
        self.next_slot += 1
        return rng.choice(
            [
                *[Deed("open", (path,), self.next_slot, (rng.choice(_OPEN), rng.choice(_MODES)))] * 5,
                *[Deed("os.mkdir", (self.directory(),), arguments=(rng.choice(_DIRECTORY_MODES),))] * 3,
                Deed("os.rmdir", (self.directory(),)),
                Deed("os.unlink", (path,)),
                *[Deed("os.rename", (path, other))] * 2,
                Deed("os.rename", (self.directory(), self.directory())),
                Deed("rename_flags", (path, other), arguments=(rng.choice([_NOREPLACE, _EXCHANGE]),)),
                *[Deed("os.link", (path, other))] * 2,
                Deed("os.symlink", (path,), arguments=(target,)),
                Deed("os.readlink", (path,)),
                Deed("os.chmod", (path,), arguments=(rng.choice(_MODES),)),
                Deed("os.chmod", (self.directory(),), arguments=(rng.choice(_DIRECTORY_MODES),)),
                Deed("os.lchown", (path,), arguments=(-1, rng.choice(self.gids))),
                Deed("set_times", (path,), arguments=(now, now + 1)),
                Deed("os.truncate", (path,), arguments=(self.offset(),)),
                *[Deed("stat_path", (path,))] * 2,
                *[Deed("lstat_path", (path,))] * 2,
                Deed("os.access", (path,), arguments=(rng.choice([os.R_OK, os.W_OK, os.X_OK, os.F_OK]),)),
                *[Deed("list_sorted", (rng.choice(_DIRECTORIES),))] * 2,
                Deed("os.mkfifo", (path,), arguments=(0o640,)),
                Deed("os.mknod", (path,), arguments=(stat.S_IFREG | 0o640,)),
                Deed("read_file", (path,)) if rng.random() < 0.9 else Deed("os.unlink", (path,)),
            ]
        )


def compare(rng: random.Random, mounts: Side, plain: Side, *, steps: int, gids: list[int]) -> None:
    """`steps` random deeds on both sides; AssertionError, with the history, at the first that differs."""
    choices = Choices(rng, gids)
    history: list[tuple[int, Deed]] = []
    for step in range(steps):
        deed = choices.deed(sorted(plain.fds))
        if deed.function in ("open", "read_file") and _is_fifo(plain, deed.paths[0]):
            continue
        if deed.function == "os.lseek" and _is_directory(plain, deed.slot or 0):
            # Where a directory ends is each file system's own affair.
            continue
        who = rng.randrange(len(mounts.actors))
        history.append((who, deed))
        expected, found = deed.do(plain, 0), deed.do(mounts, who)
        if deed.function in _RENAMES and found == "ESTALE" and len(mounts.actors) > 1:
            # A directory that another mount moved is first met inside this rename, where the client's kernel cannot
            # take it to its new place (as with NFS). Once it has been looked at, it can.
            for path in deed.paths:
                mounts.act(who, "lstat_path", mounts.path(who, path))
            found = deed.do(mounts, who)
        if expected in ("EACCES", "EPERM") and found in _EARLIER.get(deed.function, ()):
            # Two refusals: the client's kernel compares names before it asks, ext4 looks at rights first.
            continue
        assert found == expected, _tell(history, f"step {step} gave {found!r}, expected {expected!r}")
        if step % 25 == 24:
            for directory in _DIRECTORIES:
                # Else everything ends in directories that nobody may enter.
                for function, arguments in (("os.mkdir", ()), ("os.chmod", (0o755,))):
                    deed = Deed(function, (directory,), arguments=arguments)
                    expected, found = deed.do(plain, 0), deed.do(mounts, who)
                    assert found == expected, _tell(history, f"{deed} gave {found!r}, expected {expected!r}")
        if step % 50 == 49:
            watcher = rng.randrange(len(mounts.actors))
            expected = plain.act(0, "snapshot", plain.roots[0])
            found = mounts.act(watcher, "snapshot", mounts.roots[watcher])
            assert found == expected, _tell(history, f"after step {step}: {_difference(found, expected)}")


def _is_fifo(plain: Side, path: bytes) -> bool:
    """Opening a FIFO waits for its other end."""
    try:
        return stat.S_ISFIFO(os.stat(plain.path(0, path)).st_mode)
    except OSError:
        return False


def _is_directory(plain: Side, slot: int) -> bool:
    opener, fd = plain.fds[slot]
    return stat.S_ISDIR(plain.actors[opener]("os.fstat", fd).st_mode)


def _difference(found: Any, expected: Any) -> str:
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return f"{found!r} and {expected!r}"
    names = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    shown = [f"{name!r}: {found.get(name)!r:.300} expected {expected.get(name)!r:.300}" for name in names[:4]]
    return "; ".join(shown)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"


def _tell(history: list[tuple[int, Deed]], what: str) -> str:
    lines = [f"  mount {who}: {_short(deed)}" for who, deed in history[-25:]]
    return "\n".join([what, *lines])


def world(actors: list[Actor], roots: list[Path]) -> Side:
    return Side(actors, [os.fsencode(root) for root in roots])
