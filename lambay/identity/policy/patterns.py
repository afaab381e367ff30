"""Texts of policies: wildcards, policy variables, and what they match.

IAM User Guide, "IAM JSON policy elements: Resource", "... Condition operators" (ARN operators) and "IAM
policy elements: Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

# Condition keys in lower case, each with the values that the request has for it.
Context = Mapping[str, tuple[str, ...]]


class Wildcard(Enum):
    """`*` stands for any run of characters, `?` for exactly one."""

    MANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`; `key` in lower case."""

    key: str
    default: str | None


Resolved = tuple[str | Wildcard, ...]
Template = tuple[str | Wildcard | Variable, ...]


class Reach(Enum):
    """How far a wildcard goes.

    TEXT: over anything. ARN: not over the colons of an ARN's first five fields. RESOURCE: the same, but a `*`
    that ends a field reaches over colons, as in the Resource element.
    """

    TEXT = "text"
    ARN = "arn"
    RESOURCE = "resource"


_VARIABLE = re.compile(r"\$\{(?:([*?$])|([^{}',]+?)(?:\s*,\s*'([^']*)')?)\}")
_WILDCARDS = re.compile(r"([*?])")
_FIELDS = 6


def parse(text: str, *, wildcards: bool, variables: bool) -> Template:
    """`text` in its parts. Without `variables` (policies of version 2008-10-17) `${…}` is plain text."""
    if not variables:
        return tuple(_plain(text, wildcards))
    parts: list[str | Wildcard | Variable] = []
    end = 0
    for found in _VARIABLE.finditer(text):
        parts += _plain(text[end : found.start()], wildcards)
        character, key, default = found.groups()
        parts.append(character if character else Variable(key.strip().lower(), default))
        end = found.end()
    parts += _plain(text[end:], wildcards)
    return tuple(parts)


def parse_resource(text: str, *, variables: bool) -> Template:
    """A value of the Resource element: variables count only behind an ARN's fifth colon."""
    fields = text.split(":", _FIELDS - 1)
    if not variables or len(fields) < _FIELDS:
        return parse(text, wildcards=True, variables=False)
    front = ":".join(fields[:-1]) + ":"
    return (
        *parse(front, wildcards=True, variables=False),
        *parse(fields[-1], wildcards=True, variables=True),
    )


def resolve(template: Template, context: Context) -> Resolved | None:
    """`template` with the request's values for its variables; None where one has neither value nor default.

    A key with several values is no variable.
    """
    parts: list[str | Wildcard] = []
    for part in template:
        if isinstance(part, Variable):
            values = context.get(part.key, ())
            value = values[0] if len(values) == 1 else part.default
            if value is None:
                return None
            parts.append(value)
        else:
            parts.append(part)
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Matcher:
    """Several values of a policy, of which one has to match."""

    everything: bool
    exact: frozenset[str]
    pattern: re.Pattern[str] | None
    templates: tuple[Template, ...]
    reach: Reach
    fold: bool

    @classmethod
    def of(cls, templates: Iterable[Template], reach: Reach = Reach.TEXT, *, fold: bool = False) -> Matcher:
        """`fold` compares without regard to case."""
        everything = False
        exact: set[str] = set()
        patterns: list[str] = []
        variable: list[Template] = []
        for template in templates:
            resolved = _constant(template)
            if resolved is None:
                variable.append(template)
                continue
            resolved = _folded(resolved) if fold else resolved
            text = _exact(resolved, reach)
            if _collapsed(resolved) == [Wildcard.MANY]:
                everything = True
            elif text is not None:
                exact.add(text)
            else:
                patterns.append(_expression(resolved, reach))
        pattern = re.compile("|".join(patterns), re.DOTALL) if patterns else None
        return cls(everything, frozenset(exact), pattern, tuple(variable), reach, fold)

    def matches(self, text: str, context: Context) -> bool | None:
        """None where it hangs on a variable that has no value: neither a match nor the lack of one."""
        if self.everything:
            return True
        if self.fold:
            text = text.lower()
        if text in self.exact or (self.pattern is not None and self.pattern.fullmatch(text)):
            return True
        return self._matches_variable(text, context) if self.templates else False

    def _matches_variable(self, text: str, context: Context) -> bool | None:
        unresolved = False
        for template in self.templates:
            resolved = resolve(template, context)
            if resolved is None:
                unresolved = True
                continue
            if self.fold:
                resolved = _folded(resolved)
            exact = _exact(resolved, self.reach)
            if text == exact or (exact is None and compiled(resolved, self.reach).fullmatch(text)):
                return True
        return None if unresolved else False


