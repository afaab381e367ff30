"""Actions, resources and policy variables, by the IAM User Guide's examples."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lambay.identity.policy import Policy

from .cases import ROLE, USER, allow, decide, deny, document, identity, request
from .literal import decide_literally

BUCKET = "arn:aws:s3:::amzn-s3-demo-bucket"
QUEUE = "arn:aws:sqs:us-east-2:111122223333:queue1"


@pytest.mark.parametrize(
    ("elements", "action", "covered"),
    [
        ({"Action": "*"}, "iam:ListUsers", True),
        ({"Action": "iam:ListAccessKeys"}, "IAM:listaccesskeys", True),
        ({"Action": "IAM:LISTACCESSKEYS"}, "iam:ListAccessKeys", True),
        ({"Action": "iam:ListAccessKeys"}, "iam:ListAccessKeysAgain", False),
        ({"Action": "s3:*"}, "s3:GetObject", True),
        ({"Action": "s3:*"}, "s3express:GetObject", False),
        ({"Action": "iam:*AccessKey*"}, "iam:CreateAccessKey", True),
        ({"Action": "iam:*AccessKey*"}, "iam:ListAccessKeys", True),
        ({"Action": "iam:*AccessKey*"}, "iam:CreateUser", False),
        ({"Action": ["s3:Get*", "s3:List*"]}, "s3:ListBucket", True),
        ({"Action": ["s3:Get*", "s3:List*"]}, "s3:PutObject", False),
        ({"Action": "s3:Get?bject"}, "s3:GetObject", True),
        ({"Action": "ec2:Describe*"}, "ec2:describeinstances", True),
        ({"NotAction": "iam:*"}, "s3:GetObject", True),
        ({"NotAction": "iam:*"}, "iam:GetUser", False),
        ({"NotAction": ["iam:*", "s3:*"]}, "s3:GetObject", False),
        ({"NotAction": ["iam:*", "s3:*"]}, "ec2:RunInstances", True),
        ({"NotAction": "*"}, "s3:GetObject", False),
    ],
)
def test_an_action(elements: Any, action: str, covered: bool) -> None:
    written = document(allow(**elements))
    asked = request(action=action)
    assert decide(asked, identity=(Policy.parse(written),)).allowed is covered
    assert decide_literally(asked, identity=[written])[0] == ("allowed" if covered else "implicit deny")


RESOURCES = [
    ("*", QUEUE, True),
    ("*", "*", True),
    (QUEUE, QUEUE, True),
    (QUEUE, QUEUE + "2", False),
    (QUEUE, "*", False),
    ("arn:aws:iam::111122223333:user/Bob", "arn:aws:iam::111122223333:user/bob", False),
    ("arn:aws:iam::111122223333:user/accounting/*", "arn:aws:iam::111122223333:user/accounting/a/b", True),
    ("arn:aws:iam::111122223333:user/accounting/*", "arn:aws:iam::111122223333:user/accounting", False),
    (f"{BUCKET}/*", f"{BUCKET}/a", True),
    (f"{BUCKET}/*", BUCKET, False),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1/test/object.jpg", True),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1/2/test/3/object.jpg", True),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1///test///object.jpg", True),
    (f"{BUCKET}/*/test/*", f"{BUCKET}//test/object.jpg", True),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1/test/", True),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1-test/object.jpg", False),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/test/object.jpg", False),
    (f"{BUCKET}/*/test/*", f"{BUCKET}/1/2/test.jpg", False),
    ("arn:aws:sqs", QUEUE, True),
    ("arn:aws:sqs:us-east-2", QUEUE, True),
    ("arn:aws:sqs:us-west-1", QUEUE, False),
    ("arn:aws:sqs:*:*:queue?", QUEUE, True),
    ("arn:aws:sqs:us-*-2:*:queue1", QUEUE, True),
    ("arn:aws:sqs:us-*-2:*:queue1", "arn:aws:sqs:us-east-3:9:x-2:1:queue1", False),
    ("arn:aws:sqs:*:queue1", QUEUE, True),
    ("arn:aws:s3:*:bucket/x", "arn:aws:s3:::bucket/x", True),
    ("arn:aws:sqs:us-east-?:*:queue1", QUEUE, True),
    ("arn:aws:sqs?us-east-2:111122223333:queue1", QUEUE, False),
    ("arn:aws:lambda:*:*:function:*", "arn:aws:lambda:us-east-1:1:function:f:live", True),
    ("arn:aws:lambda:*:*:function:f:*", "arn:aws:lambda:us-east-1:1:function:f", False),
    ("arn:aws:logs:*:*:log-group:*:log-stream:a?c", "arn:aws:logs:r:1:log-group:/g:log-stream:abc", True),
    ("arn:aws:dynamodb:*:*:table/a*z*", "arn:aws:dynamodb:r:1:table/abczd", True),
    ("**", QUEUE, True),
]


@pytest.mark.parametrize(("pattern", "on", "covered"), RESOURCES)
def test_a_resource(pattern: str, on: str, covered: bool) -> None:
    written = document(allow(Resource=pattern))
    asked = request(on=on)
    assert decide(asked, identity=(Policy.parse(written),)).allowed is covered
    assert decide_literally(asked, identity=[written])[0] == ("allowed" if covered else "implicit deny")


@pytest.mark.parametrize(("pattern", "on", "covered"), RESOURCES)
def test_not_resource_is_every_other(pattern: str, on: str, covered: bool) -> None:
    own = Policy.parse(document(allow(NotResource=pattern)))
    assert decide(request(on=on), identity=(own,)).allowed is not covered


def test_one_of_several_resources_of_a_statement_is_enough() -> None:
    own = identity(allow(Resource=["arn:aws:s3:::a", "arn:aws:s3:::b*"]))
    assert decide(request(on="arn:aws:s3:::bc"), identity=(own,)).allowed


def test_each_resource_of_a_request_has_to_be_allowed() -> None:
    own = identity(allow(Resource="arn:aws:s3:::a"), deny(Resource="arn:aws:s3:::c"))
    assert decide(request(on=("arn:aws:s3:::a",)), identity=(own,)).allowed
    neither = decide(request(on=("arn:aws:s3:::a", "arn:aws:s3:::b")), identity=(own,))
    assert (neither.decision.value, neither.resource) == ("implicit deny", "arn:aws:s3:::b")
    denied = decide(request(on=("arn:aws:s3:::a", "arn:aws:s3:::b", "arn:aws:s3:::c")), identity=(own,))
    assert (denied.decision.value, denied.resource) == ("explicit deny", "arn:aws:s3:::c")


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([allow(Resource="arn:aws:s3:::a")], True),
        ([allow(Resource=None, NotResource="arn:aws:s3:::a")], True),
        ([allow(Resource="arn:aws:s3:::${aws:nothing}")], True),
        ([allow(), deny(Resource="arn:aws:s3:::a")], True),
        ([allow(), deny(Resource=None, NotResource="arn:aws:s3:::a")], True),
        ([allow(), deny()], False),
        ([allow(), deny(Resource=["*", "arn:aws:s3:::a"])], False),
        ([allow(Action="ec2:*")], False),
    ],
)
def test_a_resource_that_is_not_known(statements: Any, allowed: bool) -> None:
    verdict = decide(request(on=(None,)), identity=(identity(*statements),))
    assert verdict.allowed is allowed
    assert verdict.resource == "*"


HOME = "arn:aws:s3:::mybucket/"
TEAM = {"aws:PrincipalTag/team": "yellow"}


@pytest.mark.parametrize(
    ("pattern", "keys", "on", "covered"),
    [
        ("${aws:username}/*", {}, "alice/x", True),
        ("${aws:username}/*", {}, "bob/x", False),
        ("${AWS:UserName}/*", {}, "alice/x", True),
        ("${aws:nothing}/*", {}, "alice/x", False),
        ("${aws:nothing}*", {}, "${aws:nothing}", False),
        ("${aws:PrincipalTag/team, 'company-wide'}", TEAM, "yellow", True),
        ("${aws:PrincipalTag/team, 'company-wide'}", TEAM, "company-wide", False),
        ("${aws:PrincipalTag/team, 'company-wide'}", {}, "company-wide", True),
        ("${aws:PrincipalTag/team,'company-wide'}", {}, "company-wide", True),
        ("${aws:PrincipalTag/team, ''}x", {}, "x", True),
        ("${aws:PrincipalTag/team, '*'}", {}, "anything", False),
        ("${aws:PrincipalTag/team, '*'}", {}, "*", True),
        ("${aws:PrincipalTag/team}", {"aws:PrincipalTag/team": "*"}, "anything", False),
        ("${aws:PrincipalTag/team}", {"aws:PrincipalTag/team": "a?"}, "ab", False),
        ("${aws:PrincipalTag/team}/${aws:username}", TEAM, "yellow/alice", True),
        ("${aws:TagKeys}", {"aws:TagKeys": ["a", "b"]}, "a", False),
        ("a${*}b", {}, "a*b", True),
        ("a${*}b", {}, "axb", False),
        ("a${?}b", {}, "a?b", True),
        ("a${?}b", {}, "axb", False),
        ("${$}{aws:username}", {}, "${aws:username}", True),
        ("a${*}b*", {}, "a*bc", True),
        ("$aws", {}, "$aws", True),
        ("${unclosed", {}, "${unclosed", True),
    ],
)
def test_a_variable_in_a_resource(pattern: str, keys: dict[str, Any], on: str, covered: bool) -> None:
    own = identity(allow(Resource=HOME + pattern))
    assert decide(request(on=HOME + on, keys=keys), identity=(own,)).allowed is covered


def test_variables_count_only_behind_the_fifth_colon() -> None:
    own = identity(allow(Resource="arn:aws:sqs:us-east-2:${aws:PrincipalAccount}:queue1"))
    assert not decide(request(on=QUEUE), identity=(own,)).allowed


@pytest.mark.parametrize("version", ["2008-10-17", None])
def test_variables_are_plain_text_before_version_2012(version: str | None) -> None:
    own = Policy.parse(document(allow(Resource=HOME + "${aws:username}"), version=version))
    assert not decide(request(on=HOME + "alice"), identity=(own,)).allowed
    assert decide(request(on=HOME + "${aws:username}"), identity=(own,)).allowed


def test_a_statement_whose_variable_has_no_value_does_not_apply() -> None:
    """`aws:username` is a user's only, so for a role neither Resource nor NotResource holds."""
    asked = request(ROLE)
    everything = identity(allow())
    for element in ("Resource", "NotResource"):
        unless = identity(
            deny(**{"Resource": None, element: "arn:aws:s3:::home/${aws:username}"}),
        )
        assert decide(asked, identity=(everything, unless)).allowed
    assert not decide(
        request(USER),
        identity=(everything, identity(deny(Resource=None, NotResource="arn:aws:s3:::home/${aws:username}"))),
    ).allowed


