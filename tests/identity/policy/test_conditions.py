"""Condition operators, by the tables and sentences of the IAM User Guide."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from lambay.identity.policy import MalformedPolicy

from .cases import allow, decide, document, identity, request
from .literal import decide_literally

ARN = "arn:aws:sns:us-east-1:111122223333:topic"
DATE = "2024-05-06T07:08:09Z"
BASE64 = base64.b64encode(b"\x00secret").decode()

# Operator, the policy's values, the request's value (None: the key is missing), whether it is met.
Case = tuple[str, Any, Any, bool]

STRINGS: list[Case] = [
    ("StringEquals", "a", "a", True),
    ("StringEquals", "a", "A", False),
    ("StringEquals", "a", "ab", False),
    ("StringEquals", ["a", "b"], "b", True),
    ("StringEquals", ["a", "b"], "c", False),
    ("StringEquals", "a", None, False),
    ("StringEquals", "a*", "ab", False),
    ("StringEquals", "a*", "a*", True),
    ("StringEquals", "", "", True),
    ("StringEquals", 10, "10", True),
    ("StringEquals", True, "true", True),
    ("StringNotEquals", "a", "b", True),
    ("StringNotEquals", "a", "a", False),
    ("StringNotEquals", "a", "A", True),
    ("StringNotEquals", ["a", "b"], "b", False),
    ("StringNotEquals", ["a", "b"], "c", True),
    ("StringNotEquals", "a", None, True),
    ("StringEqualsIgnoreCase", "John", "jOHN", True),
    ("StringEqualsIgnoreCase", "John", "Jon", False),
    ("StringEqualsIgnoreCase", "John", None, False),
    ("StringNotEqualsIgnoreCase", "John", "jOHN", False),
    ("StringNotEqualsIgnoreCase", "John", "Jon", True),
    ("StringNotEqualsIgnoreCase", "John", None, True),
    ("StringLike", "home/*", "home/alice", True),
    ("StringLike", "home/*", "home/", True),
    ("StringLike", "home/*", "Home/alice", False),
    ("StringLike", "home/*", "my/home/alice", False),
    ("StringLike", "*home*", "my/home/alice", True),
    ("StringLike", "t?.micro", "t3.micro", True),
    ("StringLike", "t?.micro", "t.micro", False),
    ("StringLike", "t?.micro", "t33.micro", False),
    ("StringLike", "*", "", True),
    ("StringLike", "?*", "", False),
    ("StringLike", ["", "home/"], "", True),
    ("StringLike", "a*b*c", "a-b-b-c", True),
    ("StringLike", "a*b*c", "a-b-b-c-d", False),
    ("StringLike", "a*bc", "abcbc", True),
    ("StringLike", "a+(b)*", "a+(b)c", True),
    ("StringLike", "a\n*", "a\nb\nc", True),
    ("StringLike", "a*", None, False),
    ("StringNotLike", "home/*", "home/alice", False),
    ("StringNotLike", "home/*", "etc", True),
    ("StringNotLike", "home/*", None, True),
    ("stringequals", "a", "a", True),
]

NUMBERS: list[Case] = [
    ("NumericEquals", "10", "10", True),
    ("NumericEquals", 10, 10, True),
    ("NumericEquals", "10", "10.0", True),
    ("NumericEquals", "10", "11", False),
    ("NumericEquals", ["1", "10"], "10", True),
    ("NumericEquals", "10", "ten", False),
    ("NumericEquals", "10", None, False),
    ("NumericNotEquals", "10", "11", True),
    ("NumericNotEquals", "10", "10.0", False),
    ("NumericNotEquals", ["1", "10"], "10", False),
    ("NumericNotEquals", "10", None, True),
    ("NumericLessThan", "10", "9.99", True),
    ("NumericLessThan", "10", "10", False),
    ("NumericLessThan", "10", "-1", True),
    ("NumericLessThanEquals", "10", "10", True),
    ("NumericLessThanEquals", "10", "10.01", False),
    ("NumericLessThanEquals", "10", None, False),
    ("NumericGreaterThan", "10", "11", True),
    ("NumericGreaterThan", "10", "9", False),
    ("NumericGreaterThan", "9", "10", True),
    ("NumericGreaterThanEquals", "10", "10", True),
    ("NumericGreaterThanEquals", "10", "9", False),
    ("NumericLessThan", ["1", "100"], "50", True),
]

DATES: list[Case] = [
    ("DateEquals", DATE, DATE, True),
    ("DateEquals", DATE, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), True),
    ("DateEquals", DATE, "2024-05-06T09:08:09+02:00", True),
    ("DateEquals", DATE, "1714979289", True),
    ("DateEquals", "1714979289", DATE, True),
    ("DateEquals", "2024-05-06", "2024-05-06T00:00:00Z", True),
    ("DateEquals", DATE, "yesterday", False),
    ("DateEquals", DATE, None, False),
    ("DateNotEquals", DATE, "2024-05-06T07:08:10Z", True),
    ("DateNotEquals", DATE, DATE, False),
    ("DateNotEquals", DATE, None, True),
    ("DateLessThan", DATE, "2024-05-06T07:08:08.999Z", True),
    ("DateLessThan", DATE, DATE, False),
    ("DateLessThanEquals", DATE, DATE, True),
    ("DateLessThanEquals", DATE, "2024-05-07T00:00:00Z", False),
    ("DateGreaterThan", "2020-01-01T00:00:01Z", "2020-01-01T00:00:02Z", True),
    ("DateGreaterThan", "2020-01-01T00:00:01Z", "2020-01-01T00:00:01Z", False),
    ("DateGreaterThan", "2020", "2020-06-01", True),
    ("DateGreaterThan", "2020-01-01T00:00:01Z", None, False),
    ("DateGreaterThanEquals", DATE, DATE, True),
    ("DateGreaterThanEquals", DATE, "2024-05-06T07:08:09-01:00", True),
    ("DateGreaterThanEquals", DATE, "2024-05-06T07:08:09+01:00", False),
]

OTHERS: list[Case] = [
    ("Bool", "true", True, True),
    ("Bool", "true", "TRUE", True),
    ("Bool", True, True, True),
    ("Bool", "true", False, False),
    ("Bool", "false", False, True),
    ("Bool", "false", None, False),
    ("Bool", ["true", "false"], False, True),
    ("BinaryEquals", BASE64, b"\x00secret", True),
    ("BinaryEquals", BASE64, b"\x00secreT", False),
    ("BinaryEquals", BASE64, "not base64!", False),
    ("BinaryEquals", BASE64, None, False),
    ("IpAddress", "203.0.113.0/24", "203.0.113.77", True),
    ("IpAddress", "203.0.113.0/24", "203.0.114.1", False),
    ("IpAddress", "203.0.113.7", "203.0.113.7", True),
    ("IpAddress", "203.0.113.7", "203.0.113.8", False),
    ("IpAddress", "203.0.113.7/24", "203.0.113.8", True),
    ("IpAddress", ["203.0.113.0/24", "2001:DB8:1234:5678::/64"], "2001:db8:1234:5678::1", True),
    ("IpAddress", ["203.0.113.0/24", "2001:DB8:1234:5678::/64"], "2001:db8:1234:5679::1", False),
    ("IpAddress", "0.0.0.0/0", "::1", False),
    ("IpAddress", "203.0.113.0/24", "AWS Internal", False),
    ("IpAddress", "203.0.113.0/24", None, False),
    ("NotIpAddress", "203.0.113.0/24", "203.0.113.77", False),
    ("NotIpAddress", "203.0.113.0/24", "10.0.0.1", True),
    ("NotIpAddress", ["10.0.0.0/8", "203.0.113.0/24"], "203.0.113.77", False),
    ("NotIpAddress", "203.0.113.0/24", "AWS Internal", True),
    ("NotIpAddress", "203.0.113.0/24", None, True),
]

ARNS: list[Case] = [
    ("ArnEquals", ARN, ARN, True),
    ("ArnEquals", ARN, ARN.upper(), False),
    ("ArnEquals", "arn:aws:sns:*:111122223333:*", ARN, True),
    ("ArnLike", "arn:aws:sns:*:111122223333:to?ic", ARN, True),
    ("ArnLike", "arn:aws:sns:us-*-1:*:topic", ARN, True),
    ("ArnLike", "arn:aws:sqs:*:*:*", ARN, False),
    (
        "ArnLike",
        "arn:aws:someservice:*:111122223333:finance/*",
        "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt",
        False,
    ),
    (
        "StringLike",
        "arn:aws:someservice:*:111122223333:finance/*",
        "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt",
        True,
    ),
    ("ArnLike", "arn:aws:lambda:*:*:function:*", "arn:aws:lambda:eu-west-1:1:function:f:alias", True),
    ("ArnLike", "arn:aws:sns:*", ARN, True),
    ("ArnLike", "arn:aws:sns", ARN, True),
    ("ArnLike", "*", ARN, True),
    ("ArnLike", "arn:aws:sns:*:*:*", "not-an-arn", False),
    ("ArnLike", "arn:aws:s?s:us-east-1:111122223333:topic", ARN, True),
    ("ArnLike", "arn:aws:?:us-east-1:111122223333:topic", ARN, False),
    ("ArnLike", ARN, None, False),
    ("ArnNotEquals", ARN, ARN, False),
    ("ArnNotEquals", ARN, f"{ARN}2", True),
    ("ArnNotLike", "arn:aws:sns:*:*:*", ARN, False),
    ("ArnNotLike", "arn:aws:sqs:*:*:*", ARN, True),
    ("ArnNotLike", "arn:aws:sns:*:*:*", None, True),
]

EXISTENCE: list[Case] = [
    ("Null", "true", None, True),
    ("Null", "true", "x", False),
    ("Null", "false", "x", True),
    ("Null", "false", None, False),
    ("Null", False, "x", True),
    ("Null", "false", [], False),
    ("Null", "true", [], True),
    ("Null", ["true", "false"], None, True),
    ("StringEqualsIfExists", "a", None, True),
    ("StringEqualsIfExists", "a", "a", True),
    ("StringEqualsIfExists", "a", "b", False),
    ("StringLikeIfExists", ["t1.*", "t2.*"], None, True),
    ("StringLikeIfExists", ["t1.*", "t2.*"], "t2.nano", True),
    ("StringLikeIfExists", ["t1.*", "t2.*"], "c5.large", False),
    ("StringNotEqualsIfExists", "a", None, True),
    ("StringNotEqualsIfExists", "a", "a", False),
    ("NumericLessThanIfExists", "10", None, True),
    ("NumericLessThanIfExists", "10", "11", False),
    ("DateLessThanIfExists", DATE, None, True),
    ("BoolIfExists", "true", None, True),
    ("BoolIfExists", "true", "false", False),
    ("BinaryEqualsIfExists", BASE64, None, True),
    ("IpAddressIfExists", "10.0.0.0/8", None, True),
    ("IpAddressIfExists", "10.0.0.0/8", "11.0.0.1", False),
    ("ArnLikeIfExists", ARN, None, True),
    ("ArnNotEqualsIfExists", ARN, None, True),
]

TAGS = ["PostDateTime", "Message", "Tags"]
SETS: list[Case] = [
    ("ForAllValues:StringEquals", TAGS, ["Message", "Tags"], True),
    ("ForAllValues:StringEquals", TAGS, ["PostDateTime", "UserName"], False),
    ("ForAllValues:StringEquals", TAGS, "Tags", True),
    ("ForAllValues:StringEquals", TAGS, [], True),
    ("ForAllValues:StringEquals", TAGS, [""], True),
    ("ForAllValues:StringEquals", TAGS, None, True),
    ("ForAnyValue:StringEquals", TAGS, ["PostDateTime", "UserName"], True),
    ("ForAnyValue:StringEquals", TAGS, ["UserName"], False),
    ("ForAnyValue:StringEquals", TAGS, [], False),
    ("ForAnyValue:StringEquals", TAGS, None, False),
    ("ForAllValues:StringLike", ["key1?*"], ["key1/a", "key1/b"], True),
    ("ForAllValues:StringLike", ["key1?*"], ["key1/a", "key2/b"], False),
    ("ForAnyValue:StringLike", ["key1?*"], ["key1/a", "key2/b"], True),
    ("ForAllValues:StringNotEquals", TAGS, ["UserName", "ID"], True),
    ("ForAllValues:StringNotEquals", TAGS, ["UserName", "Tags"], False),
    ("ForAllValues:StringNotEquals", TAGS, None, True),
    ("ForAnyValue:StringNotEquals", TAGS, ["UserName", "Tags"], True),
    ("ForAnyValue:StringNotEquals", TAGS, ["Message", "Tags"], False),
    ("ForAnyValue:StringNotEquals", TAGS, None, False),
    ("ForAllValues:StringEqualsIgnoreCase", TAGS, ["TAGS"], True),
    ("ForAllValues:NumericLessThan", "10", ["1", "9"], True),
    ("ForAllValues:NumericLessThan", "10", ["1", "10"], False),
    ("ForAnyValue:NumericGreaterThan", "10", ["1", "11"], True),
    ("ForAnyValue:ArnLike", "arn:aws:sns:*:*:*", ["arn:aws:sqs:r:1:q", ARN], True),
    ("ForAllValues:ArnLike", "arn:aws:sns:*:*:*", ["arn:aws:sqs:r:1:q", ARN], False),
    ("ForAnyValue:IpAddress", "10.0.0.0/8", ["11.0.0.1", "10.1.1.1"], True),
    ("ForAllValues:IpAddress", "10.0.0.0/8", ["11.0.0.1", "10.1.1.1"], False),
    ("ForAllValues:Bool", "true", ["true", "false"], False),
    ("ForAllValues:DateLessThan", "2020", ["2019-01-01", "2018-01-01"], True),
    # Set operators decide alone about missing keys.
    ("ForAnyValue:StringEqualsIfExists", TAGS, None, False),
    ("ForAllValues:StringEqualsIfExists", TAGS, None, True),
    # Without a set operator on a key with several values.
    ("StringEquals", "a", ["a", "b"], True),
    ("StringNotEquals", "a", ["a", "b"], False),
]

CASES = STRINGS + NUMBERS + DATES + OTHERS + ARNS + EXISTENCE + SETS


@pytest.mark.parametrize(("operator", "values", "given", "met"), CASES)
def test_an_operator(operator: str, values: Any, given: Any, met: bool) -> None:
    written = document(allow(Condition={operator: {"test:Key": values}}))
    asked = request(keys={"test:key": given})
    assert decide(asked, identity=(identity(*written["Statement"]),)).allowed is met
    assert decide_literally(asked, identity=[written])[0] == ("allowed" if met else "implicit deny")


BOTH = {"StringEquals": {"aws:a": "1", "aws:b": "2"}}
EITHER = {"StringEquals": {"aws:a": "1"}, "StringLike": {"aws:b": ["2*", "3*"]}}


@pytest.mark.parametrize(
    ("condition", "keys", "met"),
    [
        (BOTH, {"aws:a": "1", "aws:b": "2"}, True),
        (BOTH, {"aws:a": "1", "aws:b": "3"}, False),
        (BOTH, {"aws:a": "1"}, False),
        (EITHER, {"aws:a": "1", "aws:b": "3x"}, True),
        (EITHER, {"aws:a": "1", "aws:b": "4x"}, False),
        (EITHER, {"aws:a": "2", "aws:b": "3x"}, False),
        ({}, {}, True),
        ({"StringEquals": {"AWS:SourceIP": "x"}}, {"aws:sourceip": "x"}, True),
        ({"StringEquals": {"aws:sourceip": "x"}}, {"AWS:SourceIp": "x"}, True),
        ({"StringEquals": {"aws:ResourceTag/CostCenter": "x"}}, {"aws:resourcetag/costcenter": "x"}, True),
    ],
)
def test_all_operators_and_keys_have_to_be_met(condition: Any, keys: dict[str, str], met: bool) -> None:
    own = identity(allow(Condition=condition))
    assert decide(request(keys=keys), identity=(own,)).allowed is met


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ([], "Statement 1.Condition must be an object"),
        ({"StringSame": {"a": "b"}}, "'StringSame' is not a condition operator"),
        ({"NullIfExists": {"a": "true"}}, "'NullIfExists' is not a condition operator"),
        ({"ForAllValues:Null": {"a": "true"}}, "'ForAllValues:Null' is not a condition operator"),
        ({"ForSomeValues:StringEquals": {"a": "b"}}, "is not a condition operator"),
        ({"StringEquals": "a"}, "Condition.StringEquals must be an object of condition keys"),
        ({"StringEquals": {"a": []}}, "Condition.StringEquals.a must have at least one value"),
        ({"StringEquals": {"a": {}}}, "{} is not a string, number or boolean"),
        ({"StringEquals": {"a": None}}, "None is not a string, number or boolean"),
        ({"NumericEquals": {"a": "ten"}}, "Condition.NumericEquals.a: 'ten' is not a number"),
        ({"NumericEquals": {"a": "NaN"}}, "'NaN' is not a number"),
        ({"NumericEquals": {"a": "${aws:EpochTime}"}}, "is not a number"),
        ({"DateEquals": {"a": "tomorrow"}}, "'tomorrow' is not a date"),
        ({"DateEquals": {"a": "2024-13-01"}}, "'2024-13-01' is not a date"),
        ({"Bool": {"a": "yes"}}, "'yes' is not true or false"),
        ({"Null": {"a": "yes"}}, "'yes' is not true or false"),
        ({"BinaryEquals": {"a": "???"}}, "'???' is not base64"),
        ({"IpAddress": {"a": "10.0.0.256"}}, "'10.0.0.256' is not an IP address"),
    ],
)
def test_a_malformed_condition_is_named(condition: Any, told: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        identity(allow(Condition=condition))
    assert told in str(refused.value)
