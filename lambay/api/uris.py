"""From a method, a path and a query string to a REST operation and its URI labels.

A tree of path segments for each service: a literal beats a label, a label beats a greedy label, and where the
path alone leaves several operations (`?acl`, `?List=ALL`, uploadId) the query literals and then the required
query parameters and headers decide. See the Smithy specification, "HTTP binding traits".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from lambay.api import model
from lambay.api.model import Operation, ServiceModel

# Longer paths are walked each time: nobody is to fill the memory with them.
_REMEMBERED = 512


@dataclass(slots=True)
class _Rule:
    """One operation at the end of its path; `labels` in the order in which the path has them."""

    operation: str
    labels: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    label: _Node | None = None
    greedy: _Node | None = None
    rules: dict[str, list[_Rule]] = field(default_factory=dict)


class Uris:
    """The URI table of one REST service."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service
        self._root = _Node()
        for name in service.operation_names:
            self._add(name, service.http_trait(name))
        self._find_again = functools.lru_cache(1024)(self._find)

    def match(
        self, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> tuple[Operation, dict[str, str]] | None:
        """The operation and its decoded labels, or None.

        `path` is percent-encoded; a trailing slash is optional.
        """
        found = (self._find_again if len(path) <= _REMEMBERED else self._find)(method, path)
        if found is None:
            return None
        rules, values = found
        rule = rules[0] if len(rules) == 1 and not rules[0].literals else self._choose(rules, query, headers)
        operation = self._service.operation(rule.operation) if rule is not None else None
        if rule is None or operation is None:
            return None
        return operation, {
            label: unquote(value) if "%" in value else value
            for label, value in zip(rule.labels, values, strict=True)
        }

    def _find(self, method: str, path: str) -> tuple[list[_Rule], tuple[str, ...]] | None:
        """The rules at the end of a path, and the values of its labels."""
        segments = path.split("/")[1:]
        if not segments:
            # `OPTIONS *` asks about the server and none of its resources.
            return None
        found = _walk(self._root, segments, 0, method, ())
        if found is None:
            # The EFS model has paths that end with a slash and others that do not; clients mix them up.
            other = segments[:-1] if segments[-1] == "" else [*segments, ""]
            found = _walk(self._root, other, 0, method, ())
        return found

    def _add(self, name: str, http: Mapping[str, str]) -> None:
        path, _, query = http.get("requestUri", "/").partition("?")
        node, labels = self._root, []
        for segment in path.split("/")[1:]:
            if segment.startswith("{") and segment.endswith("+}"):
                labels.append(segment[1:-2])
                node.greedy = node = node.greedy or _Node()
            elif segment.startswith("{"):
                labels.append(segment[1:-1])
                node.label = node = node.label or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        rule = _Rule(name, tuple(labels), tuple(parse_qsl(query, keep_blank_values=True)))
        node.rules.setdefault(http.get("method", "POST"), []).append(rule)

    def _choose(self, rules: Sequence[_Rule], query: str, headers: Mapping[str, str]) -> _Rule | None:
        given = dict(parse_qsl(query, keep_blank_values=True))
        fitting = [
            rule
            for rule in rules
            if all(key in given and (not value or given[key] == value) for key, value in rule.literals)
        ]
        return max(fitting, key=lambda rule: self._specificity(rule, given, headers), default=None)

    def _specificity(
        self, rule: _Rule, given: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bool, int]:
        """Literals count most, then whether all required parameters are there, then how many."""
        operation = self._service.operation(rule.operation)
        missing, present = 0, 0
        if operation is not None and operation.input is not None:
            for name in operation.input.required:
                member = operation.input.members[name]
                if member.location == "querystring":
                    there = member.wire in given
                elif member.location == "header":
                    there = member.wire.lower() in headers
                else:
                    continue
                present, missing = present + there, missing + (not there)
        return len(rule.literals), missing == 0, present - missing


@functools.cache
def table(service: str) -> Uris:
    """The table of a service by botocore's name, built once."""
    return Uris(model.load(service))


def matches(
    services: Iterable[str], method: str, path: str, query: str, headers: Mapping[str, str]
) -> tuple[str, Operation, dict[str, str]] | None:
    """Which of `services` has an operation for this request, that operation and its labels.

    Where several do, the one whose path has most literal segments: S3's catches everything, S3 Control's
    begins with a version.
    """
    best: tuple[str, Operation, dict[str, str]] | None = None
    for service in services:
        found = table(service).match(method, path, query, headers)
        if found is not None and (best is None or _literal_segments(found[0]) > _literal_segments(best[1])):
            best = service, *found
    return best


def _literal_segments(operation: Operation) -> int:
    path = operation.uri.partition("?")[0]
    return sum(1 for segment in path.split("/") if segment and not segment.startswith("{"))


def _walk(
    node: _Node, segments: Sequence[str], at: int, method: str, values: tuple[str, ...]
) -> tuple[list[_Rule], tuple[str, ...]] | None:
    if at == len(segments):
        rules = node.rules.get(method)
        return (rules, values) if rules else None
    segment = segments[at]
    literal = node.literals.get(segment) or (node.literals.get(unquote(segment)) if "%" in segment else None)
    if literal is not None:
        found = _walk(literal, segments, at + 1, method, values)
        if found is not None:
            return found
    if node.label is not None and segment:
        found = _walk(node.label, segments, at + 1, method, (*values, segment))
        if found is not None:
            return found
    if node.greedy is not None and segments[at:] != [""]:
        # Longest first: what follows a greedy label in a model is a literal tail such as `/policy`.
        for end in range(len(segments), at, -1):
            found = _walk(node.greedy, segments, end, method, (*values, "/".join(segments[at:end])))
            if found is not None:
                return found
    return None
