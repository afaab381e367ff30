"""Statistics by their names: `Sum`, `p99`, `tm90`, `TM(10%:90%)`, `PR(100:2000)`, `IQM`.

CloudWatch User Guide, "CloudWatch statistics definitions". Percentiles take the value at the nearest rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from lambay.observe.metrics.points import Point

Statistic = Callable[[Point], float | None]
"""None where the point cannot tell: its distribution is unknown, or has negative values."""

_SIMPLE: dict[str, Statistic] = {
    "SampleCount": lambda point: point.count,
    "Sum": lambda point: point.sum,
    "Average": lambda point: point.sum / point.count if point.count else None,
    "Minimum": lambda point: point.minimum,
    "Maximum": lambda point: point.maximum,
}
SIMPLE = frozenset(_SIMPLE)

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0{1,10})?)")
_SHORT = re.compile(r"(tm|wm|tc|ts)(\d{1,2}(?:\.\d{1,10})?|100)", re.IGNORECASE)
_RANGE = re.compile(
    r"(TM|WM|TC|TS|PR)\((?P<low>-?\d*\.?\d*)(?P<lowp>%?):(?P<high>-?\d*\.?\d*)(?P<highp>%?)\)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statistic; `detailed` ones need points with their distribution."""

    name: str
    of: Statistic
    detailed: bool


def parse(name: str) -> Asked | None:
    """The statistic of that name, None where there is none."""
    if name in _SIMPLE:
        return Asked(name, _SIMPLE[name], False)
    if found := _PERCENTILE.fullmatch(name):
        share = float(found[1]) / 100
        return Asked(name, lambda point: _percentile(point, share), True)
    if name.upper() == "IQM":
        return Asked(name, lambda point: _in_ranks("TM", point, 0.25, 0.75), True)
    if found := _SHORT.fullmatch(name):
        kind, share = found[1].upper(), float(found[2]) / 100
        return Asked(name, lambda point: _in_ranks(kind, point, 0.0, share), True)
    if found := _RANGE.fullmatch(name):
        return _ranged(name, found)
    return None


def _ranged(name: str, found: re.Match[str]) -> Asked | None:
    kind = found[1].upper()
    given = found["low"], found["high"]
    percents = bool(found["lowp"] or found["highp"])
    if given == ("", "") or "." in given or "-" in given or (percents and kind == "PR"):
        return None
    if percents:
        if (found["low"] and not found["lowp"]) or (found["high"] and not found["highp"]):
            return None
        low, high = float(given[0] or 0) / 100, float(given[1] or 100) / 100
        if not 0 <= low < high <= 1:
            return None
        return Asked(name, lambda point: _in_ranks(kind, point, low, high), True)
    below = float(given[0]) if given[0] else -math.inf
    above = float(given[1]) if given[1] else math.inf
    if below >= above:
        return None
    return Asked(name, lambda point: _in_values(kind, point, below, above), True)


def _ordered(point: Point) -> list[tuple[float, float]] | None:
    if not point.values or point.minimum < 0 or not point.count:
        return None
    return sorted(point.values.items())


def _percentile(point: Point, share: float) -> float | None:
    ordered = _ordered(point)
    if ordered is None:
        return None
    rank = share * point.count
    passed = 0.0
    for value, count in ordered:
        passed += count
        if passed >= rank - 1e-9:
            # Values that were put together stand for their middle, which may lie outside of what came.
            return min(max(value, point.minimum), point.maximum)
    return point.maximum


def _in_ranks(kind: str, point: Point, low: float, high: float) -> float | None:
    """Of the values between two shares of their number, in order; a value on the edge counts in part."""
    ordered = _ordered(point)
    if ordered is None:
        return None
    begin, end = low * point.count, high * point.count
    passed = total = number = 0.0
    lowest = highest = None
    for value, count in ordered:
        inside = min(passed + count, end) - max(passed, begin)
        passed += count
        if inside > 0:
            lowest = value if lowest is None else lowest
            highest = value
            total += value * inside
            number += inside
    if lowest is None or highest is None:
        return None
    match kind:
        case "TC":
            return number
        case "TS":
            return total
        case "WM":
            return (total + lowest * begin + highest * (point.count - end)) / point.count
    return total / number


def _in_values(kind: str, point: Point, below: float, above: float) -> float | None:
    """Of the values over `below` and up to `above`."""
    ordered = _ordered(point)
    if ordered is None:
        return None
    chosen = [(value, count) for value, count in ordered if below < value <= above]
    number = sum(count for _, count in chosen)
    if kind == "PR":
        return 100 * number / point.count
    if kind == "TC":
        return number
    total = sum(value * count for value, count in chosen)
    if kind == "TS":
        return total
    if not chosen:
        return None
    if kind == "WM":
        low = sum(count for value, count in ordered if value <= below) * chosen[0][0]
        high = sum(count for value, count in ordered if value > above) * chosen[-1][0]
        return (total + low + high) / point.count
    return total / number
