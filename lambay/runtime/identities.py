"""Host uids for sandboxes: one of its own for each slot, and no two instances share any.

An instance claims one of many ranges with a lock on a file in /run/lambay/uids, which the kernel gives back
when the instance ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FIRST_UID = 0x40000000
RANGE = 0x10000
_RANGES = 1024
_DIRECTORY = Path("/run/lambay/uids")


class Identities:
    def __init__(self, directory: Path = _DIRECTORY) -> None:
        self._directory = directory
        self._lock = -1
        self._base = 0
        self._next = 0
        self._taken: set[int] = set()

    def start(self) -> None:
        """Claim a range. Raises RuntimeError where all are taken."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(_RANGES):
            lock = os.open(self._directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            self._lock = lock
            self._base = FIRST_UID + number * RANGE
            return
        raise RuntimeError(f"all {_RANGES} ranges of sandbox uids in {self._directory} are taken")

    def take(self) -> int:
        """A uid that no running slot has; the one free for longest."""
        for _ in range(RANGE):
            uid = self._base + self._next
            self._next = (self._next + 1) % RANGE
            if uid not in self._taken:
                self._taken.add(uid)
                return uid
        raise RuntimeError(f"all {RANGE} sandbox uids are taken")

    def give_back(self, uid: int) -> None:
        self._taken.discard(uid)

    def stop(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