@pytest.mark.parametrize(
    ("operator", "value", "given", "met"),
    [
        ("StringLike", "${aws:username}/*", "alice/x", True),
        ("StringEquals", "${aws:username}", "alice", True),
        ("StringEquals", "${aws:username}", "bob", False),
        ("StringNotEquals", "${aws:username}", "bob", True),
        ("StringNotEquals", "${aws:username}", "alice", False),
        ("StringEqualsIgnoreCase", "${aws:username}", "ALICE", True),
        ("StringEquals", "${aws:missing}", "", False),
        ("StringEquals", ["${aws:missing}", "x"], "x", True),
        ("StringNotEquals", "${aws:missing}", "x", False),
        ("StringNotEquals", ["${aws:missing}", "x"], "x", False),
        ("StringEquals", "${aws:missing, 'x'}", "x", True),
        ("StringNotEquals", "${aws:missing, 'x'}", "y", True),
        ("StringLike", "a${*}", "a*", True),
        ("StringLike", "a${*}", "ab", False),
        ("StringEquals", "a${*}", "a*", True),
        ("ArnEquals", "${aws:PrincipalArn}", USER.arn, True),
        ("ArnEquals", "arn:aws:iam::${aws:PrincipalAccount}:user/*", USER.arn, True),
        ("ArnLike", "arn:aws:iam::*:user/team/${aws:username}", USER.arn, True),
        ("Bool", "${test:Truth}", "true", True),
        ("ForAnyValue:StringLike", "${aws:username}-*", ["bob-1", "alice-1"], True),
    ],
)
def test_a_variable_in_a_condition(operator: str, value: Any, given: Any, met: bool) -> None:
    own = identity(allow(Condition={operator: {"test:Key": value}}))
    asked = request(keys={"test:Key": given, "test:Truth": True})
    assert decide(asked, identity=(own,)).allowed is met


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("*a" * 40 + "b:*", "*"),
        ("*", "arn:aws:s3:::" + "*a" * 60 + "b"),
        ("*", "*:" + "a*" * 40 + "b"),
        ("*", "arn:*:" + "a*" * 20 + "b:*:" + "a*" * 20 + "b"),
    ],
)
def test_wildcards_cost_bounded_time(action: str, resource: str) -> None:
    """What a backtracking search would not finish in an age."""
    own = identity(allow(Action=action, Resource=resource))
    asked = request(action="a" * 200 + ":Go", on="arn:aws:s3:::" + "a" * 512 + ":a" * 256)
    started = time.process_time()
    assert not decide(asked, identity=(own,)).allowed
    assert time.process_time() - started < 1
