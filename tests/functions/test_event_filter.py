"""Filter patterns against records."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.functions.event_filter import matches, parse_pattern

RECORD: dict[str, Any] = {
    "body": {"name": "Ada", "age": 36, "ip": "10.0.0.9", "tags": ["a", "b"], "none": None, "ok": True},
    "eventSource": "aws:sqs",
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{}", True),
        ('{"eventSource": ["aws:sqs"]}', True),
        ('{"body": {"name": ["Ada", "Bob"]}}', True),
        ('{"body": {"name": ["Bob"]}}', False),
        ('{"body": {"name": ["Ada"], "age": [36]}}', True),
        ('{"body": {"name": ["Ada"], "age": [37]}}', False),
        ('{"body": {"age": [36.0]}}', True),
        ('{"body": {"age": ["36"]}}', False),
        ('{"body": {"ok": [true]}}', True),
        ('{"body": {"ok": [1]}}', False),
        ('{"body": {"none": [null]}}', True),
        ('{"body": {"absent": [null]}}', False),
        ('{"body": {"tags": ["b"]}}', True),
        ('{"body": {"tags": ["c"]}}', False),
        ('{"body": {"name": [{"prefix": "A"}]}}', True),
        ('{"body": {"name": [{"suffix": "da"}]}}', True),
        ('{"body": {"name": [{"equals-ignore-case": "ADA"}]}}', True),
        ('{"body": {"name": [{"prefix": {"equals-ignore-case": "a"}}]}}', True),
        ('{"body": {"name": [{"wildcard": "A*a"}]}}', True),
        ('{"body": {"name": [{"wildcard": "B*"}]}}', False),
        ('{"body": {"name": [{"anything-but": "Bob"}]}}', True),
        ('{"body": {"name": [{"anything-but": ["Ada", "Bob"]}]}}', False),
        ('{"body": {"name": [{"anything-but": {"prefix": "A"}}]}}', False),
        ('{"body": {"age": [{"numeric": [">", 30, "<=", 36]}]}}', True),
        ('{"body": {"age": [{"numeric": ["=", 30]}]}}', False),
        ('{"body": {"name": [{"numeric": [">", 0]}]}}', False),
        ('{"body": {"ip": [{"cidr": "10.0.0.0/24"}]}}', True),
        ('{"body": {"ip": [{"cidr": "10.0.1.0/24"}]}}', False),
        ('{"body": {"absent": [{"exists": false}]}}', True),
        ('{"body": {"name": [{"exists": false}]}}', False),
        ('{"body": {"name": {"first": [{"exists": false}]}}}', True),
        ('{"body": {"$or": [{"name": ["Bob"]}, {"age": [36]}]}}', True),
        ('{"body": {"$or": [{"name": ["Bob"]}, {"age": [37]}]}}', False),
    ],
)
def test_patterns(pattern: str, expected: bool) -> None:
    assert matches(parse_pattern(pattern), RECORD) is expected


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '{"a": 1}', '{"a": []}', '{"a": [{"like": "x"}]}', '{"a": [{"prefix": "x", "y": 1}]}'],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json raises it with texts of its own
        parse_pattern(text)
