"""The query language, read: a query's text as a list of commands.

CloudWatch Logs User Guide, "CloudWatch Logs Insights language query syntax".
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, UnexpectedInput, VisitError
from lark.tree import Meta

_GRAMMAR = r"""
start: command ("|" command)*

?command: "fields"i columns -> fields
    | "display"i columns -> display
    | ("filter"i | "where"i) either -> filter
    | "stats"i columns ["by"i columns] -> stats
    | "sort"i order ("," order)* -> sort
    | "order"i "by"i order ("," order)* -> sort
    | ("limit"i | "head"i) NUMBER -> limit
    | "dedup"i columns -> dedup
    | "parse"i [field] STRING "as"i NAME ("," NAME)* -> parse_glob
    | "parse"i [field] REGEX -> parse_regex

columns: column ("," column)*
column: either ["as"i NAME]
order: either [DIRECTION]

?either: both | either "or"i both -> either
?both: negated | both "and"i negated -> both
?negated: compared | "not"i negated -> negated
?compared: sum
    | sum COMPARISON sum -> compared
    | sum "like"i pattern -> like
    | sum "not"i "like"i pattern -> not_like
    | sum "=~" pattern -> like
    | sum "!~" pattern -> not_like
    | sum "in"i items -> among
    | sum "not"i "in"i items -> not_among
items: "[" either ("," either)* "]"
?pattern: REGEX -> regex | sum
?sum: product | sum SIGN product -> arithmetic
?product: power | product FACTOR power -> arithmetic
?power: unary | unary "^" power -> power
?unary: atom | SIGN unary -> signed
?atom: NUMBER -> number
    | DURATION -> duration
    | STRING -> text
    | NAME "(" [argument ("," argument)*] ")" -> call
    | field
    | "(" either ")"
?argument: either | "*" -> star | REGEX -> regex
field: NAME | QUOTED

