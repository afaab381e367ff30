"""JSON patterns: `{ ($.status >= 500) && ($.path = "/api/*" || $.user.id NOT EXISTS) }`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from lambay.observe.filter_scanner import InvalidPattern, Scanner, Test, text_of

_NAME = re.compile(r"[^\s.\[\]()=!<>&|{}\"'%,]+")
_INDEX = re.compile(r"\d+")
_BARE_VALUE = re.compile(r"[^\s()&|\"%{}]+")

Condition = Callable[[object], bool]
Path = tuple[str | int, ...]

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class JsonPattern:
    """A condition on the properties of messages that are JSON; others never match.

    A comparison with a property that is absent is false, whatever the comparison; NOT EXISTS asks for that.
    """

    condition: Condition
    paths: Mapping[str, Path]

    literals: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> JsonPattern:
        parser = _Parser(text[1:-1])
        return cls(parser.whole(), parser.paths)

    def matches(self, message: str) -> bool:
        document = _document(message)
        return document is not _ABSENT and self.condition(document)

    def extract(self, message: str) -> Mapping[str, str]:
        document = _document(message)
        found = {name: _at(document, path) for name, path in self.paths.items()}
        return {name: text_of(value) for name, value in found.items() if _is_scalar(value)}


def _document(message: str) -> object:
    if message.lstrip()[:1] not in ("{", "["):
        return _ABSENT
    try:
        return msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _ABSENT


def _at(document: object, path: Path) -> object:
    for step in path:
        if isinstance(step, str):
            document = document.get(step, _ABSENT) if isinstance(document, dict) else _ABSENT
        else:
            inside = isinstance(document, list) and step < len(document)
            document = document[step] if inside else _ABSENT  # type: ignore[index]
    return document


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


class _Parser:
    """or := and (`||` and)* · and := one (`&&` one)* · one := `(` or `)` | selector comparison."""

    def __init__(self, text: str) -> None:
        self._scanner = Scanner(text)
        self.paths: dict[str, Path] = {}

    def whole(self) -> Condition:
        condition = self._any()
        if not self._scanner.done():
            raise InvalidPattern(f"Invalid filter pattern: unexpected '{self._scanner.rest()}'")
        return condition

    def _any(self) -> Condition:
        conditions = [self._all()]
        while self._scanner.takes("||"):
            conditions.append(self._all())
        if len(conditions) == 1:
            return conditions[0]
        return lambda document: any(condition(document) for condition in conditions)

    def _all(self) -> Condition:
        conditions = [self._one()]
        while self._scanner.takes("&&"):
            conditions.append(self._one())
        if len(conditions) == 1:
            return conditions[0]
        return lambda document: all(condition(document) for condition in conditions)

    def _one(self) -> Condition:
        if self._scanner.takes("("):
            condition = self._any()
            self._scanner.needs(")")
            return condition
        path = self._selector()
        if self._scanner.takes_word("IS"):
            wanted = self._constant()
            return lambda document: _at(document, path) is wanted
        if self._scanner.takes_word("NOT"):
            if not self._scanner.takes_word("EXISTS"):
                raise InvalidPattern("Invalid filter pattern: EXISTS expected behind NOT")
            return lambda document: _at(document, path) is _ABSENT
        if self._scanner.takes_word("EXISTS"):
            return lambda document: _at(document, path) is not _ABSENT
        test = self._scanner.comparison(self._scanner.operator(), _BARE_VALUE)
        return lambda document: _holds(test, _at(document, path))

    def _constant(self) -> object:
        for word, value in (("NULL", None), ("TRUE", True), ("FALSE", False)):
            if self._scanner.takes_word(word):
                return value
        raise InvalidPattern("Invalid filter pattern: NULL, TRUE or FALSE expected behind IS")

    def _selector(self) -> Path:
        scanner = self._scanner
        if not scanner.takes("$"):
            raise InvalidPattern(
                f"Invalid filter pattern: a selector ($.name) is expected at '{scanner.rest()}'"
            )
        path: list[str | int] = []
        written = "$"
        while True:
            if scanner.takes(".[") or scanner.takes("["):
                step = self._bracketed()
                written += f"[{step}]" if isinstance(step, int) else f".['{step}']"
            elif scanner.takes("."):
                step = scanner.matching(_NAME)
                if not step:
                    raise InvalidPattern(f"Invalid filter pattern: a name is expected at '{scanner.rest()}'")
                written += f".{step}"
            else:
                break
            path.append(step)
        if not path:
            raise InvalidPattern(f"Invalid filter pattern: a name is expected at '{scanner.rest()}'")
        self.paths[written] = tuple(path)
        return tuple(path)

    def _bracketed(self) -> str | int:
        scanner = self._scanner
        for quote in ("'", '"'):
            if scanner.takes(quote):
                name = scanner.quoted(quote)
                scanner.needs("]")
                return name
        index = scanner.matching(_INDEX)
        if not index:
            raise InvalidPattern(f"Invalid filter pattern: an index is expected at '{scanner.rest()}'")
        scanner.needs("]")
        return int(index)


def _holds(test: Test, value: object) -> bool:
    return value is not _ABSENT and _is_scalar(value) and test(value)
