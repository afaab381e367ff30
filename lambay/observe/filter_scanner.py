"""Reading a filter pattern character by character, and the values that patterns compare with."""

from __future__ import annotations

import re
from collections.abc import Callable

REGEX_LIMIT = 2
"""How many regular expressions one JSON or space-delimited pattern may have."""

OPERATORS = ("<=", ">=", "!=", "=", "<", ">")

_REGEX_SYMBOLS = frozenset("_#=@/;,-:^$?[]{}|\\*+.~ ")

Test = Callable[[object], bool]


class InvalidPattern(Exception):
    """The pattern cannot be read; the message names what is wrong with it."""


class Scanner:
    """A place in a pattern's text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._regexes = 0

    def skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def done(self) -> bool:
        """Whether only spaces are left."""
        self.skip_spaces()
        return self._at >= len(self._text)

    def sees(self, expected: str) -> bool:
        """Whether `expected` comes next, after spaces."""
        self.skip_spaces()
        return self._text.startswith(expected, self._at)

    def takes(self, expected: str) -> bool:
        """`sees`, and steps over it."""
        if not self.sees(expected):
            return False
        self._at += len(expected)
        return True

    def takes_word(self, word: str) -> bool:
        """Whether the whole word (in any case) comes next, stepping over it."""
        self.skip_spaces()
        match = re.compile(rf"{word}\b", re.IGNORECASE).match(self._text, self._at)
        if match is None:
            return False
        self._at = match.end()
        return True

    def needs(self, expected: str) -> None:
        if not self.takes(expected):
            raise InvalidPattern(f"Invalid filter pattern: '{expected}' expected at '{self.rest()}'")

    def rest(self) -> str:
        """What has not been read, for messages."""
        return self._text[self._at : self._at + 40]

    def matching(self, expression: re.Pattern[str]) -> str:
        """What `expression` matches right here, "" where nothing."""
        match = expression.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def quoted(self, quote: str) -> str:
        """The text up to the closing quote, the opening one having been taken. A backslash escapes."""
        characters: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == quote:
                return "".join(characters)
            if character == "\\" and self._text[self._at : self._at + 1] in (quote, "\\"):
                character = self._text[self._at]
                self._at += 1
            characters.append(character)
        raise InvalidPattern(f"Invalid filter pattern: a closing {quote} is missing")

    def regex(self) -> re.Pattern[str]:
        """The regular expression up to the closing %, the opening one having been taken."""
        end = self._text.find("%", self._at)
        if end < 0:
            raise InvalidPattern("Invalid filter pattern: a closing % is missing")
        source = self._text[self._at : end]
        self._at = end + 1
        self._regexes += 1
        if self._regexes > REGEX_LIMIT:
            raise InvalidPattern(
                f"Invalid filter pattern: at most {REGEX_LIMIT} regular expressions are allowed in a pattern"
            )
        for character in source:
            if not (character.isascii() and character.isalnum()) and character not in _REGEX_SYMBOLS:
                raise InvalidPattern(f"Invalid character(s) in term '%{source}%'")
        try:
            return re.compile(source)
        except re.error as error:
            raise InvalidPattern(f"Invalid filter pattern: %{source}%: {error}") from None

    def operator(self) -> str:
        """The comparison that comes next."""
        for operator in OPERATORS:
            if self.takes(operator):
                return operator
        raise InvalidPattern(f"Invalid filter pattern: a comparison is expected at '{self.rest()}'")

    def comparison(self, operator: str, bare: re.Pattern[str]) -> Test:
        """The value behind `operator`: quoted text, a %regex%, or what `bare` matches."""
        self.skip_spaces()
        if self.takes('"'):
            return _text_test(operator, self.quoted('"'), quoted=True)
        if self.takes("%"):
            return _regex_test(operator, self.regex())
        value = self.matching(bare)
        if not value:
            raise InvalidPattern(f"Invalid filter pattern: a value is expected at '{self.rest()}'")
        number = number_of(value)
        return _text_test(operator, value) if number is None else _number_test(operator, number, value)


def number_of(text: object) -> float | None:
    """A JSON number or decimal text as a number, None where it is neither."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    if isinstance(text, str) and not _NUMBER.fullmatch(text):
        return None
    try:
        return float(text)
    except OverflowError:
        return None


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def _number_test(operator: str, number: float, written: str) -> Test:
    compare = _COMPARE[operator]
    as_text = _text_test(operator, written) if operator in ("=", "!=") else None

    def test(value: object) -> bool:
        actual = number_of(value)
        if actual is not None:
            return compare(actual, number)
        return as_text is not None and as_text(value)

    return test


def _text_test(operator: str, text: str, *, quoted: bool = False) -> Test:
    if operator not in ("=", "!="):
        raise InvalidPattern(f"Invalid filter pattern: {operator} needs a number, '{text}' is none")
    pattern = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
    wanted = operator == "="

    def test(value: object) -> bool:
        if quoted and not isinstance(value, str):
            return False
        return (pattern.fullmatch(text_of(value)) is not None) == wanted

    return test


def _regex_test(operator: str, regex: re.Pattern[str]) -> Test:
    if operator not in ("=", "!="):
        raise InvalidPattern(f"Invalid filter pattern: {operator} needs a number, not a regular expression")
    wanted = operator == "="
    return lambda value: (regex.search(text_of(value)) is not None) == wanted


def text_of(value: object) -> str:
    """A JSON scalar as text, the way it is written in JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