COMPARISON: "!=" | "<=" | ">=" | "=" | "<" | ">"
DIRECTION: /(asc|desc)\b/i
SIGN: "+" | "-"
FACTOR: "*" | "/" | "%"
DURATION.4: /\d+(ms|mo|min|s|m|h|d|w|q|y)\b/
NUMBER.3: /\d+(\.\d+)?([eE][+-]?\d+)?/
STRING: /"(?:[^"\\]|\\.)*"/s | /'(?:[^'\\]|\\.)*'/s
QUOTED: /`[^`]+`/
REGEX.2: /\/(?![\s*])(?:[^\/\\\n]|\\.)+\//
NAME: /[@A-Za-z_$][\w@$]*(?:\.[\w@$]+|\[\d+\])*/
%ignore /\s+/
%ignore /#[^\n]*/
"""

_COMMANDS = frozenset(
    ("fields", "display", "filter", "where", "stats", "sort", "order", "limit", "head", "dedup", "parse")
)
_ABSENT = frozenset(
    ("unmask", "pattern", "diff", "anomaly", "join", "subquery", "lookup", "unnest", "source", "filterindex")
)
_COMMENT = re.compile(r"^\s*(?:--|#|//).*$", re.MULTILINE)


class InvalidQuery(ValueError):
    """The text is no query, or asks for what is not there; `start` and `end` are places in the text."""

    def __init__(self, message: str, start: int = 0, end: int = 0) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True)
class Number:
    value: float | int


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Regex:
    pattern: str


@dataclass(frozen=True, slots=True)
class Duration:
    count: int
    unit: str


@dataclass(frozen=True, slots=True)
class Star:
    pass


@dataclass(frozen=True, slots=True)
class Field:
    """A field by its name; `path` are the steps where it is a property of JSON."""

    name: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function, its name in small letters."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """`operator` is one of + - * / % ^ = != < <= > >= and or not like in, or neg."""

    operator: str
    operands: tuple[Expression, ...]


Expression = Number | Text | Regex | Duration | Star | Field | Call | Operation


@dataclass(frozen=True, slots=True)
class Column:
    """An expression, called by its alias or by the text that it was written as."""

    expression: Expression
    name: str


@dataclass(frozen=True, slots=True)
class Fields:
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Display:
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    condition: Expression


@dataclass(frozen=True, slots=True)
class Stats:
    columns: tuple[Column, ...]
    by: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    """Expressions, each with whether it goes down."""

    keys: tuple[tuple[Expression, bool], ...]


@dataclass(frozen=True, slots=True)
class Limit:
    count: int


@dataclass(frozen=True, slots=True)
class Dedup:
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Parse:
    """What the groups of a regular expression, or the wildcards of a `glob`, find becomes fields of these names."""

    source: Field
    pattern: str
    names: tuple[str, ...]
    glob: str | None = None


Command = Fields | Display | Filter | Stats | Sort | Limit | Dedup | Parse

MESSAGE = Field("@message", ())


class _Tree(Transformer[Token, object]):
    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, commands: list[Command]) -> list[Command]:
        return commands

    @v_args(meta=True)
    def column(self, meta: Meta, parts: list[object]) -> Column:
        expression, alias = parts
        if alias is not None:
            return Column(expression, str(alias))  # type: ignore[arg-type]
        if isinstance(expression, Field):
            return Column(expression, expression.name)
        return Column(expression, self._text[meta.start_pos : meta.end_pos].strip())  # type: ignore[arg-type]

    def columns(self, parts: list[Column]) -> tuple[Column, ...]:
        return tuple(parts)

    def fields(self, parts: list[tuple[Column, ...]]) -> Fields:
        return Fields(parts[0])

    def display(self, parts: list[tuple[Column, ...]]) -> Display:
        return Display(parts[0])

    def filter(self, parts: list[Expression]) -> Filter:
        return Filter(parts[0])

    def stats(self, parts: list[tuple[Column, ...] | None]) -> Stats:
        return Stats(parts[0] or (), parts[1] or ())

    def order(self, parts: list[object]) -> tuple[object, bool]:
        return parts[0], str(parts[1] or "asc").lower() == "desc"

    def sort(self, parts: list[tuple[Expression, bool]]) -> Sort:
        return Sort(tuple(parts))

    def limit(self, parts: list[Token]) -> Limit:
        return Limit(int(float(parts[0])))

    def dedup(self, parts: list[tuple[Column, ...]]) -> Dedup:
        return Dedup(parts[0])

    def parse_glob(self, parts: list[object]) -> Parse:
        source, glob, *names = parts
        pattern = _unquoted(str(glob))
        if pattern.count("*") != len(names):
            raise InvalidQuery(
                f'parse: "{pattern}" has {pattern.count("*")} wildcards (*) and there are {len(names)} names'
            )
        return Parse(_source(source), "", tuple(str(name) for name in names), pattern)

    def parse_regex(self, parts: list[object]) -> Parse:
        source, token = parts
        pattern = _pattern(str(token))
        names = tuple(re.findall(r"\(\?P?<([A-Za-z_]\w*)>", pattern))
        if not names:
            raise InvalidQuery(f"parse: /{pattern}/ has no named groups, as in (?<name>\\d+)")
        return Parse(_source(source), pattern, names)

    def number(self, parts: list[Token]) -> Number:
        text = str(parts[0])
        return Number(int(text) if text.isdigit() else float(text))

    def duration(self, parts: list[Token]) -> Duration:
        found = re.fullmatch(r"(\d+)(\w+)", str(parts[0]))
        assert found is not None
        return Duration(int(found[1]), found[2])

    def text(self, parts: list[Token]) -> Text:
        return Text(_unquoted(str(parts[0])))

    def regex(self, parts: list[Token]) -> Regex:
        return Regex(_pattern(str(parts[0])))

    def star(self, parts: list[Token]) -> Star:
        return Star()

    def items(self, parts: list[Expression]) -> tuple[Expression, ...]:
        return tuple(parts)

    def field(self, parts: list[Token]) -> Field:
        text = str(parts[0])
        if text.startswith("`"):
            return Field(text[1:-1], (text[1:-1],))
        return Field(text, tuple(re.findall(r"[^.\[\]]+", text)))

    def call(self, parts: list[object]) -> Call:
        name, *arguments = parts
        return Call(str(name).lower(), tuple(each for each in arguments if each is not None))  # type: ignore[misc]

    def either(self, parts: list[Expression]) -> Operation:
        return Operation("or", tuple(parts))

    def both(self, parts: list[Expression]) -> Operation:
        return Operation("and", tuple(parts))

    def negated(self, parts: list[Expression]) -> Operation:
        return Operation("not", tuple(parts))

    def compared(self, parts: list[Expression]) -> Operation:
        left, operator, right = parts
        return Operation(str(operator), (left, right))

    arithmetic = compared

    def power(self, parts: list[Expression]) -> Operation:
        return Operation("^", tuple(parts))

    def signed(self, parts: list[object]) -> Expression:
        sign, operand = parts
        if sign == "+":
            return operand  # type: ignore[return-value]
        return Operation("neg", (operand,))  # type: ignore[arg-type]

    def like(self, parts: list[Expression]) -> Operation:
        return Operation("like", tuple(parts))

    def not_like(self, parts: list[Expression]) -> Operation:
        return Operation("not", (Operation("like", tuple(parts)),))

    def among(self, parts: list[object]) -> Operation:
        left, items = parts
        return Operation("in", (left, *items))  # type: ignore[misc, arg-type]

    def not_among(self, parts: list[object]) -> Operation:
        return Operation("not", (self.among(parts),))


