"""Metrics that log events carry in the CloudWatch embedded metric format.

CloudWatch User Guide, "Specification: Embedded metric format". What does not follow it is no metric and stays a
log event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Dimensions, Metric, dimensions

MARK = '"CloudWatchMetrics"'
"""What every such event contains; looked for before anything else is done."""

_MOST_METRICS = 100
_MOST_DIMENSIONS = 30
_MOST_VALUES = 100


def read(message: str, account: str, region: str) -> list[Datum]:
    """The metrics of one event; none where it does not follow the specification."""
    try:
        root = msgspec.json.decode(message)
        about = root["_aws"]
        at = int(about["Timestamp"]) // 1000
        directives = about["CloudWatchMetrics"]
        return [
            datum
            for directive in directives
            for datum in _directive(directive, root, Place(account, region, at))
        ]
    except (msgspec.DecodeError, LookupError, TypeError, ValueError):
        return []


class Place(msgspec.Struct, frozen=True):
    account: str
    region: str
    at: int


def _directive(directive: Mapping[str, Any], root: Mapping[str, Any], place: Place) -> Iterator[Datum]:
    sets = [_dimensions(names, root) for names in directive.get("Dimensions") or [[]]]
    for definition in directive["Metrics"][:_MOST_METRICS]:
        point = _point(root.get(definition["Name"]))
        if point is None:
            continue
        for each in sets:
            if each is None:
                continue
            metric = Metric(place.account, place.region, directive["Namespace"], definition["Name"], each)
            resolution = 1 if definition.get("StorageResolution") == 1 else 60
            yield Datum(metric, place.at, point, definition.get("Unit", "None"), resolution)


def _dimensions(names: Sequence[str], root: Mapping[str, Any]) -> Dimensions | None:
    """None where the event lacks one of them."""
    if len(names) > _MOST_DIMENSIONS:
        return None
    found: dict[str, str] = {}
    for name in names:
        value = root.get(name)
        if not isinstance(value, str) or not value:
            return None
        found[name] = value
    return dimensions(found)


def _point(given: object) -> Point | None:
    values = given if isinstance(given, list) else [given]
    numbers = [
        float(value)
        for value in values[:_MOST_VALUES]
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if not numbers or len(numbers) < len(values[:_MOST_VALUES]):
        return None
    return Point.of_values((number, 1.0) for number in numbers)
