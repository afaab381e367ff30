"""Filter patterns of event source mappings: which records reach the function.

See "Control which events Lambda sends to your function" and EventBridge's "comparison operators". Pure: a
pattern and a record in, a verdict out.
"""

from __future__ import annotations

import ipaddress
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Pattern = Mapping[str, Any]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_RULES = frozenset(
    {"prefix", "suffix", "equals-ignore-case", "wildcard", "anything-but", "numeric", "exists", "cidr"}
)


def parse_pattern(text: str) -> Pattern:
    """Raises ValueError for what is not a pattern: an object of objects and non-empty lists of rules."""
    pattern = json.loads(text)
    if not isinstance(pattern, dict):
        raise ValueError("a pattern is a JSON object")
    _check(pattern)
    return pattern


def _check(pattern: Mapping[str, Any]) -> None:
    for key, value in pattern.items():
        if key == "$or" and isinstance(value, list):
            for alternative in value:
                if not isinstance(alternative, dict):
                    raise ValueError("$or has a list of patterns")
                _check(alternative)
        elif isinstance(value, dict):
            _check(value)
        elif not isinstance(value, list) or not value:
            raise ValueError(f"{key}: a rule is a non-empty list")
        else:
            for rule in value:
                if isinstance(rule, dict) and (len(rule) != 1 or not _RULES.issuperset(rule)):
                    raise ValueError(f"{key}: {rule} is not a comparison")


def matches(pattern: Pattern, record: Mapping[str, Any]) -> bool:
    """Whether every key of the pattern is satisfied by the record."""
    for key, wanted in pattern.items():
        if key == "$or" and isinstance(wanted, list):
            if not any(matches(alternative, record) for alternative in wanted):
                return False
        elif isinstance(wanted, Mapping):
            within = record.get(key)
            if not isinstance(within, Mapping):
                within = {}
            if not matches(wanted, within):
                return False
        elif not _satisfied(wanted, key in record, record.get(key)):
            return False
    return True


def _satisfied(rules: Sequence[Any], present: bool, value: Any) -> bool:
    """One rule suffices; of a list in the record, one item."""
    items = value if isinstance(value, list) else [value]
    for rule in rules:
        if isinstance(rule, Mapping) and "exists" in rule:
            if bool(rule["exists"]) == present:
                return True
        elif present and any(_matches_rule(rule, item) for item in items):
            return True
    return False


def _matches_rule(rule: Any, item: Any) -> bool:
    if not isinstance(rule, Mapping):
        return (type(rule) is type(item) and rule == item) or _same_number(rule, item)
    ((comparison, wanted),) = rule.items()
    match comparison:
        case "anything-but":
            return not _matches_any(wanted, item)
        case "numeric":
            return _is_number(item) and _in_range(wanted, item)
        case "cidr":
            return _within(wanted, item)
    return isinstance(item, str) and _matches_text(comparison, wanted, item)


def _matches_any(wanted: Any, item: Any) -> bool:
    """For `anything-but`: a value, a list of values, or one more comparison of a value or a list."""
    if isinstance(wanted, Mapping):
        ((comparison, texts),) = wanted.items()
        given = texts if isinstance(texts, list) else [texts]
        return isinstance(item, str) and any(_matches_text(comparison, text, item) for text in given)
    return any(_matches_rule(rule, item) for rule in (wanted if isinstance(wanted, list) else [wanted]))


def _matches_text(comparison: str, wanted: Any, item: str) -> bool:
    if isinstance(wanted, Mapping):
        text = str(wanted.get("equals-ignore-case", ""))
        wanted, item = text.lower(), item.lower()
    match comparison:
        case "prefix":
            return item.startswith(wanted)
        case "suffix":
            return item.endswith(wanted)
        case "equals-ignore-case":
            return item.lower() == str(wanted).lower()
        case "wildcard":
            parts = (re.escape(part) for part in str(wanted).split("*"))
            return re.fullmatch(".*".join(parts), item, re.DOTALL) is not None
    return False


def _same_number(rule: Any, item: Any) -> bool:
    return _is_number(rule) and _is_number(item) and rule == item


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_range(wanted: Sequence[Any], item: float) -> bool:
    pairs = zip(wanted[::2], wanted[1::2], strict=True)
    return all(_COMPARISONS[comparison](item, bound) for comparison, bound in pairs)


def _within(network: str, item: Any) -> bool:
    try:
        return ipaddress.ip_address(str(item)) in ipaddress.ip_network(network)
    except ValueError:
        return False
