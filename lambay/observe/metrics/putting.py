"""PutMetricData's input, checked and read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lambay.observe.metrics.errors import invalid_combination, invalid_value, missing
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions

MOST_DATA = 1000
MOST_VALUES = 150
LARGEST = 2.0**360
OLDEST_SECONDS = 14 * 86_400
NEWEST_SECONDS = 2 * 3600


def read(input: Mapping[str, Any], account: str, region: str, now: float) -> list[Datum]:
    """The data of a request. Raises the errors of PutMetricData, naming the parameter."""
    namespace = input["Namespace"]
    if namespace.startswith("AWS/"):
        raise invalid_value(f"The value {namespace} for parameter Namespace is invalid: AWS/ is AWS's own.")
    collections = [("MetricData", input.get("MetricData") or ())]
    for number, entity in enumerate(input.get("EntityMetricData") or (), start=1):
        collections.append((f"EntityMetricData.member.{number}.MetricData", entity.get("MetricData") or ()))
    size = sum(len(data) for _, data in collections)
    if not size:
        raise missing("The parameter MetricData is required.")
    if size > MOST_DATA:
        raise invalid_value(f"The collection MetricData must not have a size greater than {MOST_DATA}.")
    return [
        _datum(f"{place}.member.{number}", given, namespace, account, region, now)
        for place, data in collections
        for number, given in enumerate(data, start=1)
    ]


def _datum(
    place: str, given: Mapping[str, Any], namespace: str, account: str, region: str, now: float
) -> Datum:
    resolution = given.get("StorageResolution", 60)
    if resolution not in (1, 60):
        raise invalid_value(
            f"The parameter {place}.StorageResolution must be 1 or 60; {resolution} was given."
        )
    at = now
    if "Timestamp" in given:
        moment: datetime = given["Timestamp"]
        at = moment.timestamp()
        if at < now - OLDEST_SECONDS:
            raise invalid_value(
                f"The parameter {place}.Timestamp must specify a time within the past two weeks."
            )
        if at > now + NEWEST_SECONDS:
            raise invalid_value(
                f"The parameter {place}.Timestamp must specify a time no more than two hours in the future."
            )
    metric = Metric(
        account, region, namespace, given["MetricName"], _dimensions(place, given.get("Dimensions") or ())
    )
    return Datum(metric, int(at), _point(place, given), given.get("Unit", "None"), resolution)


def _dimensions(place: str, given: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    for number, each in enumerate(given, start=1):
        for part in ("Name", "Value"):
            if (
                not each[part].strip()
                or not each[part].isascii()
                or (part == "Name" and each[part][0] == ":")
            ):
                raise invalid_value(
                    f"The value {each[part]!r} for parameter {place}.Dimensions.member.{number}.{part} is invalid:"
                    " it takes ASCII characters, not only blanks."
                )
    named = {each["Name"]: each["Value"] for each in given}
    if len(named) < len(given):
        raise invalid_value(f"The parameter {place}.Dimensions has the same name more than once.")
    return dimensions(named)


def _point(place: str, given: Mapping[str, Any]) -> Point:
    value, values, stated = given.get("Value"), given.get("Values"), given.get("StatisticValues")
    present = [
        name
        for name, each in (("Value", value), ("Values", values), ("StatisticValues", stated))
        if each is not None
    ]
    if not present:
        raise missing(
            f"At least one of the parameters {place}.Value, {place}.Values or {place}.StatisticValues must be "
            "specified."
        )
    if len(present) > 1:
        raise invalid_combination(
            f"The parameters {place}.{present[0]} and {place}.{present[1]} are mutually exclusive and you have "
            "specified both."
        )
    if value is not None:
        return Point.of(_number(f"{place}.Value", value))
    if stated is not None:
        return _statistic_set(f"{place}.StatisticValues", stated)
    return _values(place, values or (), given.get("Counts"))


def _values(place: str, values: Sequence[float], counts: Sequence[float] | None) -> Point:
    if not values:
        raise missing(f"The parameter {place}.Values must not be empty.")
    if len(values) > MOST_VALUES:
        raise invalid_value(f"The collection {place}.Values must not have a size greater than {MOST_VALUES}.")
    if counts is None:
        counts = [1.0] * len(values)
    if len(counts) != len(values):
        raise invalid_value(f"The parameters {place}.Values and {place}.Counts must be of the same size.")
    for number, count in enumerate(counts, start=1):
        if not _number(f"{place}.Counts.member.{number}", count) > 0:
            raise invalid_value(
                f"The value {count} for parameter {place}.Counts.member.{number} must be greater than 0."
            )
    checked = [
        _number(f"{place}.Values.member.{number}", value) for number, value in enumerate(values, start=1)
    ]
    return Point.of_values(zip(checked, counts, strict=True))


def _statistic_set(place: str, given: Mapping[str, float]) -> Point:
    count, total, low, high = (
        _number(f"{place}.{name}", given[name]) for name in ("SampleCount", "Sum", "Minimum", "Maximum")
    )
    if count <= 0:
        raise invalid_value(f"The parameter {place}.SampleCount must be greater than 0.")
    if low > high:
        raise invalid_value(f"The parameter {place}.Maximum must be greater than {place}.Minimum.")
    return Point(count, total, low, high, {low: count} if low == high or count == 1 else None)


def _number(place: str, value: float) -> float:
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise invalid_value(
            f"The value {value} for parameter {place} is invalid: it must be a number between -2^360 and 2^360."
        )
    return float(value)
