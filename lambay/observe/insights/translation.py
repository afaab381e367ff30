"""A query's commands as one SQL statement.

Each command adds to the statement or wraps it in another. Until a `stats` every name that no command has defined is a
property of the message's JSON; behind it there are the columns that it gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import regex

from lambay.observe.insights.event_fields import COLUMNS
from lambay.observe.insights.expressions import Expressions, check_regex
from lambay.observe.insights.language import (
    Column,
    Command,
    Dedup,
    Display,
    Expression,
    Field,
    Fields,
    Filter,
    InvalidQuery,
    Limit,
    Parse,
    Sort,
    Stats,
)
from lambay.observe.insights.sql import Kind, Parameters, Sql, as_number

MOST_RESULTS = 10_000
_MOST_STATS = 2
# Columns of events and of a SELECT that was wrapped. What people wrote is never in a statement's text.
_NAMES = regex.compile(rf"\b(?:{'|'.join(COLUMNS)}|w[0-9]+)\b")


@dataclass(slots=True)
class Output:
    """A column of the result."""

    name: str
    sql: Sql


@dataclass(frozen=True, slots=True)
class Statement:
    """`columns` are the results' names and kinds; `grouped`: they are of no single event.

    Every row ends with the event's id, or where `grouped` with how many events it was made of. `unlimited` counts
    what matches, where the statement itself stops at a limit.
    """

    text: str
    parameters: tuple[object, ...]
    columns: tuple[tuple[str, Kind], ...]
    grouped: bool
    unlimited: str


@dataclass(slots=True)
class _Stage:
    """One SELECT in the making over `source`."""

    source: str
    where: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    limit: int | None = None


def translate(commands: Sequence[Command], limit: int, source: str) -> Statement:
    """The statement for `commands` over the rows of `source`: id, at, ingested_ms, message, json_at, stream, log.

    Raises InvalidQuery.
    """
    return _Translation(source).whole(commands, limit)


class _Translation:
    def __init__(self, source: str) -> None:
        self._parameters = Parameters()
        self._expressions = Expressions(self._parameters)
        self._stage = _Stage(source)
        self._output: list[Output] = []
        self._displayed = False
        self._parsed: list[str] = []
        self._grouped = False
        self._stats = 0

    def whole(self, commands: Sequence[Command], limit: int) -> Statement:
        for command in commands:
            match command:
                case Fields(columns):
                    self._fields(columns)
                case Display(columns):
                    self._display(columns)
                case Filter(condition):
                    self._filter(condition)
                case Stats():
                    self._aggregate(command)
                case Sort(keys):
                    self._sort(keys)
                case Limit(count):
                    self._limit(count)
                case Dedup(columns):
                    self._dedup(columns)
                case Parse():
                    self._parse(command)
        return self._statement(limit)

    # -- commands ------------------------------------------------------------------------------------------

    def _fields(self, columns: Sequence[Column]) -> None:
        for column in columns:
            sql = self._expressions.sql(column.expression)
            self._expressions.scope[column.name] = sql
            if not self._displayed:
                self._output = [each for each in self._output if each.name != column.name]
                self._output.append(Output(column.name, sql))

    def _display(self, columns: Sequence[Column]) -> None:
        self._output = [Output(column.name, self._expressions.sql(column.expression)) for column in columns]
        self._displayed = True

    def _filter(self, condition: Expression) -> None:
        if self._stage.limit is not None:
            self._wrap()
        self._stage.where.append(self._expressions.condition(condition))

    def _sort(self, keys: Sequence[tuple[Expression, bool]]) -> None:
        if self._stage.limit is not None:
            self._wrap()
        order = []
        for expression, down in keys:
            sql = self._expressions.sql(expression)
            text = as_number(sql) if sql.kind == "number" else sql.text
            order.append(f"{text} {'DESC' if down else 'ASC'}")
        self._stage.order = order

    def _limit(self, count: int) -> None:
        if count < 1 or count > MOST_RESULTS:
            raise InvalidQuery(f"limit: {count} is not between 1 and {MOST_RESULTS}")
        self._stage.limit = count if self._stage.limit is None else min(count, self._stage.limit)

    def _dedup(self, columns: Sequence[Column]) -> None:
        """Of each combination the first in order; events that lack all of the fields stay."""
        if self._stage.limit is not None:
            self._wrap()
        keys = [self._expressions.sql(column.expression).text for column in columns]
        order = self._stage.order or self._natural_order()
        absent = " AND ".join(f"{key} IS NULL" for key in keys)
        distinct = (
            f"{', '.join(keys)}, CASE WHEN {absent} THEN id END" if not self._grouped else ", ".join(keys)
        )
        rank = f"row_number() OVER (PARTITION BY {distinct} ORDER BY {', '.join(order)})"
        self._expressions.scope["#rank"] = Sql(rank, "number")
        self._wrap()
        self._stage.where.append(f"{self._expressions.scope.pop('#rank').text} = 1")

    def _parse(self, command: Parse) -> None:
        if command.glob is not None:
            self._parse_glob(command, command.glob)
            return
        check_regex(command.pattern)
        pattern = self._parameters.add(command.pattern)
        source = self._expressions.sql(command.source).text
        numbers = regex.compile(command.pattern).groupindex
        for position, name in enumerate(command.names, start=1):
            number = numbers.get(name, position) - 1
            sql = Sql(f"matched_group({pattern}, {number}, {source})", "any")
            self._expressions.scope[name] = sql
            self._parsed.append(name)

    def _parse_glob(self, command: Parse, glob: str) -> None:
        pattern = self._parameters.add(glob)
        source = self._expressions.sql(command.source).text
        for number, name in enumerate(command.names):
            self._expressions.scope[name] = Sql(f"wildcard({pattern}, {number}, {source})")
            self._parsed.append(name)

    def _aggregate(self, command: Stats) -> None:
        self._stats += 1
        if self._stats > _MOST_STATS:
            raise InvalidQuery(f"stats: at most {_MOST_STATS} stats commands are allowed in a query")
        if self._stage.limit is not None or self._stage.order:
            self._wrap()
        by = [(column.name, self._expressions.sql(column.expression)) for column in command.by]
        chosen = [
            (column.name, self._expressions.aggregated(column.expression)) for column in command.columns
        ]
        columns = [*by, *chosen]
        names = [f"c{number}" for number in range(len(columns))]
        counted = "sum(events)" if self._grouped else "count(*)"
        listed = [f"{sql.text} AS {name}" for name, (_, sql) in zip(names, columns, strict=True)]
        source, listed = self._drawn_once(listed)
        text = f"SELECT {', '.join([*listed, f'{counted} AS events'])} FROM {source}"
        if by:
            # By place, so that the expressions are worked out once.
            text += f" GROUP BY {', '.join(str(number) for number in range(1, len(by) + 1))}"
        times = [f"{name} ASC" for name, (_, sql) in zip(names, by, strict=False) if sql.kind == "time"]
        self._grouped = True
        self._displayed = False
        scope = {name: Sql(place, sql.kind) for place, (name, sql) in zip(names, columns, strict=True)}
        self._expressions.scope, self._expressions.open = scope, False
        self._stage = _Stage(f"({text})", order=times)
        self._output = [Output(name, sql) for name, sql in scope.items()]

    # -- statements ----------------------------------------------------------------------------------------

    def _from(self) -> str:
        where = (
            f" WHERE {' AND '.join(f'({each})' for each in self._stage.where)}" if self._stage.where else ""
        )
        return f"{self._stage.source}{where}"

    def _drawn_once(self, listed: Sequence[str]) -> tuple[str, list[str]]:
        """What to group, and the columns over it: what is drawn from messages is so once for each event.

        Otherwise whole messages would be sorted into their groups, and searched again for every mention of a field.
        """
        found = list(listed)
        drawn = [text for text in self._expressions.fields.drawn if any(text in each for each in listed)]
        if self._grouped or not drawn:
            return self._from(), found
        for number, text in enumerate(drawn):
            found = [each.replace(text, f"d{number}") for each in found]
        named = set(_NAMES.findall(" ".join(found)))
        columns = [name for name in COLUMNS if name in named] + sorted(named - {*COLUMNS})
        columns += [f"{text} AS d{number}" for number, text in enumerate(drawn)]
        # The limit, which is none, keeps SQLite from merging the two SELECTs.
        return f"(SELECT {', '.join(columns)} FROM {self._from()} LIMIT -1)", found

    def _tail(self) -> str:
        text = f" ORDER BY {', '.join(self._stage.order)}" if self._stage.order else ""
        return text + (f" LIMIT {self._stage.limit}" if self._stage.limit is not None else "")

    def _natural_order(self) -> list[str]:
        return [] if self._grouped else ["at DESC", "id DESC"]

    def _wrap(self) -> None:
        """What there is so far becomes the source of another SELECT, with its columns by plain names."""
        if not self._stage.order:
            self._stage.order = self._natural_order()
        columns = ["events"] if self._grouped else list(COLUMNS)
        renamed: dict[str, Sql] = {}
        for number, (name, sql) in enumerate(self._expressions.scope.items()):
            columns.append(f"{sql.text} AS w{number}")
            renamed[name] = Sql(f"w{number}", sql.kind)
        text = f"SELECT {', '.join(columns)} FROM {self._from()}{self._tail()}"
        by_text = {sql.text: renamed[name] for name, sql in self._expressions.scope.items()}
        self._output = [
            Output(each.name, renamed.get(each.name, by_text.get(each.sql.text, each.sql)))
            for each in self._output
        ]
        order = self._natural_order()
        self._expressions.scope = renamed
        self._stage = _Stage(f"({text})", order=order)

    def _statement(self, limit: int) -> Statement:
        output = self._output
        if not output:
            names = ("@timestamp", "@message", *dict.fromkeys(self._parsed))
            output = [Output(name, self._expressions.field(Field(name, (name,)))) for name in names]
        unlimited = f"SELECT count(*) FROM {self._from()}"
        if not self._stage.order:
            self._stage.order = self._natural_order()
        self._stage.limit = limit if self._stage.limit is None else min(limit, self._stage.limit)
        columns = [each.sql.text for each in output]
        last = "events" if self._grouped else "id"
        text = f"SELECT {', '.join([*columns, last])} FROM {self._from()}{self._tail()}"
        return Statement(
            text,
            tuple(self._parameters.values),
            tuple((each.name, each.sql.kind) for each in output),
            self._grouped,
            unlimited,
        )
