"""The only source of time.

`Clock` is the wall clock, optionally ahead of it by what `advance` added. Timestamps are UTC. Durations that
measure work (an invocation's milliseconds) use `monotonic`, which `advance` never moves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus an offset; sleepers wake early when `advance` carries the clock past their hour."""

    def __init__(self, ahead: float = 0.0) -> None:
        self._offset = ahead
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._offset

    @property
    def ahead(self) -> float:
        """Seconds that this clock is ahead of the host's."""
        return self._offset

    def now(self) -> datetime:
        """An aware datetime in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def wall(self) -> float:
        """Seconds since the epoch by the host's own clock, the one callers sign with; `advance` never moves it."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds for measuring real work; unrelated to the epoch and to `advance`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Until this clock is `seconds` further, by waiting or by `advance`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self.time() + seconds, next(self._ticket), woken))
        timer = loop.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._sleepers = [entry for entry in self._sleepers if entry[2] is not woken]
            heapq.heapify(self._sleepers)

    def advance(self, by: timedelta) -> None:
        """Move the clock forward and wake everyone whose hour has come.

        Raises ValueError where `by` is negative: time never goes back.
        """
        if by < timedelta(0):
            raise ValueError(f"by: {by} is negative; the clock only moves forward")
        self._offset += by.total_seconds()
        now = self.time()
        while self._sleepers and self._sleepers[0][0] <= now:
            _wake(heapq.heappop(self._sleepers)[2])


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
