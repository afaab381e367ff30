"""Filter patterns of CloudWatch Logs: terms, JSON `{ … }`, space-delimited `[ … ]`.

Follows "Filter pattern syntax for metric filters, subscription filters, filter log events, and Live Tail" of
the CloudWatch Logs User Guide. Matching is case-sensitive, terms match anywhere in a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambay.observe.filter_fields import FieldsPattern
from lambay.observe.filter_json import JsonPattern
from lambay.observe.filter_scanner import InvalidPattern, Scanner

__all__ = ["FilterPattern", "InvalidPattern", "parse"]


class FilterPattern(Protocol):
    """A pattern that has been read."""

    @property
    def literals(self) -> Sequence[str]:
        """Texts that every matching message contains; a search may look for them first."""
        ...

    def matches(self, message: str) -> bool: ...

    def extract(self, message: str) -> Mapping[str, str]:
        """The values of a matching message by the names that the pattern gives them (`$.a.b`, `$ip`)."""
        ...


def parse(pattern: str) -> FilterPattern:
    """The pattern that `pattern` writes down; an empty one matches everything. Raises InvalidPattern."""
    text = pattern.strip()
    for begin, end in (("{", "}"), ("[", "]")):
        if text.startswith(begin) and not text.endswith(end):
            raise InvalidPattern(f"If a filter pattern starts with '{begin}' it must end with '{end}'")
    if text.startswith("{"):
        return JsonPattern.parse(text)
    if text.startswith("["):
        return FieldsPattern.parse(text)
    return TermsPattern.parse(text)


_BARE_TERM = re.compile(r"[^\s\"%]+")


@dataclass(frozen=True, slots=True)
class TermsPattern:
    """Words and phrases: all of `required`, none of `excluded`, and one of `optional` where there are any."""

    required: tuple[re.Pattern[str] | str, ...]
    excluded: tuple[re.Pattern[str] | str, ...]
    optional: tuple[re.Pattern[str] | str, ...]

    @classmethod
    def parse(cls, text: str) -> TermsPattern:
        required: list[re.Pattern[str] | str] = []
        excluded: list[re.Pattern[str] | str] = []
        optional: list[re.Pattern[str] | str] = []
        scanner = Scanner(text)
        while not scanner.done():
            terms = required
            if scanner.takes("-"):
                terms = excluded
            elif scanner.takes("?"):
                terms = optional
            terms.append(_term(scanner))
        if optional and (required or excluded):
            # "?" beside other kinds of terms is ignored: they become plain terms.
            required, optional = [*required, *optional], []
        return cls(tuple(required), tuple(excluded), tuple(optional))

    @property
    def literals(self) -> tuple[str, ...]:
        return tuple(term for term in self.required if isinstance(term, str) and term)

    def matches(self, message: str) -> bool:
        return (
            all(_occurs(term, message) for term in self.required)
            and not any(_occurs(term, message) for term in self.excluded)
            and (not self.optional or any(_occurs(term, message) for term in self.optional))
        )

    def extract(self, message: str) -> Mapping[str, str]:
        return {}


def _term(scanner: Scanner) -> re.Pattern[str] | str:
    if scanner.takes('"'):
        return scanner.quoted('"')
    if scanner.takes("%"):
        return scanner.regex()
    term = scanner.matching(_BARE_TERM)
    if not term or not all(character.isalnum() or character == "_" for character in term):
        raise InvalidPattern(f"Invalid character(s) in term '{term or scanner.rest()}'")
    return term


def _occurs(term: re.Pattern[str] | str, message: str) -> bool:
    return term in message if isinstance(term, str) else term.search(message) is not None
