"""`Billing`: puts EstimatedCharges each quarter of an hour, and answers `lambay costs`."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection

import msgspec

from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.observe.billing.charges import Charges, Item
from lambay.observe.billing.prices import Prices
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.metrics.service import Metrics

NAMESPACE = "AWS/Billing"
PERIOD_SECONDS = 900.0

_log = logging.getLogger("lambay.observe")


class Billing:
    """The charges of the whole server are the root account's, as of a payer's account."""

    def __init__(
        self,
        metrics: Metrics,
        charges: Charges,
        prices: Prices,
        clock: Clock,
        *,
        account: str,
        regions: Collection[str],
    ) -> None:
        self._metrics = metrics
        self._charges = charges
        self._prices = prices
        self._clock = clock
        self._account = account
        self._regions = sorted(set(regions))
        self._publishing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._publishing = asyncio.create_task(self._run(), name="estimated charges")

    async def stop(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
            self._publishing = None

    async def publish(self) -> None:
        """Put what the month costs so far: in all, by service, and without dimensions as well."""
        amounts = _by_service(await self._charges.items())
        at = int(self._clock.time())
        total = sum(amounts.values())
        sets = [({}, total), ({"Currency": "USD"}, total)]
        sets += [({"Currency": "USD", "ServiceName": name}, amount) for name, amount in amounts.items()]
        await self._metrics.put(
            [
                Datum(
                    Metric(self._account, region, NAMESPACE, "EstimatedCharges", dimensions(each)),
                    at,
                    Point.of(amount),
                )
                for region in self._regions
                for each, amount in sets
            ]
        )

    async def page(self, request: Request) -> Response:
        """`GET /_lambay/costs`: `total`, `services` and `items` in US dollars, `month`, `prices_of`."""
        items = await self._charges.items()
        amounts = _by_service(items)
        told = {
            "month": f"{self._clock.now():%Y-%m}",
            "prices_of": self._prices.as_of,
            "total": sum(amounts.values()),
            "services": [{"service": name, "amount": amount} for name, amount in amounts.items()],
            "items": items,
        }
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode(told) + b"\n")

    async def _run(self) -> None:
        while True:
            try:
                await self.publish()
            except Exception:
                _log.exception("charges could not be estimated; trying again")
            await self._clock.sleep(PERIOD_SECONDS)


def _by_service(items: list[Item]) -> dict[str, float]:
    """The dearest first. The services that this is about are there also where they cost nothing."""
    amounts: defaultdict[str, float] = defaultdict(float, {"AmazonEFS": 0.0, "AWSLambda": 0.0})
    for item in items:
        amounts[item.service] += item.amount
    return dict(sorted(amounts.items(), key=lambda each: -each[1]))
