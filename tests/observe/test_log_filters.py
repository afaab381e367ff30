"""Metric filters, the embedded metric format, and subscription filters."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.clock import Clock
from lambay.observe import Logs, Metrics
from lambay.settings import Settings

from .conftest import ACCOUNT, REGION, Client, Outside

GROUP = "/app"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:reader"


@pytest.fixture
async def logs(
    tmp_path: Path, clock: Clock, settings: Settings, metrics: Metrics, outside: Outside
) -> AsyncIterator[Logs]:
    logs = Logs(tmp_path / "logs.db", clock, settings, metrics)
    logs.deliver_to(outside.deliver)
    await logs.start()
    yield logs
    await logs.close()


async def value(metrics: Metrics, name: str, statistic: str = "Sum", **dimensions: str) -> float | None:
    now = metrics.clock.time()
    found = await metrics.statistic(
        ACCOUNT,
        REGION,
        "App",
        name,
        dimensions,
        statistic,
        period=86_400,
        start=now - 86_400,
        end=now + 86_400,
    )
    return sum(each for _, each in found) if found else None


def transformation(value: str = "1", **more: Any) -> list[dict[str, Any]]:
    return [{"metricName": "Found", "metricNamespace": "App", "metricValue": value, **more}]


async def test_a_metric_filter_counts_what_matches(client: Client, logs: Logs, metrics: Metrics) -> None:
    await client.create_log_group(logGroupName=GROUP)
    await client.put_metric_filter(
        logGroupName=GROUP, filterName="f", filterPattern="ERROR", metricTransformations=transformation()
    )
    await client.write(GROUP, "s", "ERROR one", "fine", "ERROR two")
    await logs.settle()

    assert await value(metrics, "Found") == 2
    (group,) = (await client.describe_log_groups())["logGroups"]
    assert group["metricFilterCount"] == 1


async def test_a_metric_filter_takes_values_and_dimensions_from_json(
    client: Client, logs: Logs, metrics: Metrics
) -> None:
    await client.create_log_group(logGroupName=GROUP)
    await client.put_metric_filter(
        logGroupName=GROUP,
        filterName="f",
        filterPattern='{ $.kind = "request" }',
        metricTransformations=transformation(
            "$.time.ms", dimensions={"Route": "$.route"}, unit="Milliseconds"
        ),
    )
    for ms, route in ((10, "/a"), (30, "/a"), (5, "/b")):
        await client.write(GROUP, "s", json.dumps({"kind": "request", "time": {"ms": ms}, "route": route}))
    await client.write(GROUP, "s", json.dumps({"kind": "request", "time": {"ms": "slow"}, "route": "/a"}))
    await logs.settle()

    assert await value(metrics, "Found", "Sum", Route="/a") == 40
    assert await value(metrics, "Found", "Maximum", Route="/b") == 5


async def test_a_metric_filter_takes_a_field_of_a_line(client: Client, logs: Logs, metrics: Metrics) -> None:
    await client.create_log_group(logGroupName=GROUP)
    await client.put_metric_filter(
        logGroupName=GROUP,
        filterName="f",
        filterPattern="[ip, status = 5*, bytes]",
        metricTransformations=transformation("$bytes"),
    )
    await client.write(GROUP, "s", "1.2.3.4 500 120", "1.2.3.4 200 999", "1.2.3.4 503 80")
    await logs.settle()

    assert await value(metrics, "Found") == 200


async def test_a_default_value_stands_for_minutes_without_a_match(
    client: Client, logs: Logs, metrics: Metrics, clock: Clock
) -> None:
    await client.create_log_group(logGroupName=GROUP)
    await client.put_metric_filter(
        logGroupName=GROUP,
        filterName="f",
        filterPattern="ERROR",
        metricTransformations=transformation(defaultValue=0.0),
    )
    await client.write(GROUP, "s", "fine")
    filters = logs._log_metrics
    assert filters is not None
    clock.advance(timedelta(minutes=3))
    for each in filters._filters.values():
        await metrics.put(each[0].defaults(int(clock.time()) // 60))

    assert await value(metrics, "Found", "SampleCount") == 1
    assert await value(metrics, "Found") == 0


async def test_a_filter_ends_with_its_group_and_outlives_the_process(
    client: Client, logs: Logs, metrics: Metrics, tmp_path: Path, clock: Clock, settings: Settings
) -> None:
    for group in (GROUP, "/gone"):
        await client.create_log_group(logGroupName=group)
        await client.put_metric_filter(
            logGroupName=group, filterName="f", filterPattern="", metricTransformations=transformation()
        )
    await client.delete_log_group(logGroupName="/gone")
    again = Logs(tmp_path / "logs.db", clock, settings, metrics)
    await again.start()
    await again.write(ACCOUNT, REGION, GROUP, "s", [(client.now, "x")])
    await again.write(ACCOUNT, REGION, "/gone", "s", [(client.now, "x")])
    await again.settle()
    await again.close()

    assert await value(metrics, "Found") == 1
    found = await client.describe_metric_filters(metricName="Found", metricNamespace="App")
    assert [each["logGroupName"] for each in found["metricFilters"]] == [GROUP]
    await client.delete_metric_filter(logGroupName=GROUP, filterName="f")
    assert (await client.describe_metric_filters(logGroupName=GROUP))["metricFilters"] == []


@pytest.mark.parametrize(
    ("pattern", "given", "said"),
    [
        ("ERROR", transformation("$.ms"), "selects from JSON"),
        ("ERROR", transformation("many"), "neither a number nor a selector"),
        ("{ $.a = 1", transformation(), "must end with '}'"),
        ("{ $.a = 1 }", transformation(dimensions={"A": "$.a"}, defaultValue=0.0), "mutually exclusive"),
    ],
)
async def test_a_filter_that_cannot_work_is_refused(
    client: Client, pattern: str, given: list[dict[str, Any]], said: str
) -> None:
    await client.create_log_group(logGroupName=GROUP)
    error = await client.refused(
        "put_metric_filter",
        logGroupName=GROUP,
        filterName="f",
        filterPattern=pattern,
        metricTransformations=given,
    )

    assert said in error.message


async def test_embedded_metrics(client: Client, logs: Logs, metrics: Metrics) -> None:
    event = {
        "_aws": {
            "Timestamp": client.now,
            "CloudWatchMetrics": [
                {
                    "Namespace": "App",
                    "Dimensions": [["Service"], ["Service", "Route"], ["Absent"]],
                    "Metrics": [
                        {"Name": "Latency", "Unit": "Milliseconds"},
                        {"Name": "Sizes"},
                        {"Name": "No"},
                    ],
                }
            ],
        },
        "Service": "shop",
        "Route": "/cart",
        "Latency": 12.5,
        "Sizes": [1, 2, 3],
        "No": "text",
    }
    await client.write(GROUP, "s", json.dumps(event), '{"_aws": {"CloudWatchMetrics": [1]}}')
    await logs.settle()

    assert await value(metrics, "Latency", Service="shop") == 12.5
    assert await value(metrics, "Latency", Service="shop", Route="/cart") == 12.5
    assert await value(metrics, "Sizes", "SampleCount", Service="shop") == 3
    assert await value(metrics, "Latency") is None
    assert await value(metrics, "No", Service="shop") is None


async def test_a_subscription_sends_matching_events_to_its_function(
    client: Client, logs: Logs, outside: Outside
) -> None:
    await client.create_log_group(logGroupName=GROUP)
    await client.put_subscription_filter(
        logGroupName=GROUP, filterName="f", filterPattern="ERROR", destinationArn=FUNCTION
    )
    await client.write(GROUP, "s1", "ERROR one", "fine", "ERROR two")
    await client.create_log_stream(logGroupName=GROUP, logStreamName="s2")
    await client.put_log_events(
        logGroupName=GROUP, logStreamName="s2", logEvents=[{"timestamp": client.now, "message": "ERROR put"}]
    )
    await logs.settle()

    told = [
        json.loads(gzip.decompress(base64.b64decode(each.event["awslogs"]["data"])))
        for each in outside.triggers
    ]
    assert {each["logStream"]: [event["message"] for event in each["logEvents"]] for each in told} == {
        "s1": ["ERROR one", "ERROR two"],
        "s2": ["ERROR put"],
    }
    assert told[0]["subscriptionFilters"] == ["f"]
    assert outside.triggers[0].principal == "logs.amazonaws.com"
    (described,) = (await client.describe_subscription_filters(logGroupName=GROUP))["subscriptionFilters"]
    assert described["destinationArn"] == FUNCTION


@pytest.mark.parametrize("service", ["kinesis", "firehose", "logs", "sqs"])
async def test_other_destinations_are_refused(client: Client, service: str) -> None:
    await client.create_log_group(logGroupName=GROUP)
    arn = f"arn:aws:{service}:{REGION}:{ACCOUNT}:stream:x"
    error = await client.refused(
        "put_subscription_filter", logGroupName=GROUP, filterName="f", filterPattern="", destinationArn=arn
    )

    assert f"only functions are supported, not {service}" in error.message


async def test_a_group_has_at_most_two_subscriptions(client: Client) -> None:
    await client.create_log_group(logGroupName=GROUP)
    for name in ("a", "b"):
        await client.put_subscription_filter(
            logGroupName=GROUP, filterName=name, filterPattern="", destinationArn=FUNCTION
        )
    error = await client.refused(
        "put_subscription_filter",
        logGroupName=GROUP,
        filterName="c",
        filterPattern="",
        destinationArn=FUNCTION,
    )

    assert error.code == "LimitExceededException"
