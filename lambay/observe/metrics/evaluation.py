"""Metric math, done: a tree and the series it speaks of to a number, a series, or several.

Series are combined time by time; where one of them has no data, neither has the result.
"""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lambay.observe.metrics.expressions import (
    Array,
    Function,
    InvalidExpression,
    Name,
    Node,
    Number,
    Operation,
    Text,
)
from lambay.observe.metrics.records import Metric


@dataclass(slots=True)
class Series:
    """Values by the second at which their period begins, in order of time."""

    values: dict[int, float]
    label: str
    period: int
    statistic: str = ""
    metric: Metric | None = None

    def with_values(self, values: dict[int, float]) -> Series:
        return Series(values, self.label, self.period, self.statistic, self.metric)


Value = float | Series | list[Series]

Search = Callable[[str, str, int | None], list[Series]]
"""The series that a search expression finds, by a statistic and a period (None: one that suits)."""


@dataclass(slots=True)
class Scope:
    """What an expression may speak of: `series` by id, in the request's order."""

    start: int
    end: int
    period: int
    lookup: Callable[[str], Value]
    metrics: Sequence[str]
    search: Search
    label: str = ""
    _grid: dict[int, range] = field(default_factory=dict)

    def grid(self, period: int) -> range:
        """When periods begin."""
        if period not in self._grid:
            self._grid[period] = range(self.start, self.end, period)
        return self._grid[period]


def evaluate(node: Node, scope: Scope) -> Value:
    """Raises InvalidExpression."""
    match node:
        case Number(value):
            return value
        case Name(value):
            return scope.lookup(value)
        case Operation(sign, (operand,)):
            return _one(sign, evaluate(operand, scope))
        case Operation(sign, (left, right)):
            return _combined(_OPERATORS[sign], evaluate(left, scope), evaluate(right, scope))
        case Array(items):
            return [each for item in items for each in _series(evaluate(item, scope), scope, "an array")]
        case Text(value):
            raise InvalidExpression(f"the text {value!r} stands where a metric or a number is expected")
        case Function(name, arguments):
            if name not in _FUNCTIONS:
                raise InvalidExpression(_missing(name))
            fewest, most, function = _FUNCTIONS[name]
            if not fewest <= len(arguments) <= most:
                wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
                raise InvalidExpression(f"{name} takes {wanted} arguments, {len(arguments)} were given")
            return function(scope, arguments)
    raise AssertionError(node)


def _missing(name: str) -> str:
    if name in (
        "ANOMALY_DETECTION_BAND",
        "INSIGHT_RULE_METRIC",
        "DB_PERF_INSIGHTS",
        "LAMBDA",
        "SERVICE_QUOTA",
    ):
        return f"{name} is not supported"
    return f"there is no function {name}"


# -- operators ---------------------------------------------------------------------------------------------


def _divide(left: float, right: float) -> float:
    return left / right if right else math.nan


def _raise(left: float, right: float) -> float:
    try:
        power = left**right
    except (OverflowError, ZeroDivisionError):
        return math.nan
    return power if isinstance(power, float | int) else math.nan


_OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "^": _raise,
    "==": lambda left, right: float(left == right),
    "!=": lambda left, right: float(left != right),
    "<": lambda left, right: float(left < right),
    "<=": lambda left, right: float(left <= right),
    ">": lambda left, right: float(left > right),
    ">=": lambda left, right: float(left >= right),
    "&&": lambda left, right: float(bool(left) and bool(right)),
    "||": lambda left, right: float(bool(left) or bool(right)),
}


def _one(sign: str, value: Value) -> Value:
    return _each(value, operator.neg if sign == "-" else lambda number: float(not number))


def _each(value: Value, work: Callable[[float], float]) -> Value:
    """Every number put through `work`; what comes out as no number is no data."""
    if isinstance(value, list):
        return [_mapped(series, work) for series in value]
    return _mapped(value, work) if isinstance(value, Series) else work(value)


def _mapped(series: Series, work: Callable[[float], float]) -> Series:
    return series.with_values(_finite((at, work(number)) for at, number in series.values.items()))


