"""What went through NAT gateways, `AWS/NATGateway`, and between Availability Zones, which is billed.

Amazon VPC User Guide, "NAT gateway metrics and dimensions".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Literal, Protocol

from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.publishing.functions import USAGE

NAMESPACE = "AWS/NATGateway"
CROSS_ZONE = "CrossZoneBytes"
# A gateway hands on what it takes in: what it got from one side it sent to the other.
_NAT = {"out": ("InFromSource", "OutToDestination"), "in": ("InFromDestination", "OutToSource")}

_log = logging.getLogger("lambay.observe")


class Meter(Protocol):
    """`resource` is a NAT gateway or a file system; `out` and `in` are a gateway's, as seen from its VPC."""

    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def way(self) -> Literal["out", "in", "zones"]: ...


class Passed(Protocol):
    """What has passed a meter since the last look."""

    @property
    def meter(self) -> Meter: ...
    @property
    def bytes(self) -> int: ...
    @property
    def packets(self) -> int: ...


class NetworkTraffic:
    """`passed` gives what has passed since it was called last. Raises OSError."""

    def __init__(self, passed: Callable[[], Awaitable[Sequence[Passed]]]) -> None:
        self._passed = passed

    async def __call__(self, at: int, seconds: float) -> list[Datum]:
        try:
            passed = await self._passed()
        except OSError as error:
            _log.warning("the network's meters are not read: %s", error)
            return []
        return [
            Datum(metric, at, Point.of(float(amount)), unit)
            for each in passed
            for metric, unit, amount in _metrics(each)
        ]

    async def forget(self) -> None:
        """What has passed so far is nobody's."""
        await self(0, 0.0)


def _metrics(passed: Passed) -> Iterator[tuple[Metric, str, int]]:
    meter = passed.meter
    kind = "NatGatewayId" if meter.resource.startswith("nat-") else "FileSystemId"
    named = dimensions({kind: meter.resource})
    if meter.way == "zones":
        yield Metric(meter.account, meter.region, USAGE, CROSS_ZONE, named), "Bytes", passed.bytes
        return
    for name in _NAT[meter.way]:
        for unit, amount in (("Bytes", passed.bytes), ("Packets", passed.packets)):
            told = "Bytes" if unit == "Bytes" else "Count"
            yield Metric(meter.account, meter.region, NAMESPACE, unit + name, named), told, amount
