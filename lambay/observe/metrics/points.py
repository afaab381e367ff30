"""What is known of one metric in one span of time: count, sum, extremes, and how the values were distributed.

A distribution is exact up to 64 different values. Past that, values within one per cent of each other (then two,
four, …) count as one, so that a point's size is bounded and percentiles stay as close.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

MOST_VALUES = 64
# Of the logarithm: values closer than that are within a per cent of each other.
_STEP = math.log1p(0.01)
UNKNOWN = b""
"""The stored form of a distribution that was never told: a statistic set's."""

_decode = msgspec.msgpack.Decoder(tuple[list[float], list[float]]).decode
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Point:
    """`values` has how often each value came; None where only statistic sets were given."""

    count: float
    sum: float
    minimum: float
    maximum: float
    values: dict[float, float] | None

    @classmethod
    def of(cls, value: float, count: float = 1.0) -> Point:
        return cls(count, value * count, value, value, {value: count})

    @classmethod
    def of_values(cls, pairs: Iterable[tuple[float, float]]) -> Point:
        """Of (value, count) pairs, at least one."""
        values: dict[float, float] = {}
        for value, count in pairs:
            values[value] = values.get(value, 0.0) + count
        return cls(
            sum(values.values()),
            sum(value * count for value, count in values.items()),
            min(values),
            max(values),
            compact(values),
        )

    def merge(self, other: Point, most: int = MOST_VALUES) -> None:
        """Add what `other` knows, keeping `most` different values apart."""
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if self.values is None or other.values is None:
            self.values = None
            return
        values = self.values
        for value, count in other.values.items():
            values[value] = values.get(value, 0.0) + count
        if len(values) > most:
            self.values = compact(values)

    def copy(self) -> Point:
        values = None if self.values is None else dict(self.values)
        return Point(self.count, self.sum, self.minimum, self.maximum, values)


def compact(values: dict[float, float]) -> dict[float, float]:
    """`values` with neighbours put together until there are at most 64; their counts add up the same."""
    return values if len(values) <= MOST_VALUES else rounded(values, MOST_VALUES)


def rounded(values: dict[float, float], most: int) -> dict[float, float]:
    """At most `most` values, each within a per cent of those that it stands for, or two, four, ….

    The same values stand for neighbours everywhere, so that packed points have many bytes in common.
    """
    counts: dict[tuple[bool, int], float] = {}
    zeros = values.get(0.0, 0.0)
    for value, count in values.items():
        if value:
            key = (value < 0, math.floor(math.log(abs(value)) / _STEP))
            counts[key] = counts.get(key, 0.0) + count
    step = _STEP
    while len(counts) + bool(zeros) > most:
        # Two neighbours become one, whose place is half of theirs.
        halved: dict[tuple[bool, int], float] = {}
        for (negative, place), count in counts.items():
            key = (negative, place >> 1)
            halved[key] = halved.get(key, 0.0) + count
        counts, step = halved, step * 2
    found = {0.0: zeros} if zeros else {}
    for (negative, place), count in counts.items():
        size = math.exp((place + 0.5) * step)
        found[-size if negative else size] = count
    return found


def stored(point: Point) -> bytes | None:
    """The distribution as bytes; None where the other numbers tell it: all values are the same."""
    if point.values is None:
        return None if point.minimum == point.maximum else UNKNOWN
    if len(point.values) == 1:
        return None
    return _encode((list(point.values), list(point.values.values())))


def restored(count: float, total: float, minimum: float, maximum: float, distribution: bytes | None) -> Point:
    """The point of its stored parts."""
    values: dict[float, float] | None = None
    if distribution is None:
        values = {minimum: count}
    elif distribution:
        keys, counts = _decode(distribution)
        values = dict(zip(keys, counts, strict=True))
    return Point(count, total, minimum, maximum, values)