def _finite(pairs: object) -> dict[int, float]:
    return {at: number for at, number in pairs if math.isfinite(number)}  # type: ignore[attr-defined]


def _combined(work: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            raise InvalidExpression(
                f"arrays of {len(left)} and {len(right)} time series cannot be combined one by one"
            )
        return [_paired(work, *pair) for pair in zip(left, right, strict=True)]
    if isinstance(left, list):
        return [_paired(work, series, right) for series in left]  # type: ignore[arg-type]
    if isinstance(right, list):
        return [_relabelled(_paired(work, left, series), series) for series in right]
    if isinstance(left, Series) or isinstance(right, Series):
        return _paired(work, left, right)
    return work(left, right)


def _relabelled(series: Series, like: Series) -> Series:
    return Series(series.values, like.label, like.period, like.statistic, like.metric)


def _paired(work: Callable[[float, float], float], left: Series | float, right: Series | float) -> Series:
    if isinstance(left, Series) and isinstance(right, Series):
        values = _finite(
            (at, work(number, right.values[at])) for at, number in left.values.items() if at in right.values
        )
        return Series(values, left.label, max(left.period, right.period))
    if isinstance(left, Series):
        return _mapped(left, lambda number: work(number, right))  # type: ignore[arg-type]
    assert isinstance(right, Series)
    return _mapped(right, lambda number: work(left, number))


# -- functions ---------------------------------------------------------------------------------------------


def _series(value: Value, scope: Scope, what: str) -> list[Series]:
    """`value` as series; a number is one of the same value at all times."""
    if isinstance(value, list):
        return value
    if isinstance(value, Series):
        return [value]
    return [Series(dict.fromkeys(scope.grid(scope.period), value), what, scope.period)]


def _needs_series(scope: Scope, name: str, node: Node) -> Series | list[Series]:
    value = evaluate(node, scope)
    if isinstance(value, Series | list):
        return value
    raise InvalidExpression(f"{name} needs a time series, a number was given")


def _per_series(
    name: str, work: Callable[[Series], dict[int, float]]
) -> tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]:
    def function(scope: Scope, arguments: Sequence[Node]) -> Value:
        value = _needs_series(scope, name, arguments[0])
        if isinstance(value, list):
            return [series.with_values(work(series)) for series in value]
        return value.with_values(work(value))

    return 1, 1, function


def _aggregate(
    name: str, work: Callable[[Sequence[float]], float]
) -> tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]:
    """Of one series a number; of an array a series, time by time over those that have data."""

    def function(scope: Scope, arguments: Sequence[Node]) -> Value:
        value = evaluate(arguments[0], scope)
        if isinstance(value, Series):
            return work(list(value.values.values())) if value.values else 0.0
        if not isinstance(value, list):
            return value
        times: dict[int, list[float]] = {}
        for series in value:
            for at, number in series.values.items():
                times.setdefault(at, []).append(number)
        period = max((series.period for series in value), default=scope.period)
        return Series({at: work(times[at]) for at in sorted(times)}, scope.label or name, period)

    return 1, 1, function


def _numbers(
    work: Callable[[float], float],
) -> tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]:
    return 1, 1, lambda scope, arguments: _each(evaluate(arguments[0], scope), work)


def _of_time(
    name: str, work: Callable[[datetime], float]
) -> tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]:
    return _per_series(
        name, lambda series: {at: float(work(datetime.fromtimestamp(at, UTC))) for at in series.values}
    )


def _steps(series: Series, work: Callable[[float, float], float]) -> dict[int, float]:
    """From one value to the next: `work` of their difference and the seconds between."""
    pairs = list(series.values.items())
    return {
        at: work(number - before, at - earlier)
        for (earlier, before), (at, number) in itertools.pairwise(pairs)
    }


def _running(series: Series) -> dict[int, float]:
    total = 0.0
    sums: dict[int, float] = {}
    for at, number in series.values.items():
        total += number
        sums[at] = total
    return sums


