"""Metric data queries, as GetMetricData and alarms have them: metrics by statistic, and expressions over them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambay.observe.metrics import expressions, search, statistics
from lambay.observe.metrics.errors import validation
from lambay.observe.metrics.evaluation import Scope, Series, Value, evaluate
from lambay.observe.metrics.expressions import InvalidExpression, Node
from lambay.observe.metrics.labels import labelled
from lambay.observe.metrics.records import Metric, dimensions
from lambay.observe.metrics.schema import DAY, metrics_of
from lambay.observe.metrics.statistics import Asked
from lambay.observe.metrics.store import periods

MOST_QUERIES = 500
MOST_FOUND = 500
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")
_SUITABLE_PERIOD = 300
HIGH_RESOLUTIONS = (1, 5, 10, 20, 30)


@dataclass(frozen=True, slots=True)
class Query:
    """A metric with its statistic, or an expression (`tree`)."""

    id: str
    metric: Metric | None
    statistic: Asked | None
    tree: Node | None
    period: int | None
    unit: str | None
    label: str | None
    returned: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a query came to; several have one `id` where an expression gives an array."""

    id: str
    label: str
    series: Series


def read(given: Sequence[Mapping[str, Any]], account: str, region: str) -> list[Query]:
    """The queries of a request. Raises AWSError ValidationError."""
    if not given:
        raise validation("The collection MetricDataQueries must not be empty.")
    if len(given) > MOST_QUERIES:
        raise validation(
            f"The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}."
        )
    queries = [_query(number, query, account, region) for number, query in enumerate(given, start=1)]
    known: set[str] = set()
    for query in queries:
        if query.id in known:
            raise validation(f"The values for parameter id in MetricDataQueries are not unique: {query.id}.")
        known.add(query.id)
    if not any(query.returned for query in queries):
        raise validation("At least one of the MetricDataQueries must have ReturnData true.")
    return queries


def _query(number: int, given: Mapping[str, Any], account: str, region: str) -> Query:
    place = f"MetricDataQueries.member.{number}"
    identifier = given["Id"]
    if not _ID.fullmatch(identifier):
        raise validation(
            f"The value {identifier} for parameter {place}.Id is not matching the expected pattern "
            "^[a-z][a-zA-Z0-9_]*$."
        )
    if given.get("AccountId") not in (None, account):
        raise validation(f"{place}.AccountId: only metrics of the own account, {account}, can be read.")
    stat, expression = given.get("MetricStat"), given.get("Expression")
    if (stat is None) == (expression is None):
        raise validation(f"Exactly one of {place}.MetricStat and {place}.Expression must be given.")
    label, returned = given.get("Label"), given.get("ReturnData", True)
    if expression is not None:
        try:
            tree = expressions.parse(expression)
        except InvalidExpression as error:
            raise validation(f"Error in expression '{identifier}': {error}") from None
        period = given.get("Period")
        if period is not None:
            check_period(period, f"{place}.Period")
        return Query(identifier, None, None, tree, period, None, label, returned)
    assert stat is not None
    metric = stat["Metric"]
    if not metric.get("Namespace") or not metric.get("MetricName"):
        raise validation(f"{place}.MetricStat.Metric must have a Namespace and a MetricName.")
    check_period(stat["Period"], f"{place}.MetricStat.Period")
    asked = statistics.parse(stat["Stat"])
    if asked is None:
        raise validation(f"The value {stat['Stat']} for parameter {place}.MetricStat.Stat is not supported.")
    identity = Metric(
        account,
        region,
        metric["Namespace"],
        metric["MetricName"],
        dimensions({each["Name"]: each["Value"] for each in metric.get("Dimensions", ())}),
    )
    return Query(identifier, identity, asked, None, stat["Period"], stat.get("Unit"), label, returned)


def check_period(period: int, place: str) -> None:
    """Raises AWSError ValidationError."""
    if period not in HIGH_RESOLUTIONS and (period < 60 or period % 60):
        raise validation(
            f"The parameter {place} must be 1, 5, 10, 20, 30 or a multiple of 60; {period} was given."
        )


def rounded(start: int, now: int, period: int) -> int:
    """Where the first period begins, as CloudWatch rounds the start of a request."""
    age = now - start
    step = 60 if age < 15 * DAY else 300 if age < 63 * DAY else 3600
    if period in HIGH_RESOLUTIONS and age < 15 * DAY:
        step = period
    return start - start % step


