"""GetMetricData: statistics, metric math and search."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.metrics.service import Metrics

from .conftest import ACCOUNT, REGION, Client

A = [1.0, 2.0, 3.0, None, 5.0, 6.0]
B = [10.0, 0.0, 30.0, 40.0, 50.0, 60.0]


@pytest.fixture
def begin(clock: Clock) -> int:
    return int(clock.time()) // 3600 * 3600 - 7200


@pytest.fixture
async def data(metrics: Metrics, begin: int) -> None:
    """`a` and `b` of the namespace App, a value a minute; Errors of two functions."""
    puts = [
        Datum(Metric(ACCOUNT, REGION, "App", name), begin + 60 * minute, Point.of(value))
        for name, values in (("a", A), ("b", B))
        for minute, value in enumerate(values)
        if value is not None
    ]
    puts += [
        Datum(
            Metric(ACCOUNT, REGION, "Fn", "Errors", dimensions({"FunctionName": name})),
            begin + 60 * minute,
            Point.of(value),
        )
        for name, value in (("one", 1.0), ("two", 2.0))
        for minute in range(6)
    ]
    puts.append(Datum(Metric(ACCOUNT, REGION, "Fn", "Errors"), begin, Point.of(99.0)))
    await metrics.put(puts)


def stat(identifier: str, name: str, *, returned: bool = False, namespace: str = "App") -> dict[str, Any]:
    metric = {"Namespace": namespace, "MetricName": name}
    return {
        "Id": identifier,
        "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"},
        "ReturnData": returned,
    }


async def results(cloudwatch: Client, begin: int, expression: str, **more: Any) -> list[dict[str, Any]]:
    now = cloudwatch.clock.now()
    start = now - timedelta(seconds=now.timestamp() - begin)
    queries = [stat("m1", "a"), stat("m2", "b"), {"Id": "e1", "Expression": expression, "Period": 60}]
    output = await cloudwatch.get_metric_data(
        MetricDataQueries=queries,
        StartTime=start,
        EndTime=start + timedelta(minutes=6),
        ScanBy="TimestampAscending",
        **more,
    )
    found: list[dict[str, Any]] = output["MetricDataResults"]
    return found


def by_minute(result: dict[str, Any], begin: int) -> dict[int, float]:
    return {
        int(time.timestamp() - begin) // 60: value
        for time, value in zip(result["Timestamps"], result["Values"], strict=True)
    }


ONE_SERIES: list[tuple[str, dict[int, float]]] = [
    ("m1 + 1", {0: 2, 1: 3, 2: 4, 4: 6, 5: 7}),
    ("m1 + m2", {0: 11, 1: 2, 2: 33, 4: 55, 5: 66}),
    ("m1 / m2", {0: 0.1, 2: 0.1, 4: 0.1, 5: 0.1}),
    ("-m1 ^ 2 + 2 * (m1 - 1)", {0: -1, 1: -2, 2: -5, 4: -17, 5: -26}),
    ("m1 >= 3", {0: 0, 1: 0, 2: 1, 4: 1, 5: 1}),
    ("m1 > 1 AND m2 > 0", {0: 0, 1: 0, 2: 1, 4: 1, 5: 1}),
    ("m1 == 1 || m1 == 6", {0: 1, 1: 0, 2: 0, 4: 0, 5: 1}),
    ("!m2", {0: 0, 1: 1, 2: 0, 3: 0, 4: 0, 5: 0}),
    ("IF(m1 > 2, m2, 0)", {0: 0, 1: 0, 2: 30, 4: 50, 5: 60}),
    ("IF(m1 > 2, m2)", {2: 30, 4: 50, 5: 60}),
    ("FILL(m1, 0)", {0: 1, 1: 2, 2: 3, 3: 0, 4: 5, 5: 6}),
    ("FILL(m1, REPEAT)", {0: 1, 1: 2, 2: 3, 3: 3, 4: 5, 5: 6}),
    ("FILL(m1, LINEAR)", {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6}),
    ("FILL(m1, m2)", {0: 1, 1: 2, 2: 3, 3: 40, 4: 5, 5: 6}),
    ("DIFF(m1)", {1: 1, 2: 1, 4: 2, 5: 1}),
    ("DIFF_TIME(m1)", {1: 60, 2: 60, 4: 120, 5: 60}),
    ("RATE(m1)", {1: 1 / 60, 2: 1 / 60, 4: 2 / 120, 5: 1 / 60}),
    ("RUNNING_SUM(m1)", {0: 1, 1: 3, 2: 6, 4: 11, 5: 17}),
    ("SUM([m1, m2])", {0: 11, 1: 2, 2: 33, 3: 40, 4: 55, 5: 66}),
    ("AVG(METRICS())", {0: 5.5, 1: 1, 2: 16.5, 3: 40, 4: 27.5, 5: 33}),
    ("MAX([m1, m2])", {0: 10, 1: 2, 2: 30, 3: 40, 4: 50, 5: 60}),
    ('SUM(METRICS("m1"))', {0: 1, 1: 2, 2: 3, 4: 5, 5: 6}),
    ("m1 - AVG(m1)", {0: -2.4, 1: -1.4, 2: -0.4, 4: 1.6, 5: 2.6}),
    ("m1 * PERIOD(m1)", {0: 60, 1: 120, 2: 180, 4: 300, 5: 360}),
    ("FIRST(SORT(METRICS(), SUM, DESC))", {0: 10, 1: 0, 2: 30, 3: 40, 4: 50, 5: 60}),
    ("DATAPOINT_COUNT(METRICS())", {0: 2, 1: 2, 2: 2, 3: 1, 4: 2, 5: 2}),
    ("CEIL(m1 / 2)", {0: 1, 1: 1, 2: 2, 4: 3, 5: 3}),
    ("LOG10(m2)", {0: 1, 2: 1.4771, 3: 1.602, 4: 1.699, 5: 1.778}),
    ("TIME_SERIES(7)", dict.fromkeys(range(6), 7)),
    ("METRIC_COUNT(METRICS())", dict.fromkeys(range(6), 2)),
    ("SUM(m1)", dict.fromkeys(range(6), 17)),
    ("LAST(m1)", dict.fromkeys(range(6), 6)),
]


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("expression", "values"), ONE_SERIES)
async def test_an_expression(
    cloudwatch: Client, begin: int, expression: str, values: dict[int, float]
) -> None:
    (result,) = await results(cloudwatch, begin, expression)

    assert by_minute(result, begin) == pytest.approx(values, rel=1e-3)
    assert (result["Id"], result["StatusCode"]) == ("e1", "Complete")


@pytest.mark.usefixtures("data")
async def test_an_array_is_several_results(cloudwatch: Client, begin: int) -> None:
    found = await results(cloudwatch, begin, "METRICS() * 2")

    assert [each["Label"] for each in found] == ["a", "b"]
    assert by_minute(found[0], begin)[5] == 12


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('{Fn,FunctionName} MetricName="Errors"', ["one", "two"]),
        ('{Fn,FunctionName} MetricName="Errors" FunctionName=("two" OR "three")', ["two"]),
        ("{Fn,FunctionName} NOT two", ["one"]),
        ("{Fn} Errors", ["Errors"]),
        ("Namespace=Fn error", ["Errors", "one", "two"]),
    ],
)
async def test_search(cloudwatch: Client, begin: int, text: str, labels: list[str]) -> None:
    found = await results(cloudwatch, begin, f"SEARCH('{text}', 'Sum', 60)")

    assert sorted(each["Label"] for each in found) == labels


@pytest.mark.usefixtures("data")
async def test_the_sum_of_a_search(cloudwatch: Client, begin: int) -> None:
    (found,) = await results(cloudwatch, begin, "SUM(SEARCH('{Fn,FunctionName} Errors', 'Sum', 60))")

    assert by_minute(found, begin) == dict.fromkeys(range(6), 3)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("m1 +", "cannot be read at character"),
        ("m9 * 2", "there is no query with the id m9"),
        ("NOSUCH(m1)", "there is no function NOSUCH"),
        ("ANOMALY_DETECTION_BAND(m1)", "ANOMALY_DETECTION_BAND is not supported"),
        ("e1 + 1", "refer to each other"),
        ("RATE(1)", "RATE needs a time series"),
        ("[m1, m2] + [m1]", "arrays of 2 and 1"),
        ("FILL(m1)", "FILL takes 2 arguments"),
    ],
)
async def test_what_cannot_be_worked_out_is_refused(
    cloudwatch: Client, begin: int, expression: str, said: str
) -> None:
    with pytest.raises(AWSError) as caught:
        await results(cloudwatch, begin, expression)

    assert caught.value.code == "ValidationError"
    assert said in caught.value.message


@pytest.mark.usefixtures("data")
async def test_datapoints_come_in_pages(cloudwatch: Client, clock: Clock, begin: int) -> None:
    start = clock.now() - timedelta(seconds=clock.time() - begin)
    asked = {
        "MetricDataQueries": [stat("m1", "a", returned=True), stat("m2", "b", returned=True)],
        "StartTime": start,
        "EndTime": start + timedelta(minutes=6),
        "MaxDatapoints": 4,
    }
    values: dict[str, list[float]] = {"m1": [], "m2": []}
    token: dict[str, str] = {}
    pages = 0
    while True:
        output = await cloudwatch.get_metric_data(**asked, **token)
        pages += 1
        for each in output["MetricDataResults"]:
            values[each["Id"]] += each["Values"]
        if "NextToken" not in output:
            break
        token = {"NextToken": output["NextToken"]}

    assert pages == 3
    assert values == {"m1": [6, 5, 3, 2, 1], "m2": [60, 50, 40, 30, 0, 10]}


@pytest.mark.usefixtures("data")
async def test_labels_speak_of_their_series(cloudwatch: Client, clock: Clock, begin: int) -> None:
    start = clock.now() - timedelta(seconds=clock.time() - begin)
    output = await cloudwatch.get_metric_data(
        MetricDataQueries=[
            {
                **stat("m1", "a", returned=True),
                "Label": "[max ${MAX} avg ${AVG}] ${PROP('MetricName')} ${LABEL}",
            }
        ],
        StartTime=start,
        EndTime=start + timedelta(minutes=6),
    )

    assert output["MetricDataResults"][0]["Label"] == "[max 6 avg 3.4] a a"


async def test_dashboards_are_kept_and_checked(cloudwatch: Client) -> None:
    body = (
        '{"widgets":[{"type":"metric","x":0,"y":0,"width":6,"height":6,'
        '"properties":{"metrics":[["A","b"]],"region":"eu-west-1"}}]}'
    )
    await cloudwatch.put_dashboard(DashboardName="One", DashboardBody=body)
    error = await cloudwatch.refused(
        "put_dashboard", DashboardName="Two", DashboardBody='{"widgets":[{"type":"pie","properties":{}}]}'
    )

    assert (await cloudwatch.get_dashboard(DashboardName="One"))["DashboardBody"] == body
    assert error.members["dashboardValidationMessages"][0]["DataPath"] == "/widgets/0/type"
    assert [each["DashboardName"] for each in (await cloudwatch.list_dashboards())["DashboardEntries"]] == [
        "One"
    ]
    await cloudwatch.delete_dashboards(DashboardNames=["One"])
    assert (await cloudwatch.refused("get_dashboard", DashboardName="One")).code == "DashboardNotFoundError"
