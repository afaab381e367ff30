"""What functions and file systems did, as metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.clock import Clock
from lambay.observe.live import Live
from lambay.observe.metrics.service import Metrics
from lambay.observe.publishing.functions import FunctionActivity
from lambay.observe.publishing.publisher import Publisher, in_turns
from lambay.runtime import EnvironmentSpec, Outcome

from .conftest import ACCOUNT, REGION


@dataclass(frozen=True)
class Named:
    name: str = "fn"
    qualifier: str | None = None
    account: str = ACCOUNT
    region: str = REGION


@dataclass(frozen=True)
class Volume:
    id: str = "fs-1"
    account: str = ACCOUNT
    region: str = REGION
    throughput_mode: str = "bursting"
    created: float = 0.0
    provisioned_mibps: float | None = None
    zone: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Told:
    volumes: dict[str, dict[str, Any]]
    mounts: dict[str, dict[str, Any]]


class FileServer:
    """fsd's counters as the test sets them."""

    def __init__(self) -> None:
        self.told = Told({"fs-1": counters()}, {})
        self.times: list[int] = []

    async def stats(self) -> Told:
        return self.told

    async def set_clock(self, nanoseconds: int) -> None:
        self.times.append(nanoseconds)


class FileSystems:
    def watched(self) -> list[Volume]:
        return [Volume()]

    async def stored_bytes(self, file_system: str) -> dict[str, int] | None:
        return {"Standard": 6144, "IA": 100, "Archive": 0}

    def metered_size(self, stored: int, objects: int) -> int:
        return stored + 10 * objects


class Fleet:
    def environments(self) -> list[Any]:
        return []


def counters(**changes: Any) -> dict[str, Any]:
    names = ("read", "write", "metadata", "metadata_read", "metadata_write")
    found: dict[str, Any] = {f"{name}_{kind}": 0 for name in names for kind in ("bytes", "ops")}
    found |= {"metered_bytes": 0, "connections": 2, "bytes": 4096, "files": 3, "lock_waiters": 0}
    found["limits"] = {
        "burst_credit_balance": 1000.0,
        "permitted_throughput": 100.0,
        "percent_io_limit": 7.0,
    }
    return found | changes


def spec(version: str = "1") -> EnvironmentSpec:
    return EnvironmentSpec(
        key="k",
        account=ACCOUNT,
        region=REGION,
        function_name="fn",
        version=version,
        function_arn="arn",
        handler="a.b",
        runtime="python3.11",
        memory_mb=512,
        timeout_s=3,
        code=Path("/"),
        role_arn="role",
    )


@pytest.fixture
def activity(clock: Clock) -> FunctionActivity:
    return FunctionActivity(clock)


@pytest.fixture
def file_server() -> FileServer:
    return FileServer()


@pytest.fixture
def publisher(
    metrics: Metrics, activity: FunctionActivity, file_server: FileServer, clock: Clock
) -> Publisher:
    return Publisher(metrics, activity, file_server, FileSystems(), clock)


async def value(
    metrics: Metrics, namespace: str, name: str, statistic: str = "Sum", **dimensions: str
) -> float | None:
    now = metrics.clock.time()
    found = await metrics.statistic(
        ACCOUNT,
        REGION,
        namespace,
        name,
        dimensions,
        statistic,
        period=86_400,
        start=now - 40 * 86_400,
        end=now + 86_400,
    )
    return found[0][1] if found else None


def run(activity: FunctionActivity, named: Named, **outcome: Any) -> None:
    activity.began(named, unreserved=True)
    activity.ended(
        named,
        spec(),
        Outcome(payload=b"", duration_ms=100.0, billed_ms=2000, **outcome),
        unreserved=True,
        provisioned=0,
        spilled=False,
    )


