"""`Metrics`: how the other rooms put and ask for metrics."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambay.clock import Clock
from lambay.observe.metrics import statistics
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.metrics.store import MetricStore, Points, periods


class Metrics:
    """CloudWatch's metrics of every account and Region; `path` is metrics.db."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.store = MetricStore(path, clock)
        self.clock = clock

    async def start(self) -> None:
        """Begin to put away what ages."""
        await self.store.start()

    async def close(self) -> None:
        await self.store.close()

    async def reset(self) -> None:
        """Forget every metric."""
        await self.store.clear()

    async def put(self, data: Sequence[Datum]) -> None:
        """Add `data`, durably."""
        if data:
            await self.store.put(data)

    async def statistic(
        self,
        account: str,
        region: str,
        namespace: str,
        name: str,
        given: Mapping[str, str],
        statistic: str = "Sum",
        *,
        period: int = 60,
        start: float,
        end: float,
    ) -> list[tuple[int, float]]:
        """Value by the second at which each period begins; periods without data are absent.

        `given` are the dimensions, `statistic` is a name such as `p99`, and `period` counts seconds. Raises
        ValueError for a statistic that there is not.
        """
        asked = statistics.parse(statistic)
        if asked is None:
            raise ValueError(f"statistic: {statistic!r} is not one of CloudWatch's")
        metric = Metric(account, region, namespace, name, dimensions(given))
        begin = int(start) - int(start) % period

        def read(connection: sqlite3.Connection) -> Points:
            return periods(connection, metric, begin, int(end), period, detail=asked.detailed)

        points = await self.store.read(read)
        return [(at, value) for at, point in points.items() if (value := asked.of(point)) is not None]
