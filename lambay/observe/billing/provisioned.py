"""Provisioned concurrency's GB-seconds, which are paid for whether anybody calls or not."""

from __future__ import annotations

from collections import defaultdict

from lambay.observe.live import Fleet
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.publishing.functions import USAGE


class ProvisionedUsage:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def __call__(self, at: int, seconds: float) -> list[Datum]:
        """Of the minute that began at `at` and counts so many seconds."""
        found: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        for each in self._fleet.environments():
            if each.initialization_type != "on-demand":
                found[each.account, each.region, each.function] += each.memory_mb / 1024 * seconds
        return [
            Datum(
                Metric(
                    account,
                    region,
                    USAGE,
                    "LambdaProvisionedGigabyteSeconds",
                    dimensions({"FunctionName": function}),
                ),
                at,
                Point.of(amount),
            )
            for (account, region, function), amount in found.items()
        ]