async def test_invocations_by_function_resource_and_version(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    run(activity, Named())
    run(activity, Named(qualifier="live"), error="Unhandled")
    activity.throttled(Named(), "1")
    await publisher.publish()

    async def invocations(**dimensions: str) -> float | None:
        return await value(metrics, "AWS/Lambda", "Invocations", **dimensions)

    assert await invocations() == 2
    assert await invocations(FunctionName="fn") == 2
    assert await invocations(FunctionName="fn", Resource="fn") == 1
    assert await invocations(FunctionName="fn", Resource="fn:live") == 1
    assert await invocations(FunctionName="fn", Resource="fn:live", ExecutedVersion="1") == 1
    assert await invocations(FunctionName="fn", Resource="fn", ExecutedVersion="1") is None
    assert await value(metrics, "AWS/Lambda", "Errors", "Average", FunctionName="fn") == 0.5
    assert await value(metrics, "AWS/Lambda", "Throttles", "Sum", FunctionName="fn") == 1
    assert await value(metrics, "AWS/Lambda", "Duration", "p99", FunctionName="fn") == 100
    assert await value(metrics, "Lambay/Usage", "LambdaGigabyteSeconds", FunctionName="fn") == 2


async def test_a_thousand_functions_metrics_leave_turns_to_others(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    for number in range(1000):
        run(activity, Named(f"fn{number}"))
        run(activity, Named(f"fn{number}", qualifier="live"))
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    going_on = asyncio.create_task(others())
    data = [datum async for some in in_turns(activity.take()) for datum in some]
    going_on.cancel()

    assert len(turns) >= len(data) // 300
    await metrics.put(data)
    assert await value(metrics, "AWS/Lambda", "Invocations") == 2000
    assert await value(metrics, "AWS/Lambda", "Invocations", FunctionName="fn999") == 2
    assert await value(metrics, "AWS/Lambda", "Duration", "p50") == 100


async def test_an_invocation_that_did_not_run_is_none(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    activity.began(Named(), unreserved=True)
    activity.ended(Named(), spec(), None, unreserved=True, provisioned=0, spilled=False)
    await publisher.publish()

    assert await value(metrics, "AWS/Lambda", "Invocations", FunctionName="fn") is None


async def test_concurrency_is_the_most_at_once(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    for _ in range(3):
        activity.began(Named(), unreserved=True)
    activity.began(Named("other"), unreserved=False)
    await publisher.publish()

    async def most(name: str, **dimensions: str) -> float | None:
        return await value(metrics, "AWS/Lambda", name, "Maximum", **dimensions)

    assert await most("ConcurrentExecutions", FunctionName="fn") == 3
    assert await most("ConcurrentExecutions") == 4
    assert await most("UnreservedConcurrentExecutions") == 3


async def test_claimed_concurrency_is_what_is_shared_and_used_and_what_is_allocated(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    activity.allocates({(ACCOUNT, REGION): 7, (ACCOUNT, "eu-north-1"): 2}.__getitem__)
    for _ in range(3):
        activity.began(Named(), unreserved=True)
    activity.began(Named(region="eu-north-1"), unreserved=False)
    await publisher.publish()

    assert await value(metrics, "AWS/Lambda", "ClaimedAccountConcurrency", "Maximum") == 10
    (elsewhere,) = await metrics.statistic(
        ACCOUNT,
        "eu-north-1",
        "AWS/Lambda",
        "ClaimedAccountConcurrency",
        {},
        "Maximum",
        start=0,
        end=4_000_000_000,
    )
    assert elsewhere[1] == 2


async def test_asynchronous_events(
    activity: FunctionActivity, publisher: Publisher, metrics: Metrics
) -> None:
    activity.event_received(Named())
    activity.event_aged(Named(), 1.5)
    activity.event_dropped(Named())
    activity.undelivered(Named(), dead_letter=True)
    await publisher.publish()

    for name in ("AsyncEventsReceived", "AsyncEventsDropped", "DeadLetterErrors"):
        assert await value(metrics, "AWS/Lambda", name, FunctionName="fn") == 1
    assert await value(metrics, "AWS/Lambda", "AsyncEventAge", "Maximum", FunctionName="fn") == 1500


async def test_traffic_is_the_difference_of_counters(
    publisher: Publisher, file_server: FileServer, metrics: Metrics
) -> None:
    await publisher.publish()
    file_server.told.volumes["fs-1"] = counters(
        read_bytes=3000, read_ops=3, metadata_bytes=8192, metadata_ops=2, metered_bytes=12_288
    )
    await publisher.publish()
    # fsd began anew: its counters went back.
    file_server.told.volumes["fs-1"] = counters(read_bytes=500, read_ops=1, metered_bytes=4096)
    await publisher.publish()

    async def of(name: str, statistic: str = "Sum") -> float | None:
        return await value(metrics, "AWS/EFS", name, statistic, FileSystemId="fs-1")

    assert await of("DataReadIOBytes") == 3500
    assert await of("DataReadIOBytes", "SampleCount") == 4
    assert await of("TotalIOBytes") == 3500 + 8192
    assert await of("MeteredIOBytes") == 12_288 + 4096
    assert await of("DataWriteIOBytes") is None
    assert await of("BurstCreditBalance", "Minimum") == 1000
    assert await of("PercentIOLimit", "Maximum") == 7
    assert await of("ClientConnections", "Maximum") == 2


async def test_storage_is_told_each_quarter_of_an_hour_by_class(
    publisher: Publisher, metrics: Metrics, clock: Clock
) -> None:
    await publisher.publish()
    await publisher.publish()
    clock.advance(timedelta(minutes=16))
    await publisher.publish()

    async def of(storage: str, statistic: str) -> float | None:
        return await value(
            metrics, "AWS/EFS", "StorageBytes", statistic, FileSystemId="fs-1", StorageClass=storage
        )

    assert await of("Total", "SampleCount") == 2
    assert await of("Total", "Maximum") == 6244
    assert await of("IA", "Maximum") == 100


async def test_a_minute_is_put_when_it_is_over(
    publisher: Publisher, activity: FunctionActivity, metrics: Metrics, clock: Clock, file_server: FileServer
) -> None:
    await publisher.start()
    run(activity, Named())
    looked = publisher.sampled
    clock.advance(timedelta(hours=1))
    await looked.wait()

    assert await value(metrics, "AWS/Lambda", "Invocations", FunctionName="fn") == 1
    assert abs(file_server.times[-1] / 1e9 - clock.time()) < 60
    await publisher.stop()


async def test_the_live_view_has_rates_and_a_forecast(
    publisher: Publisher, activity: FunctionActivity, file_server: FileServer, clock: Clock
) -> None:
    live = Live(publisher, activity, FileSystems(), Fleet(), clock)
    views = live.follow()
    await publisher.publish()
    run(activity, Named(), init_ms=50.0)
    more = counters(write_bytes=10_000, write_ops=1)
    more["limits"] = more["limits"] | {"burst_credit_balance": 400.0}
    file_server.told = Told({"fs-1": more}, {"m": {"volume": "fs-1", "locks": 3}})
    await publisher.publish()

    view = await anext(views)
    (file_system,) = view.file_systems
    (function,) = view.functions

    assert file_system.write_bytes_per_s > 0
    assert (file_system.locks, file_system.credits) == (3, 400)
    assert file_system.bytes == 4126
    assert file_system.credits_last_s is not None
    assert (function.invocations, function.cold_starts, function.p99_ms) == (1, 1, 100.0)
    assert function.invocations_per_s > 0
