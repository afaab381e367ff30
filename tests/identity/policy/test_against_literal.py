"""The evaluator against a slow, literal second one, on policies and requests drawn at random."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lambay.identity.policy import Policies, Policy, PolicyType, Request, context, evaluate, principal_context

from .cases import ANYONE, BOB, FEDERATED, HERE, ROLE, ROOT, SERVICE, STRANGE_ROOT, STRANGER, THERE, USER
from .literal import decide_literally

# More of them: LAMBAY_TEST_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("LAMBAY_TEST_EXAMPLES", "200"))

PRINCIPALS = [USER, BOB, ROOT, ROLE, FEDERATED, STRANGER, STRANGE_ROOT, SERVICE, ANYONE]
NAMES = [
    "*",
    HERE,
    THERE,
    f"arn:aws:iam::{HERE}:root",
    USER.arn,
    BOB.arn,
    ROLE.arn,
    ROLE.role_arn,
    "AROAREADER",
    "AIDAALICE",
    FEDERATED.arn,
    STRANGER.arn,
]

ACTIONS = ["s3:GetObject", "s3:PutObject", "iam:PassRole", "S3:getobject"]
ACTION_PATTERNS = [*ACTIONS, "*", "s3:*", "s3:?etObject", "*:*Object", "iam:*", "s3:*t*t"]

# Few letters, so that much of what is drawn matches.
FRAGMENTS = st.sampled_from(
    ["a", "b", "ab", "/", ":", "*", "?", "**", "${aws:username}", "${k, 'a'}", "${k}", "${*}", "${?}", "${$}"]
)
ARNS = [
    "arn:aws:s3:::a",
    "arn:aws:s3:::a/b",
    "arn:aws:s3:a:b:ab/a:b",
    "arn:aws:sqs:a:b:alice",
    "arn:aws:s3:b::a:b:a",
    "*",
]
FIELDS = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b", "?", "", "**"]), min_size=1, max_size=4
)


@st.composite
def resource_patterns(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.sampled_from([*ARNS, "arn:aws:s3", "arn:*", "arn:aws:s3:::*"]))
    front = ":".join(["arn", "aws", draw(st.sampled_from(["s3", "sqs", "s*", "*"])), *draw(FIELDS)])
    return front + (":" if kind == 1 else "") + "".join(draw(st.lists(FRAGMENTS, max_size=4)))


TEXTS = st.lists(FRAGMENTS, max_size=4).map("".join)
NUMBERS = st.sampled_from(["0", "1", "1.0", "-2", "10", "9.5"])
DATES = st.sampled_from(
    ["2020", "2020-02", "2020-02-03", "2020-02-03T04:05:06Z", "2020-02-03T06:05:06+02:00", "1580702706"]
)
ADDRESSES = st.sampled_from(["10.0.0.1", "10.1.0.1", "::1", "2001:db8::1"])
NETWORKS = st.sampled_from(["10.0.0.0/16", "10.0.0.1", "0.0.0.0/0", "2001:db8::/32", "::/0", "10.0.0.7/8"])
BYTES = st.sampled_from(["YQ==", "YWI=", ""])
TRUTHS = st.sampled_from(["true", "false", "True", True, False])

FAMILIES: list[tuple[list[str], Any]] = [
    (["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"], TEXTS),
    (["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"], TEXTS),
    (["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"], resource_patterns()),
    (
        [f"Numeric{name}" for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan")]
        + ["NumericGreaterThanEquals"],
        NUMBERS,
    ),
    (
        [f"Date{name}" for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan")]
        + ["DateGreaterThanEquals"],
        DATES,
    ),
    (["IpAddress", "NotIpAddress"], NETWORKS),
    (["Bool"], TRUTHS),
    (["BinaryEquals"], BYTES),
]

KEYS = ["k", "K", "other", "aws:username", "aws:PrincipalArn"]
VALUES = st.one_of(
    st.text("abAB/:*?$", max_size=4), st.sampled_from(ARNS), NUMBERS, DATES, ADDRESSES, BYTES, TRUTHS.map(str)
)


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.integers(0, 6)) == 0:
            made["Null"] = {draw(st.sampled_from(KEYS)): draw(st.lists(TRUTHS, min_size=1, max_size=2))}
            continue
        names, values = draw(st.sampled_from(FAMILIES))
        operator = (
            draw(st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]))
            + draw(st.sampled_from(names))
            + draw(st.sampled_from(["", "", "IfExists"]))
        )
        several = draw(st.lists(values, min_size=1, max_size=3))
        made[operator] = {draw(st.sampled_from(KEYS)): several if draw(st.booleans()) else several[0]}
    return made


@st.composite
def statements(draw: st.DrawFn, *, principals: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Allow", "Deny"]))}
    patterns = draw(st.lists(st.sampled_from(ACTION_PATTERNS), min_size=1, max_size=2))
    made[draw(st.sampled_from(["Action", "Action", "Action", "NotAction"]))] = patterns
    resources: Any = draw(st.one_of(st.just("*"), st.lists(resource_patterns(), min_size=1, max_size=3)))
    made[draw(st.sampled_from(["Resource", "Resource", "Resource", "NotResource"]))] = resources
    if principals:
        if draw(st.booleans()):
            del made["NotResource" if "NotResource" in made else "Resource"]
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
        element: Any = {"AWS": names}
        if draw(st.integers(0, 4)) == 0:
            element["Service"] = draw(st.sampled_from(["lambda.amazonaws.com", "s3.amazonaws.com", "*"]))
        if draw(st.integers(0, 6)) == 0:
            element = "*"
        made[draw(st.sampled_from(["Principal", "Principal", "Principal", "NotPrincipal"]))] = element
    if draw(st.booleans()):
        made["Condition"] = draw(conditions())
    return made


@st.composite
def documents(draw: st.DrawFn, *, principals: bool = False) -> dict[str, Any]:
    several = draw(st.lists(statements(principals=principals), min_size=1, max_size=3))
    made: dict[str, Any] = {"Statement": several if len(several) > 1 or draw(st.booleans()) else several[0]}
    version = draw(st.sampled_from(["2012-10-17", "2012-10-17", "2008-10-17", None]))
    return made if version is None else {"Version": version, **made}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    principal = draw(st.sampled_from(PRINCIPALS))
    keys = draw(
        st.dictionaries(
            st.sampled_from(["k", "Other"]), st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=2
        )
    )
    return Request(
        principal=principal,
        action=draw(st.sampled_from(ACTIONS)),
        resources=tuple(draw(st.lists(st.sampled_from(ARNS), min_size=1, max_size=2))),
        context={**principal_context(principal), **context(keys)},
        resource_account=draw(st.sampled_from(["", HERE, THERE])),
        resource_policy_required=draw(st.integers(0, 3)) == 0,
        resource_policy_type=draw(st.sampled_from([PolicyType.RESOURCE, PolicyType.TRUST])),
        federated_by=draw(st.sampled_from([None, USER.arn, ROOT.arn])),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    request=requests(),
    identity=st.lists(documents(), max_size=3),
    resource=st.one_of(st.none(), documents(principals=True)),
    boundary=st.one_of(st.none(), documents()),
    session=st.one_of(st.none(), st.lists(documents(), max_size=2)),
)
def test_both_evaluators_decide_alike(
    request: Request,
    identity: list[Any],
    resource: Any,
    boundary: Any,
    session: list[Any] | None,
) -> None:
    verdict = evaluate(
        request,
        Policies(
            identity=tuple(Policy.parse(json.dumps(each)) for each in identity),
            resource=Policy.parse(resource, attached_to="resource") if resource else None,
            boundary=Policy.parse(boundary) if boundary else None,
            session=tuple(map(Policy.parse, session)) if session is not None else None,
        ),
    )
    told = (verdict.decision.value, verdict.policy_type.value if verdict.policy_type else None)
    literally = decide_literally(
        request, identity=identity, resource=resource, boundary=boundary, session=session
    )
    assert told == literally


@st.composite
def patterns_and_instances(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern, and a text that it may match: something in the place of each wildcard."""
    pattern = draw(resource_patterns())
    text = pattern.replace("${aws:username}", "alice").replace("${k, 'a'}", "a").replace("${*}", "*")
    filled = "".join(
        draw(st.sampled_from(["", "a", "b", ":", "b:a", "a/ab"]))
        if character == "*"
        else draw(st.sampled_from("ab:"))
        if character == "?"
        else character
        for character in text
    )
    return pattern, filled + draw(st.sampled_from(["", "", "", ":a:b", ":a", "b"]))


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(drawn=patterns_and_instances())
def test_resources_match_alike(drawn: tuple[str, str]) -> None:
    """Without the rest of a policy, where few draws get as far as the resource."""
    pattern, on = drawn
    document = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "*", "Resource": pattern},
    }
    request = Request(USER, "s3:GetObject", (on,), principal_context(USER))
    verdict = evaluate(request, Policies((Policy.parse(document),)))
    assert verdict.decision.value == decide_literally(request, identity=[document])[0]


@settings(max_examples=EXAMPLES, deadline=None)
@given(condition=conditions(), value=st.one_of(st.none(), VALUES, st.lists(VALUES, max_size=3)))
def test_conditions_are_met_alike(condition: dict[str, Any], value: Any) -> None:
    document = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition},
    }
    keys = {**principal_context(ROLE), **context({"k": value})}
    request = Request(ROLE, "s3:GetObject", ("*",), keys)
    verdict = evaluate(request, Policies((Policy.parse(document),)))
    assert verdict.decision.value == decide_literally(request, identity=[document])[0]
