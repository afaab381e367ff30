"""From metrics to charges, month to date. The metrics are what was really stored, moved and run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from lambay.clock import Clock
from lambay.observe.billing.prices import GIB, Prices
from lambay.observe.metrics import schema
from lambay.observe.metrics.records import Metric
from lambay.observe.metrics.service import Metrics
from lambay.observe.publishing.file_systems import NAMESPACE as EFS
from lambay.observe.publishing.functions import NAMESPACE as LAMBDA
from lambay.observe.publishing.functions import USAGE
from lambay.observe.publishing.network import CROSS_ZONE
from lambay.observe.publishing.network import NAMESPACE as NAT
from lambay.observe.publishing.ports import FileSystems, WatchedFileSystem

_HOUR = 3600
# Provisioned throughput includes what bursting's baseline would be: 1 MiB/s for 20 GiB of Standard storage.
_INCLUDED_MIBPS_A_GIB = 1 / 20


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the bill; `quantity` counts `unit`s, `amount` is in US dollars."""

    service: str
    resource: str
    usage: str
    quantity: float
    unit: str
    amount: float


class NatGateway(Protocol):
    """A NAT gateway; `created` and `deleted` are seconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def created(self) -> float: ...
    @property
    def deleted(self) -> float | None: ...


NatGateways = Callable[[], Awaitable[Sequence[NatGateway]]]


class Charges:
    """Works out the charges of the month that the clock is in."""

    def __init__(
        self,
        metrics: Metrics,
        file_systems: FileSystems,
        nat_gateways: NatGateways,
        prices: Prices,
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._file_systems = file_systems
        self._nat_gateways = nat_gateways
        self._prices = prices
        self._clock = clock

    async def items(self) -> list[Item]:
        """Every line that costs something, the dearest first."""
        now = self._clock.now()
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month_hours = _month_hours(month)
        start, end = month.timestamp(), now.timestamp()
        found = [
            *[
                item
                for file_system in self._file_systems.watched()
                for item in await self._file_system(file_system, start, end, month_hours)
            ],
            *await self._functions(start, end),
            *await self._nat(start, end),
            *await self._network(start, end),
        ]
        return sorted((item for item in found if item.amount > 0), key=lambda item: -item.amount)

    async def _file_system(
        self, file_system: WatchedFileSystem, start: float, end: float, month_hours: float
    ) -> list[Item]:
        found: list[Item] = []
        standard_gib = 0.0
        for storage in ("Standard", "IA", "Archive"):
            dimensions = {"FileSystemId": file_system.id, "StorageClass": storage}
            hours = await self._statistic(file_system, EFS, "StorageBytes", dimensions, "Average", start, end)
            gib_months = _carried(hours, end) / GIB / month_hours
            if storage == "Standard" and hours:
                standard_gib = hours[-1][1] / GIB
            price = self._storage_price(file_system, storage)
            found.append(_efs(file_system, f"storage, {storage}", gib_months, "GB-month", price))
        own = {"FileSystemId": file_system.id}
        if file_system.throughput_mode == "elastic":
            for usage, names in (
                ("read", ("DataReadIOBytes", "MetadataReadIOBytes")),
                ("write", ("DataWriteIOBytes", "MetadataWriteIOBytes")),
            ):
                size = 0.0
                for name in names:
                    sums = await self._statistic(file_system, EFS, name, own, "Sum", start, end)
                    size += sum(value for _, value in sums)
                price = self._prices[f"efs.elastic.{usage}"]
                found.append(_efs(file_system, f"elastic throughput, {usage}", size / GIB, "GB", price))
        elif file_system.throughput_mode == "provisioned" and file_system.provisioned_mibps:
            above = max(0.0, file_system.provisioned_mibps - standard_gib * _INCLUDED_MIBPS_A_GIB)
            hours_there = max(0.0, end - max(start, file_system.created)) / _HOUR
            months = above * hours_there / month_hours
            found.append(
                _efs(
                    file_system,
                    "provisioned throughput",
                    months,
                    "MB/s-month",
                    self._prices["efs.provisioned"],
                )
            )
        return found

    def _storage_price(self, file_system: WatchedFileSystem, storage: str) -> float:
        """Archive exists with elastic throughput alone, and in no One Zone file system."""
        kind = ""
        if file_system.zone:
            kind = "one-zone."
        elif storage == "IA" and file_system.throughput_mode != "elastic":
            kind = "legacy."
        return self._prices.of.get(f"efs.storage.{kind}{storage}", 0.0)

    async def _functions(self, start: float, end: float) -> list[Item]:
        found: list[Item] = []
        wanted = (
            (LAMBDA, "Invocations", "requests", "request", "lambda.request"),
            (USAGE, "LambdaGigabyteSeconds", "duration", "GB-second", "lambda.gb-second"),
            (
                USAGE,
                "LambdaProvisionedGigabyteSeconds",
                "provisioned concurrency",
                "GB-second",
                "lambda.provisioned.gb-second",
            ),
        )
        for namespace, name, usage, unit, price in wanted:
            for metric in await self._having(namespace, name, start):
                ((dimension, function),) = metric.dimensions
                if dimension != "FunctionName":
                    continue
                quantity = await self._sum(metric, start, end)
                found.append(
                    Item(
                        service="AWSLambda",
                        resource=function,
                        usage=usage,
                        quantity=quantity,
                        unit=unit,
                        amount=quantity * self._prices[price],
                    )
                )
        return found

    async def _having(self, namespace: str, name: str, start: float) -> list[Metric]:
        """The metrics of a name, in all accounts and Regions, of one dimension and with data since then."""
        return await self._metrics.store.read(
            lambda connection: [
                metric
                for metric in schema.metrics_everywhere(connection, namespace, name, int(start))
                if len(metric.dimensions) == 1
            ]
        )

    async def _sum(self, metric: Metric, start: float, end: float) -> float:
        values = await self._metrics.statistic(
            metric.account,
            metric.region,
            metric.namespace,
            metric.name,
            dict(metric.dimensions),
            "Sum",
            period=_HOUR,
            start=start,
            end=end,
        )
        return sum(value for _, value in values)

    async def _network(self, start: float, end: float) -> list[Item]:
        """Bytes through NAT gateways and from zone to zone."""
        sizes: defaultdict[tuple[str, str], float] = defaultdict(float)
        for namespace, name, price in (
            (NAT, "BytesInFromSource", "ec2.nat.gb"),
            (NAT, "BytesInFromDestination", "ec2.nat.gb"),
            (USAGE, CROSS_ZONE, "ec2.zones.gb"),
        ):
            for metric in await self._having(namespace, name, start):
                sizes[metric.dimensions[0][1], price] += await self._sum(metric, start, end) / GIB
        usages = {"ec2.nat.gb": "through NAT gateway", "ec2.zones.gb": "between zones"}
        return [
            Item(
                service="AmazonEC2",
                resource=resource,
                usage=usages[price],
                quantity=quantity,
                unit="GB",
                amount=quantity * self._prices[price],
            )
            for (resource, price), quantity in sizes.items()
        ]

    async def _nat(self, start: float, end: float) -> list[Item]:
        found: list[Item] = []
        for gateway in await self._nat_gateways():
            until = end if gateway.deleted is None else min(end, gateway.deleted)
            hours = max(0.0, until - max(start, gateway.created)) / _HOUR
            found.append(
                Item(
                    service="AmazonEC2",
                    resource=gateway.id,
                    usage="NAT gateway",
                    quantity=hours,
                    unit="hour",
                    amount=hours * self._prices["ec2.nat.hour"],
                )
            )
        return found

    async def _statistic(
        self,
        file_system: WatchedFileSystem,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        statistic: str,
        start: float,
        end: float,
    ) -> list[tuple[int, float]]:
        return await self._metrics.statistic(
            file_system.account,
            file_system.region,
            namespace,
            name,
            dimensions,
            statistic,
            period=_HOUR,
            start=start,
            end=end + _HOUR,
        )


def _efs(file_system: WatchedFileSystem, usage: str, quantity: float, unit: str, price: float) -> Item:
    return Item(
        service="AmazonEFS",
        resource=file_system.id,
        usage=usage,
        quantity=quantity,
        unit=unit,
        amount=quantity * price,
    )


def _carried(hours: Sequence[tuple[int, float]], end: float) -> float:
    """The sum over hours of what is stored; hours without a look at it are as the one before."""
    total = 0.0
    for number, (at, value) in enumerate(hours):
        until = hours[number + 1][0] if number + 1 < len(hours) else end
        total += value * max(0.0, until - at) / _HOUR
    return total


def _month_hours(month: datetime) -> float:
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return (following - month).total_seconds() / _HOUR
