"""A query's commands as one SQL statement.

Each command adds to the statement or wraps it in another. Until a `stats` every name that no command has defined is a
property of the message's JSON; behind it there are the columns that it gave.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import regex

from lambay.observe.insights import functions
from lambay.observe.insights.language import (
    Call,
    Column,
    Command,
    Dedup,
    Display,
    Duration,
    Expression,
    Field,
    Fields,
    Filter,
    InvalidQuery,
    Limit,
    Number,
    Operation,
    Parse,
    Regex,
    Sort,
    Star,
    Stats,
    Text,
)

Kind = Literal["time", "number", "text", "any"]

MOST_RESULTS = 10_000
_MOST_STATS = 2

_UNITS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "mo": 2_592_000_000,
    "q": 7_776_000_000,
    "y": 31_536_000_000,
}

# Events of functions may have a time and a request before their JSON.
_DOCUMENT = "substr(message, json_at)"
_REPORT = "(substr(message, 1, 7) = 'REPORT ')"
_PLATFORM = "(instr(message, '\"platform.report\"') > 0)"
_REQUEST = r"(?:RequestId: |^\S+Z\t|\"requestId\": ?\")([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
_TYPE = (
    "(CASE WHEN substr(message, 1, 16) = 'REPORT RequestId' THEN 'REPORT' "
    "WHEN substr(message, 1, 15) = 'START RequestId' THEN 'START' "
    "WHEN substr(message, 1, 13) = 'END RequestId' THEN 'END' "
    f"WHEN {_PLATFORM} THEN 'REPORT' WHEN instr(message, '\"platform.start\"') > 0 THEN 'START' END)"
)
_LAMBDA_NUMBERS = {
    "@duration": (r"\tDuration: ([0-9.]+) ms", "durationMs", 1),
    "@billedDuration": (r"\tBilled Duration: ([0-9.]+) ms", "billedDurationMs", 1),
    "@initDuration": (r"\tInit Duration: ([0-9.]+) ms", "initDurationMs", 1),
    "@memorySize": (r"\tMemory Size: ([0-9]+) MB", "memorySizeMB", 1_000_000),
    "@maxMemoryUsed": (r"\tMax Memory Used: ([0-9]+) MB", "maxMemoryUsedMB", 1_000_000),
}


@dataclass(frozen=True, slots=True)
class Sql:
    text: str
    kind: Kind = "any"


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
    """One SELECT in the making over `source`; `open`: names that nobody defined are properties of messages."""

    source: str
    open: bool
    scope: dict[str, Sql] = field(default_factory=dict)
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
        self._parameters: list[object] = []
        self._stage = _Stage(source, open=True)
        self._output: list[Output] = []
        self._displayed = False
        self._parsed: list[str] = []
        self._grouped = False
        self._stats = 0
        self._now = "(CAST(strftime('%s', 'now') AS INTEGER) * 1000)"

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
            sql = self._expression(column.expression)
            self._stage.scope[column.name] = sql
            if not self._displayed:
                self._output = [each for each in self._output if each.name != column.name]
                self._output.append(Output(column.name, sql))

    def _display(self, columns: Sequence[Column]) -> None:
        self._output = [Output(column.name, self._expression(column.expression)) for column in columns]
        self._displayed = True

    def _filter(self, condition: Expression) -> None:
        if self._stage.limit is not None:
            self._wrap()
        self._stage.where.append(self._condition(condition))

    def _sort(self, keys: Sequence[tuple[Expression, bool]]) -> None:
        if self._stage.limit is not None:
            self._wrap()
        order = []
        for expression, down in keys:
            sql = self._expression(expression)
            text = self._number(sql) if sql.kind == "number" else sql.text
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
        keys = [self._expression(column.expression).text for column in columns]
        order = self._stage.order or self._natural_order()
        absent = " AND ".join(f"{key} IS NULL" for key in keys)
        distinct = (
            f"{', '.join(keys)}, CASE WHEN {absent} THEN id END" if not self._grouped else ", ".join(keys)
        )
        rank = f"row_number() OVER (PARTITION BY {distinct} ORDER BY {', '.join(order)})"
        self._stage.scope["#rank"] = Sql(rank, "number")
        self._wrap()
        self._stage.where.append(f"{self._stage.scope.pop('#rank').text} = 1")

    def _parse(self, command: Parse) -> None:
        if command.glob is not None:
            self._parse_glob(command, command.glob)
            return
        self._check_regex(command.pattern)
        pattern = self._parameter(command.pattern)
        source = self._expression(command.source).text
        numbers = regex.compile(command.pattern).groupindex
        for position, name in enumerate(command.names, start=1):
            number = numbers.get(name, position) - 1
            sql = Sql(f"matched_group({pattern}, {number}, {source})", "any")
            self._stage.scope[name] = sql
            self._parsed.append(name)

    def _parse_glob(self, command: Parse, glob: str) -> None:
        pattern = self._parameter(glob)
        source = self._expression(command.source).text
        for number, name in enumerate(command.names):
            self._stage.scope[name] = Sql(f"wildcard({pattern}, {number}, {source})")
            self._parsed.append(name)

    def _aggregate(self, command: Stats) -> None:
        self._stats += 1
        if self._stats > _MOST_STATS:
            raise InvalidQuery(f"stats: at most {_MOST_STATS} stats commands are allowed in a query")
        if self._stage.limit is not None or self._stage.order:
            self._wrap()
        by = [(column.name, self._expression(column.expression)) for column in command.by]
        chosen = [(column.name, self._aggregated(column.expression)) for column in command.columns]
        columns = [*by, *chosen]
        names = [f"c{number}" for number in range(len(columns))]
        counted = "sum(events)" if self._grouped else "count(*)"
        listed = [f"{sql.text} AS {name}" for name, (_, sql) in zip(names, columns, strict=True)]
        text = f"SELECT {', '.join([*listed, f'{counted} AS events'])} FROM {self._from()}"
        if by:
            # By place, so that the expressions are worked out once.
            text += f" GROUP BY {', '.join(str(number) for number in range(1, len(by) + 1))}"
        times = [f"{name} ASC" for name, (_, sql) in zip(names, by, strict=False) if sql.kind == "time"]
        self._grouped = True
        self._displayed = False
        scope = {name: Sql(place, sql.kind) for place, (name, sql) in zip(names, columns, strict=True)}
        self._stage = _Stage(f"({text})", open=False, scope=scope, order=times)
        self._output = [Output(name, sql) for name, sql in scope.items()]

    # -- statements ----------------------------------------------------------------------------------------

    def _from(self) -> str:
        where = (
            f" WHERE {' AND '.join(f'({each})' for each in self._stage.where)}" if self._stage.where else ""
        )
        return f"{self._stage.source}{where}"

    def _tail(self) -> str:
        text = f" ORDER BY {', '.join(self._stage.order)}" if self._stage.order else ""
        return text + (f" LIMIT {self._stage.limit}" if self._stage.limit is not None else "")

    def _natural_order(self) -> list[str]:
        return [] if self._grouped else ["at DESC", "id DESC"]

    def _wrap(self) -> None:
        """What there is so far becomes the source of another SELECT, with its columns by plain names."""
        if not self._stage.order:
            self._stage.order = self._natural_order()
        kept = (
            ["events"]
            if self._grouped
            else ["id", "at", "ingested_ms", "message", "json_at", "stream", "log"]
        )
        renamed: dict[str, Sql] = {}
        columns = list(kept)
        for number, (name, sql) in enumerate(self._stage.scope.items()):
            columns.append(f"{sql.text} AS w{number}")
            renamed[name] = Sql(f"w{number}", sql.kind)
        text = f"SELECT {', '.join(columns)} FROM {self._from()}{self._tail()}"
        by_text = {sql.text: renamed[name] for name, sql in self._stage.scope.items()}
        self._output = [
            Output(each.name, renamed.get(each.name, by_text.get(each.sql.text, each.sql)))
            for each in self._output
        ]
        order = self._natural_order()
        self._stage = _Stage(f"({text})", open=self._stage.open, scope=renamed, order=order)

    def _statement(self, limit: int) -> Statement:
        output = self._output
        if not output:
            names = ("@timestamp", "@message", *dict.fromkeys(self._parsed))
            output = [Output(name, self._field(Field(name, (name,)))) for name in names]
        unlimited = f"SELECT count(*) FROM {self._from()}"
        if not self._stage.order:
            self._stage.order = self._natural_order()
        self._stage.limit = limit if self._stage.limit is None else min(limit, self._stage.limit)
        columns = [each.sql.text for each in output]
        last = "events" if self._grouped else "id"
        text = f"SELECT {', '.join([*columns, last])} FROM {self._from()}{self._tail()}"
        return Statement(
            text,
            tuple(self._parameters),
            tuple((each.name, each.sql.kind) for each in output),
            self._grouped,
            unlimited,
        )

    # -- expressions ---------------------------------------------------------------------------------------

    def _parameter(self, value: object) -> str:
        """Named by number, so that it may be used in several places and in any order."""
        self._parameters.append(value)
        return f"?{len(self._parameters)}"

    def _field(self, asked: Field) -> Sql:
        known = self._stage.scope.get(asked.name)
        if known is not None:
            return known
        parent = self._stage.scope.get(asked.path[0]) if len(asked.path) > 1 else None
        if parent is not None:
            where = self._parameter(_json_path(asked.path[1:]))
            return Sql(f"(CASE WHEN json_valid({parent.text}) THEN json_extract({parent.text}, {where}) END)")
        if not self._stage.open:
            return Sql("NULL")
        match asked.name:
            case "@timestamp":
                return Sql("at", "time")
            case "@ingestionTime":
                return Sql("ingested_ms", "time")
            case "@message":
                return Sql("message", "text")
            case "@logStream":
                return Sql("stream", "text")
            case "@log":
                return Sql("log", "text")
            case "@ptr":
                return Sql("CAST(id AS TEXT)", "text")
            case "@type":
                return Sql(_TYPE, "text")
            case "@requestId":
                pattern = self._parameter(_REQUEST)
                return Sql(f"matched_group({pattern}, 0, message)", "text")
            case "@xrayTraceId":
                pattern = self._parameter(r"XRAY TraceId: (\S+)")
                return Sql(f"matched_group({pattern}, 0, message)", "text")
        if asked.name in _LAMBDA_NUMBERS:
            return self._lambda_number(asked.name)
        return self._property(asked.path)

    def _lambda_number(self, name: str) -> Sql:
        text, member, factor = _LAMBDA_NUMBERS[name]
        pattern = self._parameter(text)
        times = f" * {factor}" if factor != 1 else ""
        return Sql(
            f"(CASE WHEN {_REPORT} THEN CAST(matched_group({pattern}, 0, message) AS REAL){times} "
            f"WHEN {_PLATFORM} THEN {self._property(('record', 'metrics', member)).text}{times} END)",
            "number",
        )

    def _property(self, path: Sequence[str]) -> Sql:
        where = self._parameter(_json_path(path))
        return Sql(f"(CASE WHEN json_at THEN json_extract({_DOCUMENT}, {where}) END)")

    def _number(self, sql: Sql) -> str:
        """As a number; texts that are none are NULL."""
        if sql.kind in ("number", "time"):
            return sql.text
        # Properties are numbers mostly, and those need no call of ours.
        return f"(CASE typeof({sql.text}) WHEN 'text' THEN as_number({sql.text}) ELSE {sql.text} END)"

    def _expression(self, expression: Expression) -> Sql:
        match expression:
            case Number(value):
                return Sql(repr(value), "number")
            case Text(value):
                return Sql(self._parameter(value), "text")
            case Field():
                return self._field(expression)
            case Call(name, arguments):
                return self._call(name, arguments)
            case Operation("neg", (operand,)):
                return Sql(f"(-{self._number(self._expression(operand))})", "number")
            case Operation("+" | "-" | "*" | "/" | "%" | "^" as operator, (left, right)):
                return self._arithmetic(operator, left, right)
            case Operation():
                return Sql(self._condition(expression), "number")
            case Duration(count, unit):
                return Sql(str(count * self._milliseconds(unit)), "number")
            case Regex():
                raise InvalidQuery(
                    f"/{expression.pattern}/: a regular expression stands behind like, =~ or parse"
                )
            case Star():
                raise InvalidQuery("* stands for everything in count(*) only")
        raise AssertionError(expression)

    def _arithmetic(self, operator: str, left: Expression, right: Expression) -> Sql:
        one, other = self._number(self._expression(left)), self._number(self._expression(right))
        match operator:
            case "/":
                return Sql(f"({one} * 1.0 / nullif({other}, 0))", "number")
            case "^":
                return Sql(f"to_power({one}, {other})", "number")
        return Sql(f"({one} {operator} {other})", "number")

    def _condition(self, expression: Expression) -> str:
        match expression:
            case Operation("and" | "or" as operator, (left, right)):
                return f"({self._condition(left)} {operator.upper()} {self._condition(right)})"
            case Operation("not", (operand,)):
                return f"(NOT coalesce({self._condition(operand)}, 0))"
            case Operation("like", (left, right)):
                return self._like(self._expression(left), right)
            case Operation("in", (left, *items)):
                texts = [self._either_way(item) for item in items]
                return f"({self._expression(left).text} IN ({', '.join(texts)}))"
            case Operation("=" | "!=" as operator, (left, right)):
                return self._equal(operator, left, right)
            case Operation("<" | "<=" | ">" | ">=" as operator, (left, right)):
                return self._compared(operator, left, right)
        return f"coalesce({self._expression(expression).text}, 0)"

    def _like(self, left: Sql, right: Expression) -> str:
        if not isinstance(right, Regex):
            return f"(instr({left.text}, {self._expression(right).text}) > 0)"
        self._check_regex(right.pattern)
        plain = right.pattern.removeprefix("(?i)")
        if plain and not regex.search(r"[\\.^$*+?()\[\]{}|]", plain):
            if plain == right.pattern:
                return f"(instr({left.text}, {self._parameter(plain)}) > 0)"
            if plain.isascii():
                return f"(instr(lower({left.text}), {self._parameter(plain.lower())}) > 0)"
        return f"matches({self._parameter(right.pattern)}, {left.text})"

    def _check_regex(self, pattern: str) -> None:
        try:
            functions.compiled(pattern)
        except regex.error as error:
            raise InvalidQuery(f"/{pattern}/ is no regular expression: {error}") from None

    def _equal(self, operator: str, left: Expression, right: Expression) -> str:
        if isinstance(left, Number | Text):
            left, right = right, left
        one = self._expression(left)
        if isinstance(right, Number | Text):
            member = "IN" if operator == "=" else "NOT IN"
            return f"({one.text} {member} ({self._either_way(right)}))"
        return f"({one.text} {operator} {self._expression(right).text})"

    def _either_way(self, expression: Expression) -> str:
        """A constant as a number and as a text: properties of messages are either."""
        if isinstance(expression, Number):
            value = expression.value
            return f"{value!r}, {self._parameter(str(value))}"
        text = self._expression(expression).text
        if isinstance(expression, Text):
            try:
                number = float(expression.value)
            except ValueError:
                return text
            if number == number and abs(number) != float("inf"):
                return f"{text}, {number!r}"
        return text

    def _compared(self, operator: str, left: Expression, right: Expression) -> str:
        one, other = self._expression(left), self._expression(right)
        if isinstance(left, Text) or isinstance(right, Text):
            return f"({one.text} {operator} {other.text})"
        return f"({self._number(one)} {operator} {self._number(other)})"

    # -- functions -----------------------------------------------------------------------------------------

    def _call(self, name: str, arguments: Sequence[Expression]) -> Sql:
        if name in _AGGREGATES:
            raise InvalidQuery(f"{name}() stands in stats only")
        if name in ("bin", "datefloor", "dateceil"):
            return self._bin(name, arguments)
        found = _SCALARS.get(name)
        if found is None:
            raise InvalidQuery(f"there is no function {name}()")
        fewest, most, work = found
        _check_count(name, arguments, fewest, most)
        if name == "now":
            return Sql(self._now, "number")
        return work(self, [self._expression(each) for each in arguments])

    def _bin(self, name: str, arguments: Sequence[Expression]) -> Sql:
        if name == "bin":
            if len(arguments) != 1 or not isinstance(arguments[0], Duration):
                raise InvalidQuery("bin() takes a period such as 5m, 30s or 1h")
            at, period = "at", arguments[0]
            if not self._stage.open:
                at = self._field(Field("@timestamp", ("@timestamp",))).text
        else:
            if len(arguments) != 2 or not isinstance(arguments[1], Duration):
                raise InvalidQuery(f"{name}() takes a time and a period such as 5m, 30s or 1h")
            at, period = self._number(self._expression(arguments[0])), arguments[1]
        width = period.count * self._milliseconds(period.unit)
        if width <= 0:
            raise InvalidQuery(f"{name}(): the period must be longer than nothing")
        if name == "dateceil":
            return Sql(f"(({at} + {width - 1}) / {width} * {width})", "time")
        return Sql(f"({at} / {width} * {width})", "time")

    def _milliseconds(self, unit: str) -> int:
        if unit not in _UNITS:
            raise InvalidQuery(f"{unit} is no unit of time; there are {', '.join(_UNITS)}")
        return _UNITS[unit]

    def _aggregated(self, expression: Expression) -> Sql:
        """An expression of stats: aggregates, and arithmetic over them."""
        match expression:
            case Call(name, arguments) if name in _AGGREGATES:
                fewest, most = _AGGREGATES[name]
                _check_count(name, arguments, fewest, most)
                return self._aggregate_call(name, arguments)
            case Call(name, arguments) if name in _SCALARS:
                return _SCALARS[name][2](self, [self._aggregated(each) for each in arguments])
            case Operation("neg", (operand,)):
                return Sql(f"(-{self._aggregated(operand).text})", "number")
            case Operation("+" | "-" | "*" | "/" | "%" | "^" as operator, (left, right)):
                one, other = self._aggregated(left).text, self._aggregated(right).text
                if operator == "/":
                    return Sql(f"({one} * 1.0 / nullif({other}, 0))", "number")
                if operator == "^":
                    return Sql(f"to_power({one}, {other})", "number")
                return Sql(f"({one} {operator} {other})", "number")
            case Number(value):
                return Sql(repr(value), "number")
            case Field():
                raise InvalidQuery(
                    f"stats: {expression.name} stands alone; wrap it in an aggregate such as max(), or group by it"
                )
        raise InvalidQuery("stats takes aggregates such as count(*), avg(@duration)")

    def _aggregate_call(self, name: str, arguments: Sequence[Expression]) -> Sql:
        if name == "count":
            if not arguments or isinstance(arguments[0], Star):
                return Sql("count(*)", "number")
            return Sql(f"count({self._expression(arguments[0]).text})", "number")
        sql = self._expression(arguments[0])
        number = self._number(sql)
        match name:
            case "count_distinct":
                return Sql(f"count(DISTINCT {sql.text})", "number")
            case "sum":
                return Sql(f"sum({number})", "number")
            case "avg":
                return Sql(f"avg({number})", "number")
            case "min" | "max":
                return Sql(f"{name}({number})", "time" if sql.kind == "time" else "number")
            case "stddev":
                return Sql(f"deviation({number})", "number")
            case "median":
                return Sql(f"percentile_of({number}, 50)", "number")
            case "pct" | "percentile":
                if not isinstance(arguments[1], Number) or not 0 <= arguments[1].value <= 100:
                    raise InvalidQuery(f"{name}() takes a field and a number from 0 to 100")
                return Sql(f"percentile_of({number}, {arguments[1].value!r})", "number")
            case "earliest" | "latest":
                at = "at" if self._stage.open else self._field(Field("@timestamp", ())).text
                return Sql(f"{name}_of({sql.text}, {at})", sql.kind)
            case "sortsfirst":
                return Sql(f"min({sql.text})", sql.kind)
        return Sql(f"max({sql.text})", sql.kind)


def _json_path(path: Sequence[str]) -> str:
    steps = (f"[{step}]" if step.isdigit() else "." + json.dumps(step, ensure_ascii=False) for step in path)
    return "$" + "".join(steps)


_AGGREGATES = {
    "count": (0, 1),
    "count_distinct": (1, 1),
    "sum": (1, 1),
    "avg": (1, 1),
    "min": (1, 1),
    "max": (1, 1),
    "stddev": (1, 1),
    "median": (1, 1),
    "pct": (2, 2),
    "percentile": (2, 2),
    "earliest": (1, 1),
    "latest": (1, 1),
    "sortsfirst": (1, 1),
    "sortslast": (1, 1),
}

_Work = Callable[[_Translation, list[Sql]], Sql]


def _plain(function: str, kind: Kind, *, numeric: bool = False) -> _Work:
    def work(translation: _Translation, given: list[Sql]) -> Sql:
        texts = [translation._number(each) if numeric else each.text for each in given]
        return Sql(f"{function}({', '.join(texts)})", kind)

    return work


def _blank(extra: str) -> _Work:
    def work(translation: _Translation, given: list[Sql]) -> Sql:
        return Sql(f"({given[0].text} IS NULL OR {extra.format(given[0].text)} = '')", "number")

    return work


def _concatenated(translation: _Translation, given: list[Sql]) -> Sql:
    return Sql("(" + " || ".join(f"coalesce({each.text}, '')" for each in given) + ")", "text")


def _extreme(function: str) -> _Work:
    def work(translation: _Translation, given: list[Sql]) -> Sql:
        return Sql(f"{function}({', '.join(translation._number(each) for each in given)})", "number")

    return work


def _substring(translation: _Translation, given: list[Sql]) -> Sql:
    """From an index that counts from 0."""
    start = f"{translation._number(given[1])} + 1"
    length = f", {translation._number(given[2])}" if len(given) == 3 else ""
    return Sql(f"substr({given[0].text}, {start}{length})", "text")


_SCALARS: dict[str, tuple[int, int, _Work]] = {
    "abs": (1, 1, _plain("abs", "number", numeric=True)),
    "ceil": (1, 1, _plain("ceiling", "number")),
    "floor": (1, 1, _plain("floored", "number")),
    "sqrt": (1, 1, _plain("square_root", "number")),
    "log": (1, 1, _plain("logarithm", "number")),
    "greatest": (2, 100, _extreme("max")),
    "least": (2, 100, _extreme("min")),
    "isempty": (1, 1, _blank("{0}")),
    "isblank": (1, 1, _blank("trim({0})")),
    "ispresent": (1, 1, lambda translation, given: Sql(f"({given[0].text} IS NOT NULL)", "number")),
    "coalesce": (
        1,
        100,
        lambda translation, given: Sql(
            given[0].text if len(given) == 1 else f"coalesce({', '.join(each.text for each in given)})",
            given[0].kind,
        ),
    ),
    "concat": (1, 100, _concatenated),
    "ltrim": (1, 2, _plain("left_stripped", "text")),
    "rtrim": (1, 2, _plain("right_stripped", "text")),
    "trim": (1, 2, _plain("stripped", "text")),
    "strlen": (1, 1, _plain("length", "number")),
    "toupper": (1, 1, _plain("upper", "text")),
    "tolower": (1, 1, _plain("lower", "text")),
    "substr": (2, 3, _substring),
    "replace": (3, 3, _plain("replaced", "text")),
    "strcontains": (
        2,
        2,
        lambda translation, given: Sql(f"(instr({given[0].text}, {given[1].text}) > 0)", "number"),
    ),
    "frommillis": (1, 1, lambda translation, given: Sql(translation._number(given[0]), "time")),
    "tomillis": (1, 1, lambda translation, given: Sql(f"moment_of({given[0].text})", "number")),
    "now": (0, 0, _plain("now", "number")),
    "jsonparse": (1, 1, _plain("parsed_json", "text")),
    "jsonstringify": (1, 1, lambda translation, given: Sql(given[0].text, "text")),
    "isvalidip": (1, 1, _plain("is_ip", "number")),
    "isvalidipv4": (1, 1, _plain("is_ipv4", "number")),
    "isvalidipv6": (1, 1, _plain("is_ipv6", "number")),
    "isipinsubnet": (2, 2, _plain("in_subnet", "number")),
    "isipv4insubnet": (2, 2, _plain("in_subnet_v4", "number")),
    "isipv6insubnet": (2, 2, _plain("in_subnet_v6", "number")),
}


def _check_count(name: str, arguments: Sequence[Expression], fewest: int, most: int) -> None:
    if not fewest <= len(arguments) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise InvalidQuery(f"{name}() takes {wanted} arguments, {len(arguments)} were given")
