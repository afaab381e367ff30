"""metrics.db: puts are durable when acknowledged; what ages becomes coarser, by the clock."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lambay.clock import Clock
from lambay.observe.metrics import schema
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric
from lambay.observe.readers import Readers
from lambay.store import Database

R = TypeVar("R")

_SWEEP_SECONDS = 600.0
_SEALED_AT_ONCE = 4000
_ROLLED_AT_ONCE = 50
_READERS = 2
# In a question values are kept apart further than on disk: putting them together for each point would cost more.
_MERGED_VALUES = 4096

_log = logging.getLogger("lambay.observe")

Points = dict[int, Point]
"""By the second at which a period begins."""


class MetricStore:
    """The file `path`. Between `start` and `close` it also makes old data coarser and forgets it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.clock = clock
        self._database = Database(path, schema.MIGRATIONS)
        self._database.run_blocking(schema.prepare)
        self._readers = Readers(path, _READERS, "metric reader")
        self._sweeper: asyncio.Task[None] | None = None
        # Touched on the database's thread only.
        self._series: schema.SeriesIds = {}

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep(), name="metric retention")

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._database.close)

    async def put(self, data: Sequence[Datum]) -> None:
        """Add `data`, durably; puts that wait for the disk together share one write to it."""

        def work(connection: sqlite3.Connection) -> None:
            try:
                schema.insert(connection, data, self._series)
            except BaseException:
                self._series.clear()
                raise

        await self._database.run(work)

    async def change(self, work: Callable[[sqlite3.Connection], R]) -> R:
        return await self._database.run(work)

    async def read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        return await self._readers.run(work)

    async def sweep(self) -> None:
        """Move what has aged since, all of it."""
        now = int(self.clock.time())
        for resolution in schema.OPEN:
            series: int | None = 0
            while series is not None:
                series = await self._seal(resolution, now, series)
            while await self._roll_up(resolution, now):
                pass
        await self._database.run(lambda connection: schema.forget_series(connection, now, self._series.clear))

    async def clear(self) -> None:
        """Forget everything."""

        def work(connection: sqlite3.Connection) -> None:
            self._series.clear()
            schema.clear(connection)

        await self._database.run(work)

    async def _seal(self, resolution: int, now: int, series: int) -> int | None:
        return await self._database.run(
            lambda connection: schema.seal(connection, resolution, now, _SEALED_AT_ONCE, series)
        )

    async def _roll_up(self, resolution: int, now: int) -> bool:
        return await self._database.run(
            lambda connection: schema.roll_up(connection, resolution, now, _ROLLED_AT_ONCE)
        )

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except sqlite3.Error:
                _log.exception("old metric data could not be put away; trying again later")
            await self.clock.sleep(_SWEEP_SECONDS)


def periods(
    connection: sqlite3.Connection,
    metric: Metric,
    start: int,
    end: int,
    period: int,
    *,
    unit: str | None = None,
    detail: bool = True,
) -> Points:
    """What is known of each period that begins at `start` or whole periods later, before `end`.

    `unit` None takes the values of all units together. Periods without data are absent.
    """
    wanted = [series for series, its_unit in schema.series_of(connection, metric) if unit in (None, its_unit)]
    if not detail:
        return _plain_periods(connection, wanted, start, end, period)
    found: Points = {}
    for series in wanted:
        for at, point in schema.read(connection, series, start, end, period):
            begin = at - (at - start) % period
            there = found.get(begin)
            if there is None:
                found[begin] = point
            else:
                there.merge(point, _MERGED_VALUES)
    return dict(sorted(found.items()))


def _plain_periods(
    connection: sqlite3.Connection, wanted: Sequence[int], start: int, end: int, period: int
) -> Points:
    """`periods` without distributions: thousands of points are added up in a few milliseconds."""
    sums: dict[int, list[float]] = {}
    for series in wanted:
        for at, count, total, low, high in schema.read_plain(connection, series, start, end, period):
            begin = at - (at - start) % period
            there = sums.get(begin)
            if there is None:
                sums[begin] = [count, total, low, high]
                continue
            there[0] += count
            there[1] += total
            if low < there[2]:
                there[2] = low
            if high > there[3]:
                there[3] = high
    return {
        begin: Point(count, total, low, high, None)
        for begin, (count, total, low, high) in sorted(sums.items())
    }
