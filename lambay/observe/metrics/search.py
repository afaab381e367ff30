"""Search expressions: `{AWS/Lambda,FunctionName} MetricName="Errors" NOT test`.

CloudWatch User Guide, "CloudWatch search expression syntax". Words match anywhere in the metric's namespace, name, and
dimensions' names and values, whatever the case; quoted ones match whole values exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lambay.observe.metrics.expressions import InvalidExpression
from lambay.observe.metrics.records import Metric

_TOKEN = re.compile(r"\s*(\(|\)|=|\"(?:[^\"\\]|\\.)*\"|[^\s()=\"]+)")
_SCHEMA = re.compile(r"\s*\{([^}]*)\}")
_FIELDS = {"namespace", "metricname"}

Test = Callable[[Metric], bool]


@dataclass(frozen=True, slots=True)
class Search:
    """`dimensions` None: whichever; else exactly these."""

    namespace: str | None
    dimensions: frozenset[str] | None
    test: Test

    def finds(self, metric: Metric) -> bool:
        if self.namespace is not None and metric.namespace != self.namespace:
            return False
        if self.dimensions is not None and {name for name, _ in metric.dimensions} != self.dimensions:
            return False
        return self.test(metric)


def parse(text: str) -> Search:
    """Raises InvalidExpression."""
    namespace: str | None = None
    dimensions: frozenset[str] | None = None
    found = _SCHEMA.match(text)
    rest = text
    if found:
        parts = [part.strip().strip('"') for part in re.findall(r'(?:"[^"]*"|[^,])+', found[1])]
        if not parts or not parts[0]:
            raise InvalidExpression(f"SEARCH: {found[0].strip()!r} names no namespace")
        namespace, dimensions = parts[0], frozenset(parts[1:])
        rest = text[found.end() :]
    tokens = _tokens(rest)
    if not tokens:
        return Search(namespace, dimensions, lambda metric: True)
    reading = _Reading(tokens)
    test = reading.either()
    if reading.tokens:
        raise InvalidExpression(f"SEARCH: unexpected {reading.tokens[0]!r}")
    return Search(namespace, dimensions, test)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            raise InvalidExpression(f"SEARCH: cannot read {text[place:].strip()[:20]!r}")
        tokens.append(found[1])
        place = found.end()
    return tokens


class _Reading:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def either(self) -> Test:
        tests = [self._all()]
        while self.tokens and self.tokens[0] == "OR":
            self.tokens.pop(0)
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda metric: any(test(metric) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self.tokens and self.tokens[0] not in ("OR", ")"):
            if self.tokens[0] == "AND":
                self.tokens.pop(0)
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda metric: all(test(metric) for test in tests)

    def _one(self) -> Test:
        if not self.tokens:
            raise InvalidExpression("SEARCH: a term is missing at the end")
        token = self.tokens.pop(0)
        if token == "NOT":
            test = self._one()
            return lambda metric: not test(metric)
        if token == "(":
            test = self.either()
            self._close()
            return test
        if token in (")", "=", "AND", "OR"):
            raise InvalidExpression(f"SEARCH: unexpected {token!r}")
        if self.tokens and self.tokens[0] == "=":
            self.tokens.pop(0)
            return self._field(_bare(token))
        return _term(token, _everything)

    def _field(self, name: str) -> Test:
        def values(metric: Metric) -> Sequence[str]:
            match name.lower():
                case "namespace":
                    return (metric.namespace,)
                case "metricname":
                    return (metric.name,)
            return tuple(value for key, value in metric.dimensions if key == name)

        if self.tokens and self.tokens[0] == "(":
            self.tokens.pop(0)
            tests = []
            while self.tokens and self.tokens[0] != ")":
                token = self.tokens.pop(0)
                if token != "OR":
                    tests.append(_term(token, values))
            self._close()
            return lambda metric: any(test(metric) for test in tests)
        if not self.tokens:
            raise InvalidExpression(f"SEARCH: {name}= has no value")
        return _term(self.tokens.pop(0), values)

    def _close(self) -> None:
        if not self.tokens or self.tokens.pop(0) != ")":
            raise InvalidExpression("SEARCH: a bracket is not closed")


def _bare(token: str) -> str:
    return token[1:-1].replace('\\"', '"') if token.startswith('"') else token


def _everything(metric: Metric) -> Sequence[str]:
    parts = [metric.namespace, metric.name]
    for name, value in metric.dimensions:
        parts += (name, value)
    return parts


def _term(token: str, values: Callable[[Metric], Sequence[str]]) -> Test:
    if token.startswith('"'):
        exact = _bare(token)
        return lambda metric: exact in values(metric)
    word = token.lower()
    return lambda metric: any(word in value.lower() for value in values(metric))
