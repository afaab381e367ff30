"""Space-delimited patterns: `[ip, user, ..., status = 4* && status != 404, bytes > 1000]`.

A field of a message is a word, or what stands between square brackets or double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lambay.observe.filter_scanner import InvalidPattern, Scanner

_FIELD = re.compile(r"\"([^\"]*)\"|\[([^\]]*)\]|(\S+)")
_NAME = re.compile(r"[\w-]+")
_BARE_VALUE = re.compile(r"[^\s,&|()\"%]+")

Condition = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Field:
    """One place of the pattern: a name, and what its text has to be."""

    name: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class FieldsPattern:
    """`before` and `behind` an ellipsis; without one (`open` false) the number of fields must be the same."""

    before: tuple[Field, ...]
    behind: tuple[Field, ...]
    open: bool

    literals: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> FieldsPattern:
        scanner = Scanner(text[1:-1])
        before: list[Field] = []
        behind: list[Field] = []
        is_open = False
        while True:
            if scanner.takes("..."):
                if is_open:
                    raise InvalidPattern("Invalid filter pattern: only one ellipsis (...) is allowed")
                is_open = True
            else:
                (behind if is_open else before).append(_field(scanner))
            if scanner.done():
                return cls(tuple(before), tuple(behind), is_open)
            scanner.needs(",")

    def matches(self, message: str) -> bool:
        return self._fields(message) is not None

    def extract(self, message: str) -> Mapping[str, str]:
        return self._fields(message) or {}

    def _fields(self, message: str) -> dict[str, str] | None:
        words = [match[match.lastindex or 0] for match in _FIELD.finditer(message)]
        asked = len(self.before) + len(self.behind)
        if len(words) < asked or (len(words) > asked and not self.open):
            return None
        last = len(words) - len(self.behind)
        pairs = [*zip(self.before, words, strict=False), *zip(self.behind, words[last:], strict=True)]
        if not all(field.condition(word) for field, word in pairs):
            return None
        return {f"${field.name}": word for field, word in pairs}


def _field(scanner: Scanner) -> Field:
    scanner.skip_spaces()
    name, condition = _any(scanner)
    return Field(name, condition)


def _any(scanner: Scanner) -> tuple[str, Condition]:
    name, first = _all(scanner)
    conditions = [first]
    while scanner.takes("||"):
        conditions.append(_same(name, _all(scanner)))
    if len(conditions) == 1:
        return name, first
    return name, lambda word: any(condition(word) for condition in conditions)


def _all(scanner: Scanner) -> tuple[str, Condition]:
    name, first = _one(scanner)
    conditions = [first]
    while scanner.takes("&&"):
        conditions.append(_same(name, _one(scanner)))
    if len(conditions) == 1:
        return name, first
    return name, lambda word: all(condition(word) for condition in conditions)


def _one(scanner: Scanner) -> tuple[str, Condition]:
    if scanner.takes("("):
        inner = _any(scanner)
        scanner.needs(")")
        return inner
    scanner.skip_spaces()
    name = scanner.matching(_NAME)
    if not name:
        raise InvalidPattern(f"Invalid filter pattern: a field's name is expected at '{scanner.rest()}'")
    if scanner.done() or any(scanner.sees(end) for end in (",", "&&", "||", ")")):
        return name, lambda word: True
    return name, scanner.comparison(scanner.operator(), _BARE_VALUE)


def _same(name: str, other: tuple[str, Condition]) -> Condition:
    if other[0] != name:
        raise InvalidPattern(
            f"Invalid filter pattern: one field is called {name} and {other[0]}; conditions on another field "
            "belong behind a comma"
        )
    return other[1]