def _fill(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "FILL", arguments[0])
    filler: str | Value
    if isinstance(arguments[1], Name) and arguments[1].value.upper() in ("REPEAT", "LINEAR"):
        filler = arguments[1].value.upper()
    else:
        filler = evaluate(arguments[1], scope)
        if isinstance(filler, list):
            raise InvalidExpression("FILL takes a number, a time series, REPEAT or LINEAR, not an array")
    if isinstance(value, list):
        return [_filled(series, filler, scope) for series in value]
    return _filled(value, filler, scope)


def _filled(series: Series, filler: str | float | Series, scope: Scope) -> Series:
    known = series.values
    grid = scope.grid(series.period)
    if isinstance(filler, Series):
        other = filler.values
        return series.with_values(
            {at: known.get(at, other.get(at, math.nan)) for at in grid if at in known or at in other}
        )
    if not isinstance(filler, str):
        return series.with_values({at: known.get(at, filler) for at in grid})
    values: dict[int, float] = {}
    times = list(known)
    for at in grid:
        if at in known:
            values[at] = known[at]
            continue
        before = max((time for time in times if time < at), default=None)
        behind = min((time for time in times if time > at), default=None)
        if filler == "REPEAT" and before is not None:
            values[at] = known[before]
        elif filler == "LINEAR" and before is not None and behind is not None:
            share = (at - before) / (behind - before)
            values[at] = known[before] + (known[behind] - known[before]) * share
    return series.with_values(values)


def _if(scope: Scope, arguments: Sequence[Node]) -> Value:
    condition = evaluate(arguments[0], scope)
    then = evaluate(arguments[1], scope)
    otherwise = evaluate(arguments[2], scope) if len(arguments) == 3 else None
    if isinstance(condition, list) or isinstance(then, list) or isinstance(otherwise, list):
        raise InvalidExpression("IF takes numbers and single time series, not arrays")
    if not isinstance(condition, Series):
        chosen = then if condition else otherwise
        if chosen is None:
            return Series({}, scope.label, scope.period)
        return chosen

    def at_time(value: Series | float | None, at: int) -> float:
        if isinstance(value, Series):
            return value.values.get(at, math.nan)
        return math.nan if value is None else value

    values = _finite(
        (at, at_time(then if number else otherwise, at)) for at, number in condition.values.items()
    )
    return Series(values, scope.label, condition.period)


def _metrics(scope: Scope, arguments: Sequence[Node]) -> Value:
    wanted = ""
    if arguments:
        if not isinstance(arguments[0], Text):
            raise InvalidExpression("METRICS takes a text in quotes, or nothing")
        wanted = arguments[0].value
    found: list[Series] = []
    for identifier in scope.metrics:
        if wanted in identifier:
            value = scope.lookup(identifier)
            if isinstance(value, Series):
                found.append(value)
    return found


def _search(scope: Scope, arguments: Sequence[Node]) -> Value:
    match arguments:
        case (Text(query), Text(statistic)):
            return scope.search(query, statistic, None)
        case (Text(query), Text(statistic), Number(period)):
            return scope.search(query, statistic, int(period))
    raise InvalidExpression("SEARCH takes a search expression and a statistic in quotes, and a period")


def _ordering(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "SORT", arguments[0])
    match arguments[1:]:
        case (Name(function), Name(order), *rest) if function.upper() in _RANKS and order.upper() in (
            "ASC",
            "DESC",
        ):
            rank = _RANKS[function.upper()]
            ranked = sorted(
                value if isinstance(value, list) else [value],
                key=lambda series: rank(list(series.values.values())) if series.values else -math.inf,
                reverse=order.upper() == "DESC",
            )
            match rest:
                case []:
                    return ranked
                case [Number(limit)]:
                    return ranked[: int(limit)]
    raise InvalidExpression("SORT takes time series, AVG, MIN, MAX or SUM, ASC or DESC, and how many")


_RANKS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "AVG": statistics.fmean,
    "MIN": min,
    "MAX": max,
    "SUM": math.fsum,
}


