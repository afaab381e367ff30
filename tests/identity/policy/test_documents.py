"""What is a policy and what is not, with the sentence that says so."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from lambay.identity.policy import MalformedPolicy, Policy

from .cases import USER, allow, decide, deny, document, request


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(document(allow())),
        json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": allow()}),
        json.dumps({"Statement": allow(Sid="Everything")}),
        '{"Statement": {"Effect": "Allow", "Action": ["*"], "Resource": ["*"], "Condition": {}}}',
    ],
)
def test_a_policy_in_its_notations(text: str) -> None:
    assert decide(request(USER), identity=(Policy.parse(text),)).allowed


def test_numbers_are_compared_as_they_are_written() -> None:
    text = (
        '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", '
        '"Condition": {"StringEquals": {"a": 1.10}}}}'
    )
    own = Policy.parse(text)
    assert decide(request(keys={"a": "1.10"}), identity=(own,)).allowed
    assert not decide(request(keys={"a": "1.1"}), identity=(own,)).allowed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('"Allow"', "must be a JSON object"),
        ('{"Version": "2012-10-17"}', "Statement is required"),
        ('{"Version": "2012-10-18", "Statement": []}', "Version: '2012-10-18' is not 2008-10-17 or"),
        ('{"Version": ["2012-10-17"], "Statement": []}', "Version: ['2012-10-17'] is not"),
        ('{"Statements": []}', "'Statements' is not one of"),
        ('{"Statement": "Allow"}', "Statement 1 must be a JSON object"),
        ('{"Statement": [], "Statement": []}', "'Statement' is given twice"),
        (
            json.dumps(document(allow(Effect="allow"))),
            "Statement 1.Effect must be Allow or Deny, not 'allow'",
        ),
        (json.dumps(document(allow(Effect=["Allow"]))), "Statement 1.Effect must be Allow or Deny"),
        (json.dumps(document(allow(), allow(Sid=7))), "Statement 2.Sid must be a string"),
        (json.dumps(document(allow(Action=None))), "exactly one of Action and NotAction"),
        (json.dumps(document(allow() | {"NotAction": "*"})), "exactly one of Action and NotAction"),
        (json.dumps(document(allow(Resource=None))), "exactly one of Resource and NotResource"),
        (json.dumps(document(allow() | {"NotResource": "*"})), "exactly one of Resource and NotResource"),
        (json.dumps(document(allow(Action=[]))), "Statement 1.Action must be a string or a list"),
        (
            json.dumps(document(allow(Action=["s3:*", ["*"]]))),
            "Statement 1.Action must be a string or a list",
        ),
        (json.dumps(document(allow(Action="GetObject"))), "'GetObject' must be * or SERVICE:ACTION"),
        (json.dumps(document(allow(Resource={}))), "Statement 1.Resource must be a string or a list"),
        (json.dumps(document(allow(Conditions={}))), "'Conditions' is not one of"),
        (json.dumps(document(allow(Principal="*"))), "a policy of an identity names no Principal"),
        (json.dumps(document(allow(NotPrincipal="*"))), "a policy of an identity names no Principal"),
    ],
)
def test_a_malformed_policy_of_an_identity(text: str, told: str) -> None:
    _refused(text, "identity", told)


@pytest.mark.parametrize(
    ("principal", "told"),
    [
        ({}, "exactly one of Principal and NotPrincipal"),
        ({"Principal": "*", "NotPrincipal": "*"}, "exactly one of Principal and NotPrincipal"),
        ({"Principal": "111122223333"}, 'Statement 1.Principal must be "*" or an object'),
        ({"Principal": {}}, 'Statement 1.Principal must be "*" or an object'),
        ({"Principal": {"User": "a"}}, "Principal: 'User' is not one of AWS"),
        ({"Principal": {"AWS": 1}}, "Principal.AWS must be a string or a list"),
        ({"Principal": {"AWS": ["a", ""]}}, "Principal.AWS must be a string or a list"),
        (
            {"Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}},
            "a wildcard cannot match part of a name or ARN",
        ),
        ({"NotPrincipal": {"AWS": None}}, "Statement 1.NotPrincipal.AWS must be a string"),
    ],
)
def test_a_malformed_principal(principal: dict[str, Any], told: str) -> None:
    _refused(json.dumps(document(deny(**principal))), "resource", told)


def test_a_policy_of_a_resource_may_leave_out_which_resource() -> None:
    attached = Policy.parse(document(allow(Resource=None, Principal="*")), attached_to="resource")
    assert decide(request(USER), resource=attached).allowed


def test_a_policy_remembers_only_so_many_actions() -> None:
    own = Policy.parse(document(allow(Action="s3:*")))
    for number in range(3000):
        assert decide(request(action=f"s3:Get{number}"), identity=(own,)).allowed
    assert len(own._by_action) <= 1024


def _refused(text: str, attached_to: Literal["identity", "resource"], told: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        Policy.parse(text, attached_to=attached_to)
    assert told in str(refused.value)
