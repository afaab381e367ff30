"""Metric math, read: an expression's text as a tree.

CloudWatch User Guide, "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, UnexpectedInput, VisitError

_GRAMMAR = r"""
?start: either
?either: both | either ("||" | "OR"i) both -> either
?both: compared | both ("&&" | "AND"i) compared -> both
?compared: sum | compared COMPARISON sum -> operation
?sum: product | sum SIGN product -> operation
?product: unary | product FACTOR unary -> operation
?unary: power | SIGN unary -> signed | "!" unary -> negated
?power: atom | atom POWER unary -> operation
?atom: NUMBER -> number
    | STRING -> text
    | NAME "(" [either ("," either)*] ")" -> call
    | NAME -> name
    | "[" [either ("," either)*] "]" -> array
    | "(" either ")"

COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
SIGN: "+" | "-"
FACTOR: "*" | "/"
POWER: "^"
NAME: /(?!(?:AND|OR)\b)[A-Za-z_][A-Za-z0-9_]*/i
STRING: /'(?:[^'\\]|\\.)*'/ | /"(?:[^"\\]|\\.)*"/
NUMBER: /\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?/
%ignore /\s+/
"""


class InvalidExpression(ValueError):
    """The text is no metric math, or asks for what is not there; says what and where."""


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """Another query's id, or a word that a function understands (`REPEAT`, `DESC`)."""

    value: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`operator` with one operand (`-`, `!`) or two."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """`name` in capitals."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Array:
    items: tuple[Node, ...]


Node = Number | Text | Name | Operation | Function | Array


@v_args(inline=True)
class _Tree(Transformer[Token, Node]):
    def number(self, token: Token) -> Node:
        return Number(float(token))

    def text(self, token: Token) -> Node:
        return Text(token[1:-1].replace("\\'", "'").replace('\\"', '"'))

    def name(self, token: Token) -> Node:
        return Name(str(token))

    def either(self, left: Node, right: Node) -> Node:
        return Operation("||", (left, right))

    def both(self, left: Node, right: Node) -> Node:
        return Operation("&&", (left, right))

    def operation(self, left: Node, operator: Token, right: Node) -> Node:
        return Operation(str(operator), (left, right))

    def signed(self, sign: Token, operand: Node) -> Node:
        return operand if sign == "+" else Operation("-", (operand,))

    def negated(self, operand: Node) -> Node:
        return Operation("!", (operand,))

    def call(self, name: Token, *arguments: Node | None) -> Node:
        return Function(str(name).upper(), tuple(each for each in arguments if each is not None))

    def array(self, *items: Node | None) -> Node:
        return Array(tuple(each for each in items if each is not None))


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Tree(), maybe_placeholders=True)


@functools.lru_cache(maxsize=512)
def parse(text: str) -> Node:
    """The expression's tree. Raises InvalidExpression."""
    try:
        return _parser().parse(text)  # type: ignore[return-value]
    except UnexpectedInput as error:
        column = error.column if isinstance(error.column, int) and error.column > 0 else len(text) + 1
        raise InvalidExpression(
            f"the expression cannot be read at character {column}: {text[max(0, column - 1) :][:20]!r}"
        ) from None
    except (VisitError, LarkError, RecursionError) as error:
        raise InvalidExpression(f"the expression cannot be read: {error}") from None


def names(node: Node) -> set[str]:
    """Every name that occurs in the expression."""
    match node:
        case Name(value):
            return {value}
        case Operation(_, parts) | Function(_, parts) | Array(parts):
            return set().union(*(names(part) for part in parts))
    return set()


def calls(node: Node, function: str) -> bool:
    """Whether `function` is called anywhere in the expression."""
    match node:
        case Function(name, parts):
            return name == function or any(calls(part, function) for part in parts)
        case Operation(_, parts) | Array(parts):
            return any(calls(part, function) for part in parts)
    return False