def _slice(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = evaluate(arguments[0], scope)
    if not isinstance(value, list):
        raise InvalidExpression("SLICE needs an array of time series")
    bounds = []
    for argument in arguments[1:]:
        if not isinstance(argument, Number) or argument.value < 0 or argument.value % 1:
            raise InvalidExpression("SLICE takes whole numbers from 0 on")
        bounds.append(int(argument.value))
    return value[bounds[0] : bounds[1]] if len(bounds) == 2 else value[bounds[0] :]


def _end(name: str, place: int) -> tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]:
    def function(scope: Scope, arguments: Sequence[Node]) -> Value:
        value = _needs_series(scope, name, arguments[0])
        if isinstance(value, list):
            if not value:
                raise InvalidExpression(f"{name}: the array is empty")
            return value[place]
        return list(value.values.values())[place] if value.values else math.nan

    return 1, 1, function


def _time_series(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = evaluate(arguments[0], scope)
    if isinstance(value, Series | list):
        raise InvalidExpression("TIME_SERIES takes a number")
    return Series(dict.fromkeys(scope.grid(scope.period), value), scope.label, scope.period)


def _remove_empty(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "REMOVE_EMPTY", arguments[0])
    return [series for series in (value if isinstance(value, list) else [value]) if series.values]


def _count_series(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "METRIC_COUNT", arguments[0])
    return float(len(value)) if isinstance(value, list) else 1.0


def _datapoints(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "DATAPOINT_COUNT", arguments[0])
    if isinstance(value, Series):
        return float(len(value.values))
    times: dict[int, float] = {}
    for series in value:
        for at in series.values:
            times[at] = times.get(at, 0.0) + 1
    return Series(dict(sorted(times.items())), scope.label, scope.period)


def _period(scope: Scope, arguments: Sequence[Node]) -> Value:
    value = _needs_series(scope, "PERIOD", arguments[0])
    if isinstance(value, list):
        raise InvalidExpression("PERIOD takes one time series, not an array")
    return float(value.period)


_FUNCTIONS: Mapping[str, tuple[int, int, Callable[[Scope, Sequence[Node]], Value]]] = {
    "ABS": _numbers(abs),
    "AVG": _aggregate("AVG", statistics.fmean),
    "CEIL": _numbers(math.ceil),
    "DATAPOINT_COUNT": (1, 1, _datapoints),
    "DATE": _of_time("DATE", lambda time: time.day),
    "DAY": _of_time("DAY", lambda time: time.isoweekday()),
    "DIFF": _per_series("DIFF", lambda series: _steps(series, lambda by, seconds: by)),
    "DIFF_TIME": _per_series("DIFF_TIME", lambda series: _steps(series, lambda by, seconds: seconds)),
    "EPOCH": _of_time("EPOCH", lambda time: time.timestamp()),
    "FILL": (2, 2, _fill),
    "FIRST": _end("FIRST", 0),
    "FLOOR": _numbers(math.floor),
    "HOUR": _of_time("HOUR", lambda time: time.hour),
    "IF": (2, 3, _if),
    "LAST": _end("LAST", -1),
    "LOG": _numbers(lambda number: math.log(number) if number > 0 else math.nan),
    "LOG10": _numbers(lambda number: math.log10(number) if number > 0 else math.nan),
    "MAX": _aggregate("MAX", max),
    "METRICS": (0, 1, _metrics),
    "METRIC_COUNT": (1, 1, _count_series),
    "MIN": _aggregate("MIN", min),
    "MINUTE": _of_time("MINUTE", lambda time: time.minute),
    "MONTH": _of_time("MONTH", lambda time: time.month),
    "PERIOD": (1, 1, _period),
    "RATE": _per_series("RATE", lambda series: _steps(series, lambda by, seconds: by / seconds)),
    "REMOVE_EMPTY": (1, 1, _remove_empty),
    "RUNNING_SUM": _per_series("RUNNING_SUM", _running),
    "SEARCH": (2, 3, _search),
    "SLICE": (2, 3, _slice),
    "SORT": (3, 4, _ordering),
    "STDDEV": _aggregate("STDDEV", statistics.pstdev),
    "SUM": _aggregate("SUM", math.fsum),
    "TIME_SERIES": (1, 1, _time_series),
    "YEAR": _of_time("YEAR", lambda time: time.year),
}
