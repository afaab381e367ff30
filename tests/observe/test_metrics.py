"""Putting metrics and asking for their statistics."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import statistics
import threading
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.clock import Clock
from lambay.observe.metrics import chunks
from lambay.observe.metrics.points import MOST_VALUES, Point
from lambay.observe.metrics.records import Datum, Metric
from lambay.observe.metrics.service import Metrics
from lambay.observe.metrics.statistics import parse
from lambay.observe.metrics.store import periods

from .conftest import ACCOUNT, REGION, Client

HOUR = timedelta(hours=1)
EVERY = ["SampleCount", "Sum", "Average", "Minimum", "Maximum"]


def put(cloudwatch: Client, name: str = "Latency", **datum: Any) -> Any:
    return cloudwatch.put_metric_data(Namespace="App", MetricData=[{"MetricName": name, **datum}])


async def asked(cloudwatch: Client, clock: Clock, *names: str, name: str = "Latency", **more: Any) -> Any:
    now = clock.now()
    simple = [each for each in names if each in EVERY]
    given: dict[str, Any] = {"Statistics": simple} if simple else {}
    extended = [each for each in names if each not in EVERY]
    if extended:
        given["ExtendedStatistics"] = extended
    output = await cloudwatch.get_metric_statistics(
        **{
            "Namespace": "App",
            "MetricName": name,
            "StartTime": now - HOUR,
            "EndTime": now + HOUR,
            "Period": 7200,
            **given,
            **more,
        }
    )
    return output["Datapoints"]


async def test_a_value_has_every_statistic(cloudwatch: Client, clock: Clock) -> None:
    for value in (1, 2, 6):
        await put(cloudwatch, Value=value, Unit="Milliseconds")

    (point,) = await asked(cloudwatch, clock, *EVERY)

    assert {name: point[name] for name in EVERY} == {
        "SampleCount": 3,
        "Sum": 9,
        "Average": 3,
        "Minimum": 1,
        "Maximum": 6,
    }
    assert point["Unit"] == "Milliseconds"


async def test_values_with_counts_give_percentiles(cloudwatch: Client, clock: Clock) -> None:
    await put(cloudwatch, Values=[10.0, 20.0, 1000.0], Counts=[50.0, 49.0, 1.0])

    (point,) = await asked(cloudwatch, clock, "p50", "p99", "p99.9", "tm99", "PR(:20)", "tc99", "IQM")

    assert point["ExtendedStatistics"] == {
        "p50": 10,
        "p99": 20,
        "p99.9": 1000,
        "tm99": pytest.approx((50 * 10 + 49 * 20) / 99),
        "PR(:20)": 99,
        "tc99": 99,
        "IQM": 15,
    }


async def test_a_statistic_set_has_no_percentiles(cloudwatch: Client, clock: Clock) -> None:
    stated = {"SampleCount": 10.0, "Sum": 100.0, "Minimum": 1.0, "Maximum": 50.0}
    await put(cloudwatch, StatisticValues=stated)

    assert await asked(cloudwatch, clock, "p50") == []
    (point,) = await asked(cloudwatch, clock, "Average")
    assert point["Average"] == 10


async def test_each_unit_is_a_datapoint_of_its_own(cloudwatch: Client, clock: Clock) -> None:
    await put(cloudwatch, Value=1, Unit="Seconds")
    await put(cloudwatch, Value=2, Unit="Count")

    assert {point["Unit"]: point["Sum"] for point in await asked(cloudwatch, clock, "Sum")} == {
        "Seconds": 1,
        "Count": 2,
    }
    (point,) = await asked(cloudwatch, clock, "Sum", Unit="Count")
    assert point["Sum"] == 2


async def test_a_metric_is_its_dimensions(cloudwatch: Client, clock: Clock) -> None:
    one, other = [{"Name": "Host", "Value": "a"}], [{"Name": "Host", "Value": "b"}]
    await put(cloudwatch, Value=1, Dimensions=one)
    await put(cloudwatch, Value=2, Dimensions=other)

    assert await asked(cloudwatch, clock, "Sum") == []
    (point,) = await asked(cloudwatch, clock, "Sum", Dimensions=other)
    assert point["Sum"] == 2


async def test_high_resolution_is_kept_by_the_second_for_three_hours(
    cloudwatch: Client, clock: Clock, metrics: Metrics
) -> None:
    second = clock.now().replace(microsecond=0) - timedelta(seconds=90)
    for after, value in ((0, 1.0), (1, 2.0)):
        await put(cloudwatch, Value=value, Timestamp=second + timedelta(seconds=after), StorageResolution=1)

    span = {"StartTime": second, "EndTime": second + timedelta(seconds=2)}
    fine = await asked(cloudwatch, clock, "Sum", Period=1, **span)
    clock.advance(timedelta(hours=4))
    await metrics.store.sweep()
    later = await asked(cloudwatch, clock, "Sum", Period=1, **span)
    minute = second.replace(second=0)
    coarse = await asked(
        cloudwatch, clock, "Sum", Period=60, StartTime=minute, EndTime=minute + timedelta(minutes=2)
    )

    assert [point["Sum"] for point in sorted(fine, key=lambda point: point["Timestamp"])] == [1, 2]
    assert later == []
    assert sum(point["Sum"] for point in coarse) == 3


async def test_a_question_sees_the_points_that_are_moved_while_it_is_asked(
    clock: Clock, metrics: Metrics
) -> None:
    metric = Metric(ACCOUNT, REGION, "App", "Latency")
    begin = int(clock.time()) // 60 * 60 - 4 * 3600
    await metrics.store.sweep()
    await metrics.put([Datum(metric, begin, Point.of(1.0))])
    asking, moved = threading.Event(), threading.Event()

    def question(connection: sqlite3.Connection) -> list[list[float]]:
        found = []
        for _ in range(2):
            points = periods(connection, metric, begin, begin + 60, 60)
            chunked = connection.execute("SELECT count(*) FROM chunks").fetchone()[0]
            found.append([chunked, *(point.sum for point in points.values())])
            asking.set()
            moved.wait()
        return found

    answer = asyncio.create_task(metrics.store.read(question))
    await asyncio.to_thread(asking.wait)
    await metrics.store.sweep()
    moved.set()

    assert await answer == [[0, 1.0], [0, 1.0]]
    assert (await metrics.store.read(question))[0] == [1, 1.0]


async def test_what_ages_becomes_coarser_and_loses_nothing(
    cloudwatch: Client, clock: Clock, metrics: Metrics
) -> None:
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    values = [float(number % 17) for number in range(300)]
    metric = Metric(ACCOUNT, REGION, "App", "Latency")
    begin = int(start.timestamp())
    await metrics.put(
        [Datum(metric, begin + 60 * number, Point.of(value)) for number, value in enumerate(values)]
    )
    for days in (0, 16, 60, 200):
        clock.advance(timedelta(days=days))
        await metrics.store.sweep()

        points = await metrics.statistic(
            ACCOUNT, REGION, "App", "Latency", {}, "Sum", period=3600, start=begin, end=begin + 5 * 3600
        )
        highest = await metrics.statistic(
            ACCOUNT, REGION, "App", "Latency", {}, "p90", period=3600, start=begin, end=begin + 3600
        )

        assert [value for _, value in points] == [sum(values[hour : hour + 60]) for hour in range(0, 300, 60)]
        assert highest[0][1] == pytest.approx(sorted(values[:60])[53], rel=0.01)
    clock.advance(timedelta(days=300))
    await metrics.store.sweep()
    assert (
        await metrics.statistic(
            ACCOUNT, REGION, "App", "Latency", {}, period=3600, start=begin, end=begin + 18_000
        )
        == []
    )


async def test_metrics_outlive_the_process(metrics: Metrics, clock: Clock, tmp_path: Any) -> None:
    at = int(clock.time())
    await metrics.put([Datum(Metric(ACCOUNT, REGION, "App", "Kept"), at, Point.of(4.0))])

    again = Metrics(tmp_path / "metrics.db", clock)
    found = await again.statistic(ACCOUNT, REGION, "App", "Kept", {}, start=at - 60, end=at + 60)
    await again.close()

    assert [value for _, value in found] == [4.0]


async def test_list_metrics_pages_and_filters(cloudwatch: Client) -> None:
    for part in range(3):
        await cloudwatch.put_metric_data(
            Namespace="Many",
            MetricData=[
                {
                    "MetricName": f"M{number:04d}",
                    "Value": 1,
                    "Dimensions": [{"Name": "Part", "Value": str(part)}],
                }
                for number in range(300)
            ],
        )

    first = await cloudwatch.list_metrics(Namespace="Many")
    second = await cloudwatch.list_metrics(Namespace="Many", NextToken=first["NextToken"])
    filtered = await cloudwatch.list_metrics(
        Namespace="Many", MetricName="M0007", Dimensions=[{"Name": "Part", "Value": "2"}]
    )

    names = [
        (each["MetricName"], each["Dimensions"][0]["Value"]) for each in first["Metrics"] + second["Metrics"]
    ]
    assert len(names) == 900 == len(set(names))
    assert "NextToken" not in second
    assert len(filtered["Metrics"]) == 1


async def test_a_metric_without_data_for_two_weeks_is_listed_no_more(
    cloudwatch: Client, clock: Clock
) -> None:
    await put(cloudwatch, Value=1)
    clock.advance(timedelta(hours=4))
    assert (await cloudwatch.list_metrics(RecentlyActive="PT3H"))["Metrics"] == []
    assert len((await cloudwatch.list_metrics())["Metrics"]) == 1
    clock.advance(timedelta(days=15))

    assert (await cloudwatch.list_metrics())["Metrics"] == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"Value": math.nan}, "MetricData.member.1.Value is invalid"),
    ({"Value": 2.0**361}, "MetricData.member.1.Value is invalid"),
    ({}, "must be specified"),
    ({"Value": 1.0, "Values": [1.0]}, "mutually exclusive"),
    ({"Values": [1.0], "Counts": [1.0, 2.0]}, "same size"),
    ({"Values": [float(number) for number in range(151)]}, "150"),
    ({"Value": 1.0, "StorageResolution": 30}, "StorageResolution must be 1 or 60"),
    ({"Value": 1.0, "Timestamp": datetime(2020, 1, 1, tzinfo=UTC)}, "past two weeks"),
    ({"Value": 1.0, "Timestamp": datetime(2100, 1, 1, tzinfo=UTC)}, "two hours in the future"),
    (
        {"StatisticValues": {"SampleCount": 1.0, "Sum": 1.0, "Minimum": 2.0, "Maximum": 1.0}},
        "greater than",
    ),
    (
        {"Value": 1.0, "Dimensions": [{"Name": "A", "Value": "1"}, {"Name": "A", "Value": "2"}]},
        "more than once",
    ),
]


@pytest.mark.parametrize(("datum", "said"), REFUSED)
async def test_what_cannot_be_put_is_refused_by_name(
    cloudwatch: Client, datum: dict[str, Any], said: str
) -> None:
    error = await cloudwatch.refused(
        "put_metric_data", Namespace="App", MetricData=[{"MetricName": "M", **datum}]
    )

    assert said in error.message


async def test_the_namespaces_of_aws_are_its_own(cloudwatch: Client) -> None:
    error = await cloudwatch.refused(
        "put_metric_data", Namespace="AWS/EFS", MetricData=[{"MetricName": "M", "Value": 1}]
    )

    assert "AWS/EFS" in error.message


async def test_too_many_datapoints_are_refused(cloudwatch: Client, clock: Clock) -> None:
    error = await cloudwatch.refused(
        "get_metric_statistics",
        Namespace="App",
        MetricName="M",
        StartTime=clock.now() - timedelta(days=2),
        EndTime=clock.now(),
        Period=60,
        Statistics=["Sum"],
    )

    assert "2,880 datapoints, which exceeds the limit of 1,440" in error.message


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=400), st.sampled_from([1, 10, 50, 90, 99, 99.9, 100])
)
def test_percentiles_are_within_a_few_per_cent_of_the_values(values: list[float], percent: float) -> None:
    point = Point.of(values[0])
    for value in values[1:]:
        point.merge(Point.of(value))

    found = parse(f"p{percent}")
    assert found is not None
    measured = found.of(point)

    exact = sorted(values)[max(0, math.ceil(percent / 100 * len(values) - 1e-9) - 1)]
    assert point.values is not None
    assert len(point.values) <= MOST_VALUES
    assert point.sum == pytest.approx(math.fsum(values))
    if len(set(values)) <= MOST_VALUES:
        assert measured == exact
    elif min(values) > 1 and max(values) < 1e4:
        assert measured == pytest.approx(exact, rel=0.2)


def test_a_normal_spread_keeps_its_percentiles() -> None:
    draw = random.Random(5)
    values = [draw.gauss(120, 15) for _ in range(20_000)]
    point = Point.of_values((value, 1.0) for value in values)

    quantiles = statistics.quantiles(values, n=100)
    for percent in (50, 90, 99):
        asked = parse(f"p{percent}")
        assert asked is not None
        assert asked.of(point) == pytest.approx(quantiles[percent - 1], rel=0.03)


async def test_percentiles_by_the_hour_are_those_of_all_values(metrics: Metrics, clock: Clock) -> None:
    seed, load = random.Random(8), Metric(ACCOUNT, REGION, "App", "Load")
    first = int(clock.time()) // 86_400 * 86_400 - 2 * 86_400
    hours: dict[int, list[float]] = {}
    data = []
    for minute in range(24 * 60):
        values = [seed.lognormvariate(3, 0.5) for _ in range(30)]
        at = first + 60 * minute
        hours.setdefault(at - at % 3600, []).extend(values)
        data.append(Datum(load, at, Point.of_values((value, 1.0) for value in values)))
    await metrics.put(data)
    await metrics.store.sweep()

    for name, percent in (("p50", 50), ("p99", 99)):
        found = await metrics.statistic(
            ACCOUNT, REGION, "App", "Load", {}, name, period=3600, start=first, end=first + 86_400
        )
        exact = [statistics.quantiles(values, n=100)[percent - 1] for values in hours.values()]
        assert [at for at, _ in found] == list(hours)
        assert [value for _, value in found] == pytest.approx(exact, rel=0.1)

    def amid_an_hour(connection: sqlite3.Connection) -> dict[int, Point]:
        return periods(connection, load, first + 60, first + 86_400, 3600)

    moved = await metrics.store.read(amid_an_hour)
    assert [point.count for point in moved.values()] == [1800] * 23 + [1770]


def test_an_hour_of_a_chunk_is_its_minutes_together() -> None:
    seed = random.Random(8)
    points = {
        60 * minute: Point.of_values((seed.lognormvariate(3, 1), 1.0) for _ in range(30))
        for minute in range(180)
    }
    packed = chunks.pack(points, 0, 60)
    minutes = dict(chunks.unpack(packed, 0, 60))
    for at, hour in chunks.hours(packed, 0) or ():
        together = minutes[at]
        for minute in range(1, 60):
            together.merge(minutes[at + 60 * minute], 100_000)
        assert hour.count == together.count == 1800
        for percent in (1, 50, 90, 99):
            asked = parse(f"p{percent}")
            assert asked is not None
            assert asked.of(hour) == pytest.approx(asked.of(together), rel=0.04)


def test_a_chunk_without_hours_is_read() -> None:
    """As they were written before there were any."""
    packed = chunks.pack({60: Point.of_values([(1.0, 2.0), (3.0, 1.0)])}, 0, 60)
    earlier = zlib.compress(msgspec.msgpack.encode(msgspec.msgpack.decode(zlib.decompress(packed))[:6]))

    assert chunks.hours(earlier, 0) is None
    assert dict(chunks.unpack(earlier, 0, 60)) == dict(chunks.unpack(packed, 0, 60))


@given(
    st.dictionaries(
        st.integers(0, 359).map(lambda place: 60 * place),
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
        min_size=1,
    )
)
def test_a_chunk_gives_back_what_was_packed(given: dict[int, list[float]]) -> None:
    points = {at: Point.of_values((value, 1.0) for value in values) for at, values in given.items()}

    packed = chunks.pack(points, 0, 60)
    again = dict(chunks.unpack(packed, 0, 60))
    plain = {at: rest for at, *rest in chunks.plain(packed, 0, 60)}

    assert again.keys() == points.keys() == plain.keys()
    for at, point in points.items():
        assert again[at].sum == pytest.approx(point.sum, rel=1e-9, abs=1e-9)
        exact = [point.count, point.minimum, point.maximum]
        assert [again[at].count, again[at].minimum, again[at].maximum] == exact
        assert [plain[at][0], *plain[at][2:]] == exact
        assert point.values is not None
        assert again[at].values is not None
        assert sum(again[at].values.values()) == point.count
        if len(point.values) <= 8:
            assert again[at].values == point.values
    together = chunks.hours(packed, 0)
    if together is not None:
        assert sum(point.count for _, point in together) == sum(point.count for point in points.values())
        assert min(point.minimum for _, point in together) == min(map(min, given.values()))
