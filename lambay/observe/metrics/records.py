"""A metric's identity, and what is put to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lambay.observe.metrics.points import Point

Dimensions = tuple[tuple[str, str], ...]
"""Name and value of each, sorted by name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric in its account and Region."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: Dimensions = ()


@dataclass(slots=True)
class Datum:
    """What a metric was at a second (`at`, since the epoch); `resolution` is 60 or, high, 1 second."""

    metric: Metric
    at: int
    point: Point
    unit: str = "None"
    resolution: int = 60


def dimensions(given: Mapping[str, str]) -> Dimensions:
    return tuple(sorted(given.items()))


def dimensions_text(given: Dimensions) -> str:
    """As the store has them."""
    return json.dumps(given, separators=(",", ":"), ensure_ascii=False)


def parse_dimensions(text: str) -> Dimensions:
    return tuple((name, value) for name, value in json.loads(text))
