"""What SQLite lacks and queries need: functions of ours, called on its threads."""

from __future__ import annotations

import functools
import ipaddress
import json
import math
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import regex

_REGEX_SECONDS = 1.0


@functools.lru_cache(maxsize=512)
def compiled(pattern: str) -> regex.Pattern[str]:
    """Raises regex.error."""
    return regex.compile(pattern)


def prepare(connection: sqlite3.Connection) -> None:
    """Teach a connection what queries call."""
    for name, count, function in _FUNCTIONS:
        connection.create_function(name, count, function, deterministic=True)
    aggregates: list[tuple[str, int, Any]] = [
        ("earliest_of", 2, _Earliest),
        ("latest_of", 2, _Latest),
    ]
    for name, count, aggregate in aggregates:
        connection.create_aggregate(name, count, aggregate)


def _as_number(value: object) -> float | int | None:
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _matches(pattern: str, text: object) -> int | None:
    if text is None:
        return None
    try:
        return int(compiled(pattern).search(str(text), timeout=_REGEX_SECONDS) is not None)
    except TimeoutError:
        return 0


@functools.lru_cache(maxsize=8)
def _groups(pattern: str, text: str) -> tuple[str | None, ...] | None:
    """A message's groups are asked for one after the other."""
    try:
        found = compiled(pattern).search(text, timeout=_REGEX_SECONDS)
    except TimeoutError:
        return None
    return None if found is None else found.groups()


def _group(pattern: str, number: int, text: object) -> str | None:
    if text is None:
        return None
    groups = _groups(pattern, str(text))
    return None if groups is None else groups[number]


@functools.lru_cache(maxsize=8)
def _wildcards(glob: str, text: str) -> tuple[str, ...] | None:
    """What the wildcards stand for, each as little as it can and the last one at the end for all that is left."""
    first, *pieces = glob.split("*")
    place = text.find(first)
    if place < 0:
        return None
    place += len(first)
    found: list[str] = []
    for number, piece in enumerate(pieces):
        end = len(text) if not piece and number == len(pieces) - 1 else text.find(piece, place)
        if end < 0:
            return None
        found.append(text[place:end])
        place = end + len(piece)
    return tuple(found)


def _wildcard(glob: str, number: int, text: object) -> str | None:
    found = None if text is None else _wildcards(glob, str(text))
    return None if found is None else found[number]


def _moment(text: object) -> int | None:
    """Milliseconds of a time's text, as Insights writes times or as ISO 8601 does."""
    if isinstance(text, int | float):
        return int(text)
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _replaced(text: object, old: object, new: object) -> str | None:
    return None if text is None else str(text).replace(str(old), str(new))


def _power(left: object, right: object) -> float | None:
    one, other = _as_number(left), _as_number(right)
    if one is None or other is None:
        return None
    try:
        found = one**other
    except (OverflowError, ZeroDivisionError):
        return None
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def _numeric(work: Callable[[float], float]) -> Callable[[object], float | None]:
    def function(value: object) -> float | None:
        number = _as_number(value)
        if number is None:
            return None
        try:
            return work(number)
        except (ValueError, OverflowError):
            return None

    return function


def _is_ip(version: int | None) -> Callable[[object], int]:
    def function(text: object) -> int:
        try:
            found = ipaddress.ip_address(str(text))
        except ValueError:
            return 0
        return int(version is None or found.version == version)

    return function


def _in_subnet(version: int | None) -> Callable[[object, object], int]:
    def function(text: object, subnet: object) -> int:
        try:
            found = ipaddress.ip_address(str(text))
            return int(
                (version is None or found.version == version)
                and found in ipaddress.ip_network(str(subnet), False)
            )
        except (ValueError, TypeError):
            return 0

    return function


def _stripped(side: str) -> Callable[..., str | None]:
    def function(text: object, characters: object = None) -> str | None:
        if text is None:
            return None
        given = None if characters is None else str(characters)
        found: str = getattr(str(text), side)(given)
        return found

    return function


def _parsed(text: object) -> str | None:
    try:
        return json.dumps(json.loads(str(text)))
    except ValueError:
        return None


def _numbers(joined: object) -> list[float]:
    """Those that SQLite's group_concat() has joined: a call of ours for each row would take several times as long."""
    return [] if joined is None else [float(each) for each in str(joined).split(",")]


def _percentile(joined: object, percent: object) -> float | None:
    """The value at the nearest rank."""
    values = _numbers(joined)
    if not values:
        return None
    values.sort()
    rank = math.ceil((_as_number(percent) or 0.0) / 100 * len(values) - 1e-9)
    return values[max(0, min(rank, len(values)) - 1)]


def _deviation(joined: object) -> float | None:
    """The sample's standard deviation."""
    values = _numbers(joined)
    if not values:
        return None
    if len(values) == 1:
        return 0.0
    # statistics.stdev() is exact, and a hundred times slower.
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


_FUNCTIONS: list[tuple[str, int, Callable[..., Any]]] = [
    ("as_number", 1, _as_number),
    ("matches", 2, _matches),
    ("matched_group", 3, _group),
    ("wildcard", 3, _wildcard),
    ("moment_of", 1, _moment),
    ("replaced", 3, _replaced),
    ("to_power", 2, _power),
    ("square_root", 1, _numeric(math.sqrt)),
    ("logarithm", 1, _numeric(math.log)),
    ("ceiling", 1, _numeric(math.ceil)),
    ("floored", 1, _numeric(math.floor)),
    ("is_ip", 1, _is_ip(None)),
    ("is_ipv4", 1, _is_ip(4)),
    ("is_ipv6", 1, _is_ip(6)),
    ("in_subnet", 2, _in_subnet(None)),
    ("in_subnet_v4", 2, _in_subnet(4)),
    ("in_subnet_v6", 2, _in_subnet(6)),
    ("stripped", -1, _stripped("strip")),
    ("left_stripped", -1, _stripped("lstrip")),
    ("right_stripped", -1, _stripped("rstrip")),
    ("parsed_json", 1, _parsed),
    ("percentile_in", 2, _percentile),
    ("deviation_in", 1, _deviation),
]


class _Earliest:
    """The value of the earliest event that has one."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._value: Any = None

    def step(self, value: Any, at: int) -> None:
        if value is not None and (self._at is None or self._better(at, self._at)):
            self._at, self._value = at, value

    def _better(self, at: int, than: int) -> bool:
        return at < than

    def finalize(self) -> Any:
        return self._value


class _Latest(_Earliest):
    def _better(self, at: int, than: int) -> bool:
        return at >= than
