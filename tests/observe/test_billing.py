"""What a month's usage costs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from lambay.clock import Clock
from lambay.http import Request
from lambay.observe import Billing, Charges, Metrics, NetworkTraffic, Prices
from lambay.observe.billing.prices import InvalidPrices
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions

from .conftest import ACCOUNT, REGION
from .test_publishing import Volume

GIB = float(1 << 30)


@dataclass
class Gateway:
    id: str
    created: float
    deleted: float | None = None


@dataclass
class Meter:
    resource: str
    way: Literal["out", "in", "zones"]
    account: str = ACCOUNT
    region: str = REGION


@dataclass
class Through:
    meter: Meter
    bytes: int
    packets: int


class World:
    """File systems and NAT gateways as the test wants them."""

    def __init__(self) -> None:
        self.volumes = [Volume()]
        self.gateways: list[Gateway] = []

    def watched(self) -> list[Volume]:
        return self.volumes

    async def stored_bytes(self, file_system: str) -> dict[str, int] | None:
        return None

    def metered_size(self, stored: int, objects: int) -> int:
        return stored

    async def nat(self) -> list[Gateway]:
        return self.gateways


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def clock() -> Clock:
    """The eleventh of a month of thirty days, at noon."""
    clock = Clock()
    now = clock.now()
    day = now.replace(day=1, hour=12, minute=0, second=0, microsecond=0) + timedelta(days=10)
    while day <= now or (day.replace(day=28) + timedelta(days=3)).day != 1:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=11)
    clock.advance(day - now)
    return clock


@pytest.fixture
def charges(metrics: Metrics, world: World, clock: Clock, tmp_path: Path) -> Charges:
    return Charges(metrics, world, world.nat, Prices.load(tmp_path / "prices.json"), clock)


async def put(metrics: Metrics, at: float, namespace: str, name: str, value: float, **named: str) -> None:
    metric = Metric(ACCOUNT, REGION, namespace, name, dimensions(named))
    await metrics.put([Datum(metric, int(at), Point.of(value))])


async def amounts(charges: Charges) -> dict[tuple[str, str], tuple[float, float]]:
    """Quantity and amount by resource and usage."""
    return {(item.resource, item.usage): (item.quantity, item.amount) for item in await charges.items()}


async def test_storage_is_paid_for_by_class_and_time(
    charges: Charges, metrics: Metrics, world: World, clock: Clock
) -> None:
    # Stored for the last five days, a sixth of the month; looked at twice.
    began = clock.time() - 5 * 86_400
    for storage, size in (("Standard", 60 * GIB), ("IA", 600 * GIB)):
        for at in (began, began + 86_400):
            await put(metrics, at, "AWS/EFS", "StorageBytes", size, FileSystemId="fs-1", StorageClass=storage)

    found = await amounts(charges)

    assert found["fs-1", "storage, Standard"] == pytest.approx((10, 3.0))
    assert found["fs-1", "storage, IA"] == pytest.approx((100, 2.5))
    world.volumes = [replace(Volume(), throughput_mode="elastic")]
    assert (await amounts(charges))["fs-1", "storage, IA"] == pytest.approx((100, 1.6))


async def test_elastic_throughput_is_paid_for_by_bytes(
    charges: Charges, metrics: Metrics, world: World, clock: Clock
) -> None:
    world.volumes = [replace(Volume(), throughput_mode="elastic")]
    at = clock.time() - 3600
    for name, gib in (("DataReadIOBytes", 3), ("MetadataReadIOBytes", 1), ("DataWriteIOBytes", 2)):
        await put(metrics, at, "AWS/EFS", name, gib * GIB, FileSystemId="fs-1")

    found = await amounts(charges)

    assert found["fs-1", "elastic throughput, read"] == pytest.approx((4, 0.12))
    assert found["fs-1", "elastic throughput, write"] == pytest.approx((2, 0.12))


async def test_provisioned_throughput_above_what_storage_brings_along(
    charges: Charges, metrics: Metrics, world: World, clock: Clock
) -> None:
    three_days_ago = clock.time() - 3 * 86_400
    world.volumes = [
        replace(Volume(), throughput_mode="provisioned", provisioned_mibps=12.0, created=three_days_ago)
    ]
    await put(
        metrics,
        clock.time() - 60,
        "AWS/EFS",
        "StorageBytes",
        40 * GIB,
        FileSystemId="fs-1",
        StorageClass="Standard",
    )

    found = await amounts(charges)

    # 10 MB/s for a tenth of the month.
    assert found["fs-1", "provisioned throughput"] == pytest.approx((1.0, 6.0))


async def test_functions_pay_for_requests_and_gigabyte_seconds(
    charges: Charges, metrics: Metrics, clock: Clock
) -> None:
    at = clock.time() - 7200
    await put(metrics, at, "AWS/Lambda", "Invocations", 2_000_000, FunctionName="fn")
    await put(metrics, at, "AWS/Lambda", "Invocations", 2_000_000, FunctionName="fn", Resource="fn")
    await put(metrics, at, "Lambay/Usage", "LambdaGigabyteSeconds", 60_000, FunctionName="fn")
    await put(metrics, at, "Lambay/Usage", "LambdaProvisionedGigabyteSeconds", 1000, FunctionName="fn")

    found = await amounts(charges)

    assert found["fn", "requests"] == pytest.approx((2_000_000, 0.4))
    assert found["fn", "duration"] == pytest.approx((60_000, 1.0), rel=1e-4)
    assert found["fn", "provisioned concurrency"] == pytest.approx((1000, 0.0041667))


async def test_nat_gateways_pay_by_the_hour(charges: Charges, world: World, clock: Clock) -> None:
    now = clock.time()
    world.gateways = [Gateway("nat-1", now - 36_000), Gateway("nat-2", now - 36_000, now - 18_000)]

    found = await amounts(charges)

    assert found["nat-1", "NAT gateway"] == pytest.approx((10, 0.45))
    assert found["nat-2", "NAT gateway"] == pytest.approx((5, 0.225))


async def test_bytes_through_nat_gateways_and_between_zones_are_paid_for(
    charges: Charges, metrics: Metrics, clock: Clock
) -> None:
    passed = [
        Through(Meter("nat-1", "out"), 2 * int(GIB), 10),
        Through(Meter("nat-1", "in"), 4 * int(GIB), 20),
        Through(Meter("nat-1", "zones"), 6 * int(GIB), 30),
        Through(Meter("fs-1", "zones"), 5 * int(GIB), 40),
    ]

    async def read() -> list[Through]:
        return passed

    await metrics.put(await NetworkTraffic(read)(int(clock.time()) - 60, 60.0))

    found = await amounts(charges)
    assert found["nat-1", "through NAT gateway"] == pytest.approx((6, 0.27))
    assert found["nat-1", "between zones"] == pytest.approx((6, 0.06))
    assert found["fs-1", "between zones"] == pytest.approx((5, 0.05))


async def test_a_network_that_tells_nothing_costs_no_other_metric(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> list[Through]:
        raise OSError("no such namespace")

    assert await NetworkTraffic(fail)(0, 60.0) == []
    assert "no such namespace" in caplog.text


async def test_last_month_is_not_charged(charges: Charges, metrics: Metrics, clock: Clock) -> None:
    await put(metrics, clock.time() - 12 * 86_400, "AWS/Lambda", "Invocations", 2_000_000, FunctionName="fn")

    assert await amounts(charges) == {}


async def test_estimated_charges_in_all_by_service_and_without_dimensions(
    charges: Charges, metrics: Metrics, clock: Clock, tmp_path: Path
) -> None:
    await put(metrics, clock.time() - 3600, "AWS/Lambda", "Invocations", 5_000_000, FunctionName="fn")
    billing = Billing(
        metrics,
        charges,
        Prices.load(tmp_path / "prices.json"),
        clock,
        account=ACCOUNT,
        regions=["us-east-1", REGION],
    )
    await billing.publish()

    async def charged(**named: str) -> float:
        ((_, value),) = await metrics.statistic(
            ACCOUNT,
            "us-east-1",
            "AWS/Billing",
            "EstimatedCharges",
            named,
            "Maximum",
            period=86_400,
            start=clock.time() - 60,
            end=clock.time() + 60,
        )
        return value

    assert await charged(Currency="USD") == pytest.approx(1.0)
    assert await charged() == pytest.approx(1.0)
    assert await charged(Currency="USD", ServiceName="AWSLambda") == pytest.approx(1.0)
    assert await charged(Currency="USD", ServiceName="AmazonEFS") == 0
    page: Any = json.loads((await billing.page(Request("GET", "/_lambay/costs", "", {}))).body)  # type: ignore[arg-type]
    assert page["total"] == pytest.approx(1.0)
    assert [item["usage"] for item in page["items"]] == ["requests"]


def test_prices_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"lambda.request": 0.5}')
    assert Prices.load(path)["lambda.request"] == 0.5
    path.write_text('{"lambda.reqest": 0.5}')
    with pytest.raises(InvalidPrices, match=r"lambda\.reqest"):
        Prices.load(path)
