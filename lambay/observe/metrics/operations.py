"""The operations on metrics: put, list, and the two ways to ask."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from lambay.aws import AWSError, Call, Service
from lambay.observe.log_requests import continuation, continued
from lambay.observe.metrics import putting, queries, schema, statistics
from lambay.observe.metrics.errors import invalid_combination, invalid_value, missing, validation
from lambay.observe.metrics.queries import Evaluation, Result
from lambay.observe.metrics.records import Metric, dimensions, dimensions_text
from lambay.observe.metrics.service import Metrics
from lambay.observe.metrics.store import periods

Input = Mapping[str, Any]
Output = dict[str, Any]

LISTED = 500
MOST_DATAPOINTS = 1440
MOST_RETURNED = 100_800
_LIVE_SECONDS = 14 * schema.DAY
_RECENT_SECONDS = 3 * 3600


class MetricOperations(Service):
    """See the Amazon CloudWatch API Reference."""

    service_name = "cloudwatch"
    _metrics: Metrics

    async def put_metric_data(self, call: Call, input: Input) -> Output:
        data = putting.read(input, call.account, call.region, self._metrics.clock.time())
        await self._metrics.put(data)
        return {}

    async def list_metrics(self, call: Call, input: Input) -> Output:
        """Metrics that had data in the last two weeks; the own account's only."""
        now = int(self._metrics.clock.time())
        since = now - (_RECENT_SECONDS if input.get("RecentlyActive") else _LIVE_SECONDS)
        wanted = input.get("Dimensions") or ()
        after = _continued(input.get("NextToken"))

        def fits(metric: Metric) -> bool:
            there = dict(metric.dimensions)
            return all(
                each["Name"] in there and each.get("Value", there[each["Name"]]) == there[each["Name"]]
                for each in wanted
            )

        def read(connection: sqlite3.Connection) -> list[Metric]:
            listed = schema.metrics_of(
                connection,
                call.account,
                call.region,
                since=since,
                namespace=input.get("Namespace"),
                name=input.get("MetricName"),
                after=after,
            )
            return list(itertools.islice(filter(fits, listed), LISTED + 1))

        found = await self._metrics.store.read(read)
        output: Output = {
            "Metrics": [
                {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
                }
                for metric in found[:LISTED]
            ]
        }
        if input.get("IncludeLinkedAccounts"):
            output["OwningAccounts"] = [call.account] * len(output["Metrics"])
        if len(found) > LISTED:
            last = found[LISTED - 1]
            output["NextToken"] = continuation(last.namespace, last.name, dimensions_text(last.dimensions))
        return output

    async def get_metric_statistics(self, call: Call, input: Input) -> Output:
        asked = _asked(input)
        now = self._metrics.clock.time()
        period = input["Period"]
        if period not in queries.HIGH_RESOLUTIONS and (period < 60 or period % 60):
            raise invalid_value(
                f"The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60; {period} was given."
            )
        start, end = _span(input)
        if (end - start) / period > MOST_DATAPOINTS:
            raise invalid_combination(
                f"You have requested up to {int((end - start) // period):,} datapoints, which exceeds the limit of "
                f"{MOST_DATAPOINTS:,}. You may reduce the datapoints requested by increasing Period, or decreasing "
                "the time range."
            )
        metric = Metric(
            call.account,
            call.region,
            input["Namespace"],
            input["MetricName"],
            dimensions({each["Name"]: each["Value"] for each in input.get("Dimensions") or ()}),
        )
        begin = queries.rounded(int(start), int(now), period)
        detail = any(each.detailed for each in asked)

        def read(connection: sqlite3.Connection) -> list[Output]:
            units = {unit for _, unit in schema.series_of(connection, metric)}
            chosen = units & {input["Unit"]} if "Unit" in input else units
            return [
                _datapoint(at, unit, {each.name: each.of(point) for each in asked})
                for unit in sorted(chosen)
                for at, point in periods(
                    connection, metric, begin, int(end), period, unit=unit, detail=detail
                ).items()
            ]

        found = await self._metrics.store.read(read)
        return {"Label": metric.name, "Datapoints": [each for each in found if len(each) > 2]}

    async def get_metric_data(self, call: Call, input: Input) -> Output:
        read = queries.read(input["MetricDataQueries"], call.account, call.region)
        start, end = _span(input)
        now = self._metrics.clock.time()
        descending = input.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        limit = input.get("MaxDatapoints") or MOST_RETURNED
        if not 1 <= limit <= MOST_RETURNED:
            raise validation(f"MaxDatapoints must be between 1 and {MOST_RETURNED}; {limit} was given.")
        _check_timezone(input.get("LabelOptions", {}).get("Timezone"))
        skipped = _skipped(input.get("NextToken"))

        def evaluate(connection: sqlite3.Connection) -> list[Result]:
            evaluation = Evaluation(
                connection, call.account, call.region, read, int(start), int(end), int(now)
            )
            return evaluation.results()

        results = await self._metrics.store.read(evaluate)
        return _page(results, skipped, limit, descending=descending)


