"""A query's expressions as SQL over the columns of one SELECT."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from lambay.observe.insights import functions
from lambay.observe.insights.event_fields import EventFields, json_path
from lambay.observe.insights.language import (
    Call,
    Duration,
    Expression,
    Field,
    InvalidQuery,
    Number,
    Operation,
    Regex,
    Star,
    Text,
)
from lambay.observe.insights.scalars import SCALARS, check_count
from lambay.observe.insights.sql import Parameters, Sql, as_number

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


def check_regex(pattern: str) -> None:
    """Raises InvalidQuery."""
    try:
        functions.compiled(pattern)
    except regex.error as error:
        raise InvalidQuery(f"/{pattern}/ is no regular expression: {error}") from None


class Expressions:
    """`scope` has the names that commands have defined; while `open`, all others are fields of events."""

    def __init__(self, parameters: Parameters) -> None:
        self.scope: dict[str, Sql] = {}
        self.open = True
        self.fields = EventFields(parameters)
        self._parameters = parameters
        self._now = "(CAST(strftime('%s', 'now') AS INTEGER) * 1000)"

    def field(self, asked: Field) -> Sql:
        known = self.scope.get(asked.name)
        if known is not None:
            return known
        parent = self.scope.get(asked.path[0]) if len(asked.path) > 1 else None
        if parent is not None:
            where = self._parameters.add(json_path(asked.path[1:]))
            return Sql(f"(CASE WHEN json_valid({parent.text}) THEN json_extract({parent.text}, {where}) END)")
        if not self.open:
            return Sql("NULL")
        return self.fields.of(asked.name, asked.path)

    def sql(self, expression: Expression) -> Sql:
        match expression:
            case Number(value):
                return Sql(repr(value), "number")
            case Text(value):
                return Sql(self._parameters.add(value), "text")
            case Field():
                return self.field(expression)
            case Call(name, arguments):
                return self._call(name, arguments)
            case Operation("neg", (operand,)):
                return Sql(f"(-{as_number(self.sql(operand))})", "number")
            case Operation("+" | "-" | "*" | "/" | "%" | "^" as operator, (left, right)):
                return self._arithmetic(operator, left, right)
            case Operation():
                return Sql(self.condition(expression), "number")
            case Duration(count, unit):
                return Sql(str(count * _milliseconds(unit)), "number")
            case Regex():
                raise InvalidQuery(
                    f"/{expression.pattern}/: a regular expression stands behind like, =~ or parse"
                )
            case Star():
                raise InvalidQuery("* stands for everything in count(*) only")
        raise AssertionError(expression)

    def _arithmetic(self, operator: str, left: Expression, right: Expression) -> Sql:
        one, other = as_number(self.sql(left)), as_number(self.sql(right))
        match operator:
            case "/":
                return Sql(f"({one} * 1.0 / nullif({other}, 0))", "number")
            case "^":
                return Sql(f"to_power({one}, {other})", "number")
        return Sql(f"({one} {operator} {other})", "number")

    def condition(self, expression: Expression) -> str:
        match expression:
            case Operation("and" | "or" as operator, (left, right)):
                return f"({self.condition(left)} {operator.upper()} {self.condition(right)})"
            case Operation("not", (operand,)):
                return f"(NOT coalesce({self.condition(operand)}, 0))"
            case Operation("like", (left, right)):
                return self._like(self.sql(left), right)
            case Operation("in", (left, *items)):
                texts = [self._either_way(item) for item in items]
                return f"({self.sql(left).text} IN ({', '.join(texts)}))"
            case Operation("=" | "!=" as operator, (left, right)):
                return self._equal(operator, left, right)
            case Operation("<" | "<=" | ">" | ">=" as operator, (left, right)):
                return self._compared(operator, left, right)
        return f"coalesce({self.sql(expression).text}, 0)"

    def _like(self, left: Sql, right: Expression) -> str:
        if not isinstance(right, Regex):
            return f"(instr({left.text}, {self.sql(right).text}) > 0)"
        check_regex(right.pattern)
        plain = right.pattern.removeprefix("(?i)")
        if plain and not regex.search(r"[\\.^$*+?()\[\]{}|]", plain):
            if plain == right.pattern:
                return f"(instr({left.text}, {self._parameters.add(plain)}) > 0)"
            if plain.isascii():
                return f"(instr(lower({left.text}), {self._parameters.add(plain.lower())}) > 0)"
        return f"matches({self._parameters.add(right.pattern)}, {left.text})"

    def _equal(self, operator: str, left: Expression, right: Expression) -> str:
        if isinstance(left, Number | Text):
            left, right = right, left
        one = self.sql(left)
        if isinstance(right, Number | Text):
            member = "IN" if operator == "=" else "NOT IN"
            return f"({one.text} {member} ({self._either_way(right)}))"
        return f"({one.text} {operator} {self.sql(right).text})"

    def _either_way(self, expression: Expression) -> str:
        """A constant as a number and as a text: properties of messages are either."""
        if isinstance(expression, Number):
            value = expression.value
            return f"{value!r}, {self._parameters.add(str(value))}"
        text = self.sql(expression).text
        if isinstance(expression, Text):
            try:
                number = float(expression.value)
            except ValueError:
                return text
            if number == number and abs(number) != float("inf"):
                return f"{text}, {number!r}"
        return text

    def _compared(self, operator: str, left: Expression, right: Expression) -> str:
        one, other = self.sql(left), self.sql(right)
        if isinstance(left, Text) or isinstance(right, Text):
            return f"({one.text} {operator} {other.text})"
        return f"({as_number(one)} {operator} {as_number(other)})"

    # -- functions -----------------------------------------------------------------------------------------

    def _call(self, name: str, arguments: Sequence[Expression]) -> Sql:
        if name in _AGGREGATES:
            raise InvalidQuery(f"{name}() stands in stats only")
        if name in ("bin", "datefloor", "dateceil"):
            return self._bin(name, arguments)
        found = SCALARS.get(name)
        if found is None:
            raise InvalidQuery(f"there is no function {name}()")
        fewest, most, work = found
        check_count(name, arguments, fewest, most)
        if name == "now":
            return Sql(self._now, "number")
        return work([self.sql(each) for each in arguments])

    def _bin(self, name: str, arguments: Sequence[Expression]) -> Sql:
        if name == "bin":
            if len(arguments) != 1 or not isinstance(arguments[0], Duration):
                raise InvalidQuery("bin() takes a period such as 5m, 30s or 1h")
            at, period = "at", arguments[0]
            if not self.open:
                at = self.field(Field("@timestamp", ("@timestamp",))).text
        else:
            if len(arguments) != 2 or not isinstance(arguments[1], Duration):
                raise InvalidQuery(f"{name}() takes a time and a period such as 5m, 30s or 1h")
            at, period = as_number(self.sql(arguments[0])), arguments[1]
        width = period.count * _milliseconds(period.unit)
        if width <= 0:
            raise InvalidQuery(f"{name}(): the period must be longer than nothing")
        if name == "dateceil":
            return Sql(f"(({at} + {width - 1}) / {width} * {width})", "time")
        return Sql(f"({at} / {width} * {width})", "time")

    def aggregated(self, expression: Expression) -> Sql:
        """An expression of stats: aggregates, and arithmetic over them."""
        match expression:
            case Call(name, arguments) if name in _AGGREGATES:
                fewest, most = _AGGREGATES[name]
                check_count(name, arguments, fewest, most)
                return self._aggregate_call(name, arguments)
            case Call(name, arguments) if name in SCALARS:
                return SCALARS[name][2]([self.aggregated(each) for each in arguments])
            case Operation("neg", (operand,)):
                return Sql(f"(-{self.aggregated(operand).text})", "number")
            case Operation("+" | "-" | "*" | "/" | "%" | "^" as operator, (left, right)):
                one, other = self.aggregated(left).text, self.aggregated(right).text
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
            return Sql(f"count({self.sql(arguments[0]).text})", "number")
        sql = self.sql(arguments[0])
        number = as_number(sql)
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
                return Sql(f"deviation_in(group_concat({number}))", "number")
            case "median":
                return Sql(f"percentile_in(group_concat({number}), 50)", "number")
            case "pct" | "percentile":
                if not isinstance(arguments[1], Number) or not 0 <= arguments[1].value <= 100:
                    raise InvalidQuery(f"{name}() takes a field and a number from 0 to 100")
                return Sql(f"percentile_in(group_concat({number}), {arguments[1].value!r})", "number")
            case "earliest" | "latest":
                at = "at" if self.open else self.field(Field("@timestamp", ())).text
                return Sql(f"{name}_of({sql.text}, {at})", sql.kind)
            case "sortsfirst":
                return Sql(f"min({sql.text})", sql.kind)
        return Sql(f"max({sql.text})", sql.kind)


def _milliseconds(unit: str) -> int:
    if unit not in _UNITS:
        raise InvalidQuery(f"{unit} is no unit of time; there are {', '.join(_UNITS)}")
    return _UNITS[unit]