def _source(given: object) -> Field:
    return given if isinstance(given, Field) else MESSAGE


def _unquoted(text: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)


def _pattern(text: str) -> str:
    """What stands between the slashes, each of which may be written `\\/` within."""
    return text[1:-1].replace("\\/", "/")


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="earley", propagate_positions=True, maybe_placeholders=True)


@functools.lru_cache(maxsize=256)
def read(text: str) -> tuple[Command, ...]:
    """The query's commands. Raises InvalidQuery."""
    # Blanks take a comment's place, so that places in the text stay what they are.
    bare = _COMMENT.sub(lambda found: " " * len(found[0]), text)
    if not bare.strip():
        raise InvalidQuery("the query is empty")
    first = re.match(r"\s*([A-Za-z]+)", bare)
    if first is not None and first[1].lower() in _ABSENT:
        raise InvalidQuery(f"the command {first[1]} is not supported")
    if first is None or first[1].lower() not in _COMMANDS:
        raise InvalidQuery(
            f"a query begins with a command ({', '.join(sorted(_COMMANDS - {'order', 'head', 'where'}))}), not with "
            f"{bare.strip()[:20]!r}"
        )
    try:
        commands = _Tree(bare).transform(_parser().parse(bare))
    except UnexpectedInput as error:
        place = error.pos_in_stream if isinstance(error.pos_in_stream, int) else len(bare)
        place = len(bare) if place < 0 else place
        for word in re.finditer(r"\|\s*([A-Za-z]+)", bare):
            if word[1].lower() in _ABSENT and word.start() <= place:
                raise InvalidQuery(f"the command {word[1]} is not supported", *word.span(1)) from None
        raise InvalidQuery(
            f"unexpected {bare[place:].strip()[:20]!r} at character {place + 1}"
            if bare[place:].strip()
            else "the query ends too early",
            place,
            len(bare),
        ) from None
    except VisitError as error:
        if isinstance(error.orig_exc, InvalidQuery):
            raise error.orig_exc from None
        raise
    except LarkError as error:
        raise InvalidQuery(str(error)) from None
    return tuple(commands)  # type: ignore[arg-type]