class Evaluation:
    """The queries of one request over one time; each is worked out once, when first needed."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        account: str,
        region: str,
        queries: Sequence[Query],
        start: int,
        end: int,
        now: int,
    ) -> None:
        self._account = account
        self._region = region
        self._connection = connection
        self._queries = {query.id: query for query in queries}
        self._start = start
        self._end = end
        self._now = now
        self._known: dict[str, Value] = {}
        self._open: list[str] = []

    def results(self) -> list[Result]:
        """Of the queries that return data, in their order. Raises AWSError ValidationError."""
        found: list[Result] = []
        for query in self._queries.values():
            if query.returned:
                found += self._results_of(query)
        return found

    def _results_of(self, query: Query) -> list[Result]:
        value = self._value(query.id)
        if isinstance(value, list):
            return [Result(query.id, self._label(query, series), series) for series in value]
        if not isinstance(value, Series):
            period = self._period(query)
            grid = range(rounded(self._start, self._now, period), self._end, period)
            # NaN is a number that there is no data for.
            value = Series(dict.fromkeys(grid, value) if value == value else {}, query.id, period)
        return [Result(query.id, self._label(query, value), value)]

    def _label(self, query: Query, series: Series) -> str:
        own = (
            series.label if query.metric is not None or isinstance(self._known[query.id], list) else query.id
        )
        return own if query.label is None else labelled(query.label, own, series)

    def _value(self, identifier: str) -> Value:
        if identifier in self._known:
            return self._known[identifier]
        query = self._queries.get(identifier)
        if query is None:
            raise InvalidExpression(f"there is no query with the id {identifier}")
        if identifier in self._open:
            raise validation(f"The expressions refer to each other: {', '.join([*self._open, identifier])}.")
        self._open.append(identifier)
        try:
            value = self._measured(query) if query.tree is None else self._worked_out(query, query.tree)
        except InvalidExpression as error:
            raise validation(f"Error in expression '{identifier}': {error}") from None
        finally:
            self._open.pop()
        self._known[identifier] = value
        return value

    def _measured(self, query: Query) -> Series:
        assert query.metric is not None
        assert query.statistic is not None
        assert query.period is not None
        return self._series(query.metric, query.statistic, query.period, query.unit, query.metric.name)

    def _series(self, metric: Metric, asked: Asked, period: int, unit: str | None, label: str) -> Series:
        start = rounded(self._start, self._now, period)
        points = periods(self._connection, metric, start, self._end, period, unit=unit, detail=asked.detailed)
        values = {at: value for at, point in points.items() if (value := asked.of(point)) is not None}
        return Series(values, label, period, asked.name, metric)

    def _worked_out(self, query: Query, tree: Node) -> Value:
        period = self._period(query)
        scope = Scope(
            rounded(self._start, self._now, period),
            self._end,
            period,
            self._value,
            [each.id for each in self._queries.values() if each.metric is not None],
            self._search,
            query.label or query.id,
        )
        return evaluate(tree, scope)

    def _period(self, query: Query) -> int:
        """An expression's own, or the longest of those that it speaks of."""
        if query.period is not None:
            return query.period
        found = [each.period for each in self._spoken_of(query, set()) if each.period is not None]
        return max(found, default=_SUITABLE_PERIOD)

    def _spoken_of(self, query: Query, seen: set[str]) -> list[Query]:
        if query.tree is None:
            return [query]
        seen.add(query.id)
        wanted = expressions.names(query.tree)
        if expressions.calls(query.tree, "METRICS"):
            wanted |= {each.id for each in self._queries.values() if each.metric is not None}
        return [
            each
            for name in wanted - seen
            if name in self._queries
            for each in self._spoken_of(self._queries[name], seen)
        ]

    def _search(self, text: str, statistic: str, period: int | None) -> list[Series]:
        asked = statistics.parse(statistic)
        if asked is None:
            raise InvalidExpression(f"SEARCH: {statistic} is no statistic")
        wanted = search.parse(text)
        listed = metrics_of(
            self._connection,
            self._account,
            self._region,
            since=self._now - 14 * DAY,
            namespace=wanted.namespace,
        )
        found = [metric for metric in listed if wanted.finds(metric)][:MOST_FOUND]
        several = len({metric.name for metric in found}) > 1
        return [
            self._series(metric, asked, period or _SUITABLE_PERIOD, None, _distinguished(metric, several))
            for metric in found
        ]


def _distinguished(metric: Metric, several: bool) -> str:
    values = " ".join(value for _, value in metric.dimensions)
    return f"{values} {metric.name}".strip() if several or not values else values