@lru_cache(maxsize=4096)
def compiled(resolved: Resolved, reach: Reach) -> re.Pattern[str]:
    """For `fullmatch`."""
    return re.compile(_expression(resolved, reach), re.DOTALL)


def _plain(text: str, wildcards: bool) -> Iterator[str | Wildcard]:
    for part in _WILDCARDS.split(text) if wildcards else (text,):
        if wildcards and part in ("*", "?"):
            yield Wildcard(part)
        elif part:
            yield part


def _constant(template: Template) -> Resolved | None:
    parts = tuple(part for part in template if not isinstance(part, Variable))
    return parts if len(parts) == len(template) else None


def _folded(resolved: Resolved) -> Resolved:
    return tuple(part.lower() if isinstance(part, str) else part for part in resolved)


def _exact(resolved: Resolved, reach: Reach) -> str | None:
    """The one text that matches; None where several do. An ARN with fields missing stands for several."""
    if any(isinstance(part, Wildcard) for part in resolved):
        return None
    text = "".join(part for part in resolved if isinstance(part, str))
    return None if reach is not Reach.TEXT and text.count(":") < _FIELDS - 1 else text


def _collapsed(parts: Iterable[str | Wildcard]) -> list[str | Wildcard]:
    """Without `*` behind `*`."""
    kept: list[str | Wildcard] = []
    for part in parts:
        if not (part is Wildcard.MANY and kept and kept[-1] is Wildcard.MANY):
            kept.append(part)
    return kept


# Regular expressions. What follows a `*` is sought leftmost and, once found, kept (an atomic group): with any
# text allowed before the next `*`, an earlier find is never worse, so the time stays bounded whatever a
# policy's author writes.


def _expression(resolved: Resolved, reach: Reach) -> str:
    if reach is Reach.TEXT or _collapsed(resolved) == [Wildcard.MANY]:
        return _stars_over(".", _collapsed(resolved))
    pieces = [""]
    fields = _fields(resolved, reach)
    for number, field in enumerate(fields, start=1):
        if number > 1:
            pieces[-1] += ":"
        if number == _FIELDS:
            return _stars(".", [*pieces[:-1], *_joined(pieces[-1], field)])
        wide = reach is Reach.RESOURCE and _ends_wide(field)
        pieces[-1] += _stars_over("[^:]", field[:-1] if wide else field)
        if wide:
            pieces.append("")
    return _stars(".", pieces)


def _ends_wide(field: Sequence[str | Wildcard]) -> bool:
    return bool(field) and field[-1] is Wildcard.MANY


def _joined(front: str, resource: Sequence[str | Wildcard]) -> list[str]:
    first, *others = _between_stars(".", resource)
    return [front + first, *others]


def _stars_over(character: str, parts: Sequence[str | Wildcard]) -> str:
    return _stars(character, _between_stars(character, parts))


def _between_stars(character: str, parts: Sequence[str | Wildcard]) -> list[str]:
    between = [""]
    for part in parts:
        if part is Wildcard.MANY:
            between.append("")
        else:
            between[-1] += re.escape(part) if isinstance(part, str) else character
    return between


def _stars(character: str, between: Sequence[str]) -> str:
    first, *others = between
    if not others:
        return first
    middle = "".join(f"(?>{character}*?{each})" for each in others[:-1])
    return f"{first}{middle}{character}*{others[-1]}"


def _fields(resolved: Resolved, reach: Reach) -> list[list[str | Wildcard]]:
    """An ARN's fields: all six, those that are missing being `*`.

    But for a resource with a `*` that reaches over colons, which may well stand for those missing.
    """
    fields: list[list[str | Wildcard]] = [[]]
    for part in resolved:
        if isinstance(part, Wildcard):
            fields[-1].append(part)
            continue
        first, *others = part.split(":", _FIELDS - len(fields))
        if first:
            fields[-1].append(first)
        fields += [[other] if other else [] for other in others]
    if reach is Reach.ARN or not any(map(_ends_wide, fields)):
        fields += [[Wildcard.MANY] for _ in range(_FIELDS - len(fields))]
    return [_collapsed(field) for field in fields]
