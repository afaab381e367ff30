"""Intrinsic functions: what each gives, that what is unknown stays unknown, and AWS's texts."""

from __future__ import annotations

import base64
import ipaddress
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.deploy.template.functions import UNKNOWN, resolve, unknown
from tests.deploy.values import Names

NAMES = Names(
    refs={"Name": "demo", "List": ["a", "b", "c"], "Later": UNKNOWN, "Flag": "true"},
    attributes={("Queue", "Arn"): "arn:aws:sqs:us-east-1:1:q", ("Bucket", "Website.Url"): "http://b"},
    conditions={"Yes": {"Fn::Equals": ["a", "a"]}, "No": {"Fn::Not": [{"Condition": "Yes"}]}},
    mappings={"Sizes": {"us-east-1": {"Small": 1, "Names": ["x", "y"]}}},
    exports={"net-vpc": "vpc-1"},
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Name"}, "demo"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:aws:sqs:us-east-1:1:q"),
        ({"Fn::GetAtt": "Bucket.Website.Url"}, "http://b"),
        ({"Fn::Sub": "${Name}-${AWS::Region}-${!Literal}"}, "demo-us-east-1-${Literal}"),
        ({"Fn::Sub": ["${x}/${Queue.Arn}", {"x": {"Ref": "Name"}}]}, "demo/arn:aws:sqs:us-east-1:1:q"),
        ({"Fn::Join": ["-", ["a", 1, True]]}, "a-1-true"),
        ({"Fn::Join": [",", {"Ref": "List"}]}, "a,b,c"),
        ({"Fn::Select": ["1", {"Ref": "List"}]}, "b"),
        ({"Fn::Split": ["|", "a|b|"]}, ["a", "b", ""]),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "Small"]}, 1),
        ({"Fn::FindInMap": ["Sizes", "nowhere", "Small", {"DefaultValue": 7}]}, 7),
        ({"Fn::If": ["Yes", "a", "b"]}, "a"),
        ({"Fn::If": ["No", "a", {"Ref": "Name"}]}, "demo"),
        ({"Fn::Base64": "text"}, base64.b64encode(b"text").decode()),
        ({"Fn::GetAZs": ""}, ["us-east-1a", "us-east-1b", "us-east-1c"]),
        ({"Fn::GetAZs": "eu-west-1"}, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ({"Fn::ImportValue": {"Fn::Sub": "net-vpc"}}, "vpc-1"),
        ({"Fn::Cidr": ["10.0.0.0/16", 3, 8]}, ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]),
        ({"Fn::Length": {"Ref": "List"}}, 3),
        ({"Fn::ToJsonString": {"a": [1, {"Ref": "Name"}]}}, '{"a":[1,"demo"]}'),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [1, {"Ref": "AWS::NoValue"}]}, {"b": [1]}),
        ({"Fn::If": ["No", 1, {"Ref": "Later"}]}, UNKNOWN),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_a_function_gives(value: Any, expected: Any) -> None:
    assert resolve(value, NAMES) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"Fn::FindInMap": ["Sizes", "x", "y"]}, "Template error: Unable to get mapping for Sizes::x::y"),
        (
            {"Fn::FindInMap": ["Lost", "x", "y"]},
            "Template error: Mapping named 'Lost' is not present in the 'Mappings' section of template.",
        ),
        ({"Fn::ImportValue": "lost"}, "No export named lost found."),
        ({"Fn::Select": [5, ["a"]]}, "Template error: Fn::Select cannot select nonexistent value at index 5"),
        ({"Fn::Nothing": 1}, "Template error: Unrecognized function Fn::Nothing"),
    ],
)
def test_what_cannot_be_carried_out_is_told_in_aws_words(value: Any, message: str) -> None:
    with pytest.raises(AWSError) as refused:
        resolve(value, NAMES)

    assert (refused.value.code, refused.value.message) == ("ValidationError", message)


plain = st.recursive(
    st.text(st.characters(codec="ascii", exclude_characters="${}"), max_size=8)
    | st.integers()
    | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_what_calls_no_function_stays_as_it_is(value: Any) -> None:
    assert resolve(value, NAMES) == value


@given(st.text("ab", min_size=1, max_size=3), st.lists(st.text("xyz", max_size=4), min_size=1, max_size=5))
def test_join_and_split_undo_each_other(delimiter: str, items: list[str]) -> None:
    assert resolve({"Fn::Split": [delimiter, {"Fn::Join": [delimiter, items]}]}, NAMES) == items


@given(plain)
def test_json_of_a_value_is_that_value(value: Any) -> None:
    assert json.loads(resolve({"Fn::ToJsonString": {"v": value}}, NAMES)) == {"v": value}


@given(st.integers(8, 24), st.integers(1, 16), st.integers(4, 8))
def test_cidr_blocks_lie_in_the_network_side_by_side(prefix: int, count: int, bits: int) -> None:
    network = ipaddress.ip_network(f"10.0.0.0/{prefix}")
    blocks = (
        [ipaddress.ip_network(block) for block in resolve({"Fn::Cidr": [str(network), count, bits]}, NAMES)]
        if count <= 2 ** (32 - bits - prefix)
        else []
    )

    assert all(block.prefixlen == 32 - bits for block in blocks)
    assert all(not one.overlaps(other) for one, other in itertools.pairwise(blocks))


@given(st.permutations(["Fn::Join", "Fn::Sub", "Fn::Base64", "Fn::Split", "list"]))
def test_whatever_is_built_of_the_unknown_is_unknown(steps: list[str]) -> None:
    value: Any = {"Ref": "Later"}
    for step in steps:
        value = {
            "Fn::Join": {"Fn::Join": ["", ["a", value]]},
            "Fn::Sub": {"Fn::Sub": ["${x}", {"x": value}]},
            "Fn::Base64": {"Fn::Base64": value},
            "Fn::Split": {"Fn::Select": [0, {"Fn::Split": ["x", value]}]},
            "list": {"Fn::Join": ["-", [value]]},
        }[step]

    assert unknown(resolve({"deep": [value]}, NAMES))