def _asked(input: Input) -> list[statistics.Asked]:
    names = [*(input.get("Statistics") or ()), *(input.get("ExtendedStatistics") or ())]
    if not names:
        raise missing("At least one of the parameters Statistics or ExtendedStatistics must be specified.")
    asked: list[statistics.Asked] = []
    for name in names:
        found = statistics.parse(name)
        if found is None:
            raise invalid_value(f"The value {name} for parameter ExtendedStatistics is not supported.")
        asked.append(found)
    return asked


def _span(input: Input) -> tuple[float, float]:
    start: datetime = input["StartTime"]
    end: datetime = input["EndTime"]
    if start >= end:
        raise AWSError(
            "ValidationError" if "MetricDataQueries" in input else "InvalidParameterValueException",
            "The parameter StartTime must be less than the parameter EndTime.",
            status=400,
        )
    return start.timestamp(), end.timestamp()


def _datapoint(at: int, unit: str, values: Mapping[str, float | None]) -> Output:
    datapoint: Output = {"Timestamp": datetime.fromtimestamp(at, UTC), "Unit": unit}
    extended: dict[str, float] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name in statistics.SIMPLE:
            datapoint[name] = value
        else:
            extended[name] = value
    if extended:
        datapoint["ExtendedStatistics"] = extended
    return datapoint


def _page(results: list[Result], skipped: int, limit: int, *, descending: bool) -> Output:
    """Datapoints from number `skipped` on, `limit` of them; a series that goes on is PartialData."""
    shown: list[Output] = []
    place, end = 0, skipped + limit
    for result in results:
        pairs = list(result.series.values.items())
        if descending:
            pairs.reverse()
        first, last = place, place + len(pairs)
        place = last
        if skipped and last <= skipped:
            continue
        if first >= end and pairs:
            continue
        chosen = pairs[max(0, skipped - first) : max(0, end - first)]
        shown.append(
            {
                "Id": result.id,
                "Label": result.label,
                "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in chosen],
                "Values": [value for _, value in chosen],
                "StatusCode": "Complete" if last <= end else "PartialData",
            }
        )
    output: Output = {"MetricDataResults": shown, "Messages": []}
    if place > end:
        output["NextToken"] = continuation(end)
    return output


def _skipped(token: str | None) -> int:
    try:
        place = continued(token, int)
    except AWSError:
        raise AWSError("InvalidNextToken", "The next token specified is invalid.") from None
    return 0 if place is None else int(place[0])


def _continued(token: str | None) -> tuple[str, str, str]:
    try:
        place = continued(token, str, str, str)
    except AWSError:
        raise invalid_value(
            "The value for parameter NextToken is not one that ListMetrics returned."
        ) from None
    return ("", "", "") if place is None else (place[0], place[1], place[2])


def _check_timezone(text: str | None) -> None:
    """`+0130` or a zone's name."""
    if text is None or (len(text) == 5 and text[0] in "+-" and text[1:].isdigit()):
        return
    try:
        ZoneInfo(text)
    except (ValueError, OSError):
        raise validation(f"LabelOptions.Timezone: {text!r} is no time zone; write +HHMM or -HHMM.") from None
