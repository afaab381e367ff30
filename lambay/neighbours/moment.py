"""What moto sees of the world while it handles one request: the time, randomness, and key pairs.

moto is deterministic once these are: a request replayed in the same `Moment` on the same state leaves the
same state, identifiers and creation dates included. `Moment`s are per thread. Outside of one, the time is the
clock's and randomness is the system's.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class ReplayDiverged(Exception):
    """A replayed request asked for more recorded values than the original did."""


@dataclass(slots=True)
class Moment:
    """The time is frozen at `time` (seconds since the epoch) and all randomness comes from `seed`.

    `tape` keeps values that cannot be drawn from a seed (an RSA key): the original request records them, a
    replay reads them back in the same order. `body` is the stored content the request carries, if any, and
    `replay` tells the two apart.
    """

    time: float
    seed: bytes
    tape: list[bytes] = field(default_factory=list)
    replay: bool = False
    body: object = None
    _draws: random.Random = field(init=False, repr=False)
    _blocks: int = 0
    _taken: int = 0

    def __post_init__(self) -> None:
        self._draws = random.Random(int.from_bytes(self.seed, "big"))

    @property
    def draws(self) -> random.Random:
        return self._draws

    def octets(self, count: int) -> bytes:
        """`count` bytes fit for keys.

        SHAKE-256 of the seed and a counter, so they are as secret as the seed.
        """
        self._blocks += 1
        return hashlib.shake_256(self.seed + self._blocks.to_bytes(8, "big")).digest(count)

    def recorded(self, make: Callable[[], bytes]) -> bytes:
        """The next value of the tape; the original request makes it, a replay takes what was made then."""
        if not self.replay:
            self.tape.append(make())
        elif self._taken >= len(self.tape):
            raise ReplayDiverged(f"value {self._taken + 1} was not recorded")
        self._taken += 1
        return self.tape[self._taken - 1]


_local = threading.local()


def current() -> Moment | None:
    """The moment of this thread's request, or None outside of one."""
    moment: Moment | None = getattr(_local, "moment", None)
    return moment


@contextmanager
def within(moment: Moment | None) -> Iterator[None]:
    """Run the body of the `with` in `moment` (None: in the present), then return to where the thread was."""
    before = current()
    _local.moment = moment
    try:
        yield
    finally:
        _local.moment = before


def octets(count: int) -> bytes:
    """`os.urandom`, or what stands for it in this moment."""
    moment = current()
    return os.urandom(count) if moment is None else moment.octets(count)


_system = random.SystemRandom()


def draws() -> random.Random:
    """The source of identifiers: the moment's, or the system's."""
    moment = current()
    return _system if moment is None else moment.draws
