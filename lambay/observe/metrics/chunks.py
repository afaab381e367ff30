"""Many points of one series as one small blob: columns, packed and compressed."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping

import msgspec

from lambay.observe.metrics.points import Point, restored, rounded, stored

SPANS = {1: 900, 60: 21_600, 300: 86_400, 3600: 1_296_000}
"""Seconds that a chunk covers, by resolution: 360 to 900 points."""

HOUR = 3600
_BY_THE_HOUR = 60

_FEW_VALUES = 8
_MOST_VALUES = 24
_MOST_VALUES_OF_AN_HOUR = 256

_Hour = tuple[int, float, float, float, float, bytes | None]
"""Second from the chunk's start, count, sum, minimum, maximum, distribution."""


class _Columns(msgspec.Struct, array_like=True, frozen=True):
    """A column each, an item for each point; `lows`, `highs` and `distributions` are left out where points have one
    value each. `hours` are the same points together: percentiles by the hour would else be made of thousands."""

    places: bytes
    counts: bytes
    sums: bytes
    lows: bytes
    highs: bytes
    distributions: list[bytes | None] | None
    hours: list[_Hour] | None = None


_decode = msgspec.msgpack.Decoder(_Columns).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(points: Mapping[int, Point], start: int, resolution: int) -> bytes:
    """`points` by their second, all within the chunk that starts at `start`."""
    order = sorted(points)
    chosen = [points[at] for at in order]
    places = array("H", ((at - start) // resolution for at in order))
    counts = array("d", (point.count for point in chosen))
    sums = array("d", (point.sum for point in chosen))
    # Most points are of one value: their extremes are their mean.
    single = all(point.minimum == point.maximum == point.sum / point.count for point in chosen if point.count)
    lows = b"" if single else array("d", (point.minimum for point in chosen)).tobytes()
    highs = b"" if single else array("d", (point.maximum for point in chosen)).tobytes()
    distributions = None if single else [_packed(point) for point in chosen]
    by_the_hour = None if single or resolution != _BY_THE_HOUR else _hours(points, start)
    columns = _Columns(
        places.tobytes(), counts.tobytes(), sums.tobytes(), lows, highs, distributions, by_the_hour
    )
    return zlib.compress(_encode(columns), 6)


def _hours(points: Mapping[int, Point], start: int) -> list[_Hour]:
    merged: dict[int, Point] = {}
    for at, point in points.items():
        # Values on the same places as those of the minutes: the hour has few more.
        fewer = point.copy()
        if fewer.values is not None and len(fewer.values) > _FEW_VALUES:
            fewer.values = rounded(fewer.values, _MOST_VALUES)
        hour = (at - start) // HOUR * HOUR
        if hour in merged:
            merged[hour].merge(fewer, _MOST_VALUES * HOUR)
        else:
            merged[hour] = fewer
    for point in merged.values():
        if point.values is not None and len(point.values) > _MOST_VALUES_OF_AN_HOUR:
            point.values = rounded(point.values, _MOST_VALUES_OF_AN_HOUR)
    return [
        (hour, point.count, point.sum, point.minimum, point.maximum, stored(point))
        for hour, point in sorted(merged.items())
    ]


def hours(blob: bytes, start: int) -> list[tuple[int, Point]] | None:
    """The points of each hour together, with the hour's first second; None where the chunk does not have them."""
    found = _decode(zlib.decompress(blob)).hours
    if found is None:
        return None
    return [
        (start + hour, restored(count, total, low, high, distribution))
        for hour, count, total, low, high, distribution in found
    ]


def _packed(point: Point) -> bytes | None:
    """The distribution as it is kept for long: exact for few values, else rounded, and of 24 at most."""
    if point.values is None or len(point.values) <= _FEW_VALUES:
        return stored(point)
    values = rounded(point.values, _MOST_VALUES)
    return stored(Point(point.count, point.sum, point.minimum, point.maximum, values))


def plain(blob: bytes, start: int, resolution: int) -> Iterator[tuple[int, float, float, float, float]]:
    """The points without their distributions: second, count, sum, minimum, maximum, in order."""
    columns = _decode(zlib.decompress(blob))
    places = array("H", columns.places)
    counts, sums = array("d", columns.counts), array("d", columns.sums)
    if columns.lows:
        lows, highs = array("d", columns.lows), array("d", columns.highs)
    else:
        lows = highs = array("d", (total / count for total, count in zip(sums, counts, strict=True)))
    times = [start + place * resolution for place in places]
    return zip(times, counts, sums, lows, highs, strict=True)


def unpack(blob: bytes, start: int, resolution: int) -> Iterator[tuple[int, Point]]:
    """The points with their seconds, in order."""
    columns = _decode(zlib.decompress(blob))
    places = array("H", columns.places)
    counts, sums = array("d", columns.counts), array("d", columns.sums)
    if columns.lows:
        lows, highs = array("d", columns.lows), array("d", columns.highs)
    else:
        lows = highs = array("d", (total / count for total, count in zip(sums, counts, strict=True)))
    distributions = columns.distributions or [None] * len(places)
    for place, count, total, low, high, distribution in zip(
        places, counts, sums, lows, highs, distributions, strict=True
    ):
        yield start + place * resolution, restored(count, total, low, high, distribution)
