"""Random reads, writes, truncations, holes and maps of one file through several mounts, and a bytearray."""

from __future__ import annotations

import os
import random
from pathlib import Path

from .actor import Actor

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
_LARGEST = 300_000


class File:
    """One file, open in every actor, and what it should hold."""

    def __init__(self, rng: random.Random, actors: list[Actor], paths: list[Path]) -> None:
        self.rng = rng
        self.actors = actors
        self.content = bytearray()
        self.fds = [
            actor("open_here", str(path), os.O_RDWR | os.O_CREAT, 0o666)
            for actor, path in zip(actors, paths, strict=True)
        ]
        self.other_fds = [
            actor("open_here", str(path), os.O_RDONLY) for actor, path in zip(actors, paths, strict=True)
        ]
        self.history: list[str] = []

    def step(self) -> None:
        who = self.rng.randrange(len(self.actors))
        size = len(self.content)
        offset = self.rng.randrange(size + 1) if self.rng.random() < 0.8 else self.rng.randrange(_LARGEST)
        length = min(self.rng.choice([1, 7, 512, 4096, 4097, 50_000, 131_072]), _LARGEST - offset) or 1
        deed = self.rng.choice(
            [
                self.read,
                self.read,
                self.write,
                self.write,
                self.truncate,
                self.punch,
                self.zero,
                self.mapped,
                self.copy,
            ]
        )
        self.history.append(f"mount {who}: {deed.__name__} {offset} {length} (size {size})")
        deed(who, offset, length)

    def same(self, found: bytes, offset: int, what: str) -> None:
        expected = bytes(self.content[offset : offset + len(found)])
        if found != expected:
            first = next(n for n, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            wrong = f"{what}: byte {offset + first} is {found[first]}, expected {expected[first]}"
            raise AssertionError(self._tell(wrong))

    def _tell(self, what: str) -> str:
        return "\n".join([what, *self.history[-25:]])

    def read(self, who: int, offset: int, length: int) -> None:
        which = self.rng.randrange(2)
        fd = (self.fds, self.other_fds)[which][who]
        self.history[-1] += " by the read-only descriptor" if which else ""
        found = self.actors[who]("os.pread", fd, length, offset)
        expected = max(0, min(length, len(self.content) - offset))
        assert len(found) == expected, self._tell(f"read gave {len(found)} bytes, expected {expected}")
        self.same(found, offset, "read")

    def write(self, who: int, offset: int, length: int) -> None:
        content = self.rng.randbytes(length)
        assert self.actors[who]("os.pwrite", self.fds[who], content, offset) == length
        self._grow(offset)
        self.content[offset : offset + length] = content

    def truncate(self, who: int, offset: int, length: int) -> None:
        self.actors[who]("os.ftruncate", self.fds[who], offset)
        self._grow(offset)
        del self.content[offset:]

    def punch(self, who: int, offset: int, length: int) -> None:
        self.actors[who]("fallocate", self.fds[who], _PUNCH_HOLE | _KEEP_SIZE, offset, length)
        end = min(offset + length, len(self.content))
        self.content[offset:end] = bytes(max(0, end - offset))

    def zero(self, who: int, offset: int, length: int) -> None:
        self.actors[who]("fallocate", self.fds[who], _ZERO_RANGE, offset, length)
        self._grow(offset + length)
        self.content[offset : offset + length] = bytes(length)

    def copy(self, who: int, offset: int, length: int) -> None:
        source = self.rng.randrange(len(self.content) + 1)
        length = min(length, len(self.content) - source)
        if abs(source - offset) < length or length == 0:
            return
        # As every copying program does: the kernel compares with the size that it knew last.
        self.actors[who]("os.fstat", self.fds[who])
        copied = self.actors[who]("os.copy_file_range", self.fds[who], self.fds[who], length, source, offset)
        assert copied == length, self._tell(f"copied {copied} bytes, expected {length}")
        self._grow(offset + copied)
        self.content[offset : offset + copied] = self.content[source : source + copied]

    def mapped(self, who: int, offset: int, length: int) -> None:
        """A shared map sees every completed write."""
        length = min(length, len(self.content) - offset)
        if length <= 0:
            return
        actor, fd = self.actors[who], self.fds[who]
        actor("map_file", fd, len(self.content), True)
        self.same(actor("map_read", fd, offset, length), offset, "map")
        content = self.rng.randbytes(length)
        actor("map_write", fd, offset, content)
        actor("map_sync", fd)
        actor("unmap", fd)
        self.content[offset : offset + length] = content

    def _grow(self, size: int) -> None:
        self.content.extend(bytes(max(0, size - len(self.content))))

    def check(self) -> None:
        """Every mount shows the whole content and the size."""
        for actor, fd in zip(self.actors, self.fds, strict=True):
            size = actor("os.fstat", fd).st_size
            assert size == len(self.content), self._tell(f"size {size}, expected {len(self.content)}")
            self.same(actor("os.pread", fd, _LARGEST * 2, 0), 0, "check")
