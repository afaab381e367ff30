"""Many points of one series as one small blob: columns, packed and compressed."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping

import msgspec

from lambay.observe.metrics.points import Point, restored, rounded, stored

SPANS = {1: 900, 60: 21_600, 300: 86_400, 3600: 1_296_000}
"""Seconds that a chunk covers, by resolution: 360 to 900 points."""

_FEW_VALUES = 8
_MOST_VALUES = 24

_Columns = tuple[bytes, bytes, bytes, bytes, bytes, list[bytes | None] | None]
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
    columns = (places.tobytes(), counts.tobytes(), sums.tobytes(), lows, highs, distributions)
    return zlib.compress(_encode(columns), 6)


def _packed(point: Point) -> bytes | None:
    """The distribution as it is kept for long: exact for few values, else rounded, and of 24 at most."""
    if point.values is None or len(point.values) <= _FEW_VALUES:
        return stored(point)
    values = rounded(point.values, _MOST_VALUES)
    return stored(Point(point.count, point.sum, point.minimum, point.maximum, values))


def plain(blob: bytes, start: int, resolution: int) -> Iterator[tuple[int, float, float, float, float]]:
    """The points without their distributions: second, count, sum, minimum, maximum, in order."""
    columns = _decode(zlib.decompress(blob))
    places = array("H", columns[0])
    counts, sums = array("d", columns[1]), array("d", columns[2])
    if columns[3]:
        lows, highs = array("d", columns[3]), array("d", columns[4])
    else:
        lows = highs = array("d", (total / count for total, count in zip(sums, counts, strict=True)))
    times = [start + place * resolution for place in places]
    return zip(times, counts, sums, lows, highs, strict=True)


def unpack(blob: bytes, start: int, resolution: int) -> Iterator[tuple[int, Point]]:
    """The points with their seconds, in order."""
    columns = _decode(zlib.decompress(blob))
    places = array("H", columns[0])
    counts, sums = array("d", columns[1]), array("d", columns[2])
    if columns[3]:
        lows, highs = array("d", columns[3]), array("d", columns[4])
    else:
        lows = highs = array("d", (total / count for total, count in zip(sums, counts, strict=True)))
    distributions = columns[5] or [None] * len(places)
    for place, count, total, low, high, distribution in zip(
        places, counts, sums, lows, highs, distributions, strict=True
    ):
        yield start + place * resolution, restored(count, total, low, high, distribution)
