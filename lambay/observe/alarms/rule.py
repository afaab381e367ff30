"""Rules of composite alarms: `ALARM("a") AND (OK(b) OR NOT INSUFFICIENT_DATA(c))`, `AT_LEAST(2, ALARM, (a, b, c))`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, UnexpectedInput

from lambay.observe.alarms.records import State

_GRAMMAR = r"""
?start: either
?either: both | either "OR"i both -> either
?both: negated | both "AND"i negated -> both
?negated: atom | "NOT"i negated -> negated
?atom: STATE "(" alarm ")" -> state
    | "TRUE"i -> true
    | "FALSE"i -> false
    | "AT_LEAST"i "(" AMOUNT "," [OPPOSITE] STATE "," "(" alarm ("," alarm)* ")" ")" -> at_least
    | "(" either ")"
alarm: QUOTED -> quoted | BARE -> bare

STATE.3: /(ALARM|OK|INSUFFICIENT_DATA)(?=\s*[(,])/
AMOUNT.3: /\d+%?/
OPPOSITE: "NOT"i
QUOTED: /"(?:[^"\\]|\\.)*"/ | /'(?:[^'\\]|\\.)*'/
BARE: /[^\s()",']+/
%ignore /\s+/
"""

MOST_ALARMS = 100

StateOf = Callable[[str], State]
"""An alarm's state by its name."""

Rule = tuple[str, Any]
"""What it is, and what it is made of."""


class InvalidRule(ValueError):
    """The text is no rule."""


@v_args(inline=True)
class _Tree(Transformer[Token, Any]):
    def quoted(self, token: Token) -> str:
        return _name(token[1:-1].replace('\\"', '"').replace("\\'", "'"))

    def bare(self, token: Token) -> str:
        return _name(str(token))

    def state(self, state: Token, name: str) -> Rule:
        return ("state", (str(state), name))

    def true(self) -> Rule:
        return ("constant", True)

    def false(self) -> Rule:
        return ("constant", False)

    def negated(self, rule: Rule) -> Rule:
        return ("not", rule)

    def both(self, left: Rule, right: Rule) -> Rule:
        return ("and", (left, right))

    def either(self, left: Rule, right: Rule) -> Rule:
        return ("or", (left, right))

    def at_least(self, amount: Token, opposite: Token | None, state: Token, *names: str) -> Rule:
        share = amount.endswith("%")
        number = int(amount.rstrip("%"))
        needed = math.ceil(number / 100 * len(names)) if share else number
        return ("at least", (needed, opposite is not None, str(state), names))


def _name(text: str) -> str:
    """An alarm's name, also where it is given as an ARN."""
    if text.startswith("arn:"):
        parts = text.split(":", 6)
        if len(parts) == 7 and parts[2] == "cloudwatch" and parts[5] == "alarm":
            return parts[6]
    return text


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", transformer=_Tree())


@functools.lru_cache(maxsize=512)
def parse(text: str) -> Rule:
    """Raises InvalidRule saying where."""
    try:
        rule: Rule = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        column = error.column if isinstance(error.column, int) and error.column > 0 else len(text) + 1
        raise InvalidRule(f"unexpected input at character {column}: {text[column - 1 :][:20]!r}") from None
    except (LarkError, RecursionError) as error:
        raise InvalidRule(str(error)) from None
    return rule


def holds(rule: Rule, state_of: StateOf) -> bool:
    match rule:
        case ("constant", value):
            return bool(value)
        case ("state", (state, name)):
            return bool(state_of(name) == state)
        case ("not", inner):
            return not holds(inner, state_of)
        case ("and", (left, right)):
            return holds(left, state_of) and holds(right, state_of)
        case ("or", (left, right)):
            return holds(left, state_of) or holds(right, state_of)
        case ("at least", (needed, opposite, state, names)):
            return bool(sum((state_of(name) == state) != opposite for name in names) >= needed)
    raise AssertionError(rule)


def alarms(rule: Rule) -> set[str]:
    """The names of the alarms that the rule speaks of."""
    match rule:
        case ("state", (_, name)):
            return {name}
        case ("not", inner):
            return alarms(inner)
        case ("and" | "or", (left, right)):
            return alarms(left) | alarms(right)
        case ("at least", (_, _, _, names)):
            return set(names)
    return set()
