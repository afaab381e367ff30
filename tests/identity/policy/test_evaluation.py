"""Which policies decide: one account, across accounts, sessions, services, and AWS's sentences."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.aws import Principal
from lambay.identity.policy import Decision, Policies, Policy, PolicyType, Request, evaluate

from .cases import (
    ANYONE,
    BOB,
    FEDERATED,
    HERE,
    ROLE,
    ROLE_ARN,
    ROOT,
    SERVICE,
    STRANGE_ROOT,
    STRANGER,
    THERE,
    USER,
    allow,
    decide,
    deny,
    document,
    identity,
    request,
    resource,
)
from .literal import decide_literally

YES = [allow()]
NO = [deny()]
OTHER = [allow(Action="ec2:*")]
BOTH = [allow(), deny()]


def to(*names: str, kind: str = "AWS") -> dict[str, Any]:
    return allow(Resource=None, Principal={kind: list(names)})


def against(*names: str, kind: str = "AWS") -> dict[str, Any]:
    return deny(Resource=None, Principal={kind: list(names)})


def but(*names: str) -> dict[str, Any]:
    return deny(Resource=None, NotPrincipal={"AWS": list(names)})


EVERYONE = allow(Resource=None, Principal="*")
ACCOUNT = f"arn:aws:iam::{HERE}:root"
THEIR_ACCOUNT = f"arn:aws:iam::{THERE}:root"
SESSION = ROLE.arn

A = "allowed"
E = "explicit deny"
I = "implicit deny"  # noqa: E741
R = "resource-based policy"
D = "identity-based policy"
B = "permissions boundary"
S = "session policy"

# Who asks, identity-based, resource-based, boundary, session policies (None: there is none), what comes of it.
Case = tuple[
    Principal, list[Any] | None, list[Any] | None, list[Any] | None, list[Any] | None, str, str | None
]

ONE_ACCOUNT: list[Case] = [
    # Nothing allows: the default is an implicit deny, but for root.
    (USER, None, None, None, None, I, D),
    (USER, OTHER, None, None, None, I, D),
    (ROLE, None, None, None, None, I, D),
    (ROOT, None, None, None, None, A, None),
    # Identity-based policies.
    (USER, YES, None, None, None, A, D),
    (USER, BOTH, None, None, None, E, D),
    (USER, NO, None, None, None, E, D),
    (ROLE, YES, None, None, None, A, D),
    # Boundaries limit identity-based policies and grant nothing.
    (USER, YES, None, YES, None, A, D),
    (USER, YES, None, OTHER, None, I, B),
    (USER, YES, None, NO, None, E, B),
    (USER, OTHER, None, YES, None, I, D),
    (USER, None, None, YES, None, I, D),
    (ROLE, YES, None, OTHER, None, I, B),
    # Session policies too.
    (ROLE, YES, None, None, YES, A, D),
    (ROLE, YES, None, None, OTHER, I, S),
    (ROLE, YES, None, None, [], I, S),
    (ROLE, YES, None, None, BOTH, E, S),
    (ROLE, OTHER, None, None, YES, I, D),
    (ROLE, YES, None, YES, OTHER, I, S),
    (ROLE, YES, None, OTHER, OTHER, I, B),
    # A federated user has what both its user and the session policies allow.
    (FEDERATED, YES, None, None, None, I, S),
    (FEDERATED, YES, None, None, YES, A, D),
    (FEDERATED, YES, None, None, OTHER, I, S),
    (FEDERATED, OTHER, None, None, YES, I, D),
    (FEDERATED, YES, None, OTHER, YES, I, B),
    # A resource-based policy that names the user: nothing implicit limits it.
    (USER, None, [to(USER.arn)], None, None, A, R),
    (USER, None, [to("AIDAALICE")], None, None, A, R),
    (USER, OTHER, [to(USER.arn)], OTHER, None, A, R),
    (USER, NO, [to(USER.arn)], None, None, E, D),
    (USER, None, [to(USER.arn)], NO, None, E, B),
    (USER, None, [to(BOB.arn)], None, None, I, D),
    (USER, YES, [to(BOB.arn)], None, None, A, D),
    (USER, None, [to(BOB.arn, USER.arn)], None, None, A, R),
    (USER, None, [to(USER.arn.lower().replace("alice", "Alice"))], None, None, I, D),
    # ... the account: it delegates, so identity-based policies decide.
    (USER, None, [to(ACCOUNT)], None, None, I, D),
    (USER, None, [to(HERE)], None, None, I, D),
    (USER, YES, [to(ACCOUNT)], None, None, A, D),
    (ROOT, None, [to(ACCOUNT)], None, None, A, R),
    # ... everyone: no other permissions are required, and nothing implicit limits.
    (USER, None, [EVERYONE], None, None, A, R),
    (USER, None, [to("*")], None, None, A, R),
    (USER, OTHER, [EVERYONE], OTHER, None, A, R),
    (ROLE, None, [EVERYONE], OTHER, OTHER, A, R),
    (ROLE, NO, [EVERYONE], None, None, E, D),
    # ... the role: boundary and session policies limit, identity-based policies need not allow.
    (ROLE, None, [to(ROLE_ARN)], None, None, A, R),
    (ROLE, None, [to("AROAREADER")], None, None, A, R),
    (ROLE, None, [to(ROLE_ARN)], YES, YES, A, R),
    (ROLE, None, [to(ROLE_ARN)], OTHER, None, I, B),
    (ROLE, None, [to(ROLE_ARN)], None, OTHER, I, S),
    (ROLE, NO, [to(ROLE_ARN)], None, None, E, D),
    # ... the session: neither boundary nor session policies limit.
    (ROLE, None, [to(SESSION)], OTHER, OTHER, A, R),
    (ROLE, None, [to(SESSION)], None, NO, E, S),
    (ROLE, None, [to(SESSION.replace("night", "day"))], None, None, I, D),
    (ROLE, None, [to(ROLE_ARN), to(SESSION)], OTHER, OTHER, A, R),
    # ... the federated user, or the user who federated.
    (FEDERATED, None, [to(FEDERATED.arn)], OTHER, OTHER, A, R),
    (FEDERATED, None, [to(FEDERATED.arn)], None, None, A, R),
    (FEDERATED, None, [to(USER.arn)], None, YES, A, R),
    (FEDERATED, None, [to(USER.arn)], None, OTHER, I, S),
    (FEDERATED, None, [to(USER.arn)], None, None, I, S),
    (FEDERATED, None, [to(USER.arn)], OTHER, YES, I, B),
    # Explicit denies of resource-based policies, by any of the caller's names.
    (USER, YES, [against(USER.arn)], None, None, E, R),
    (USER, YES, [against(ACCOUNT)], None, None, E, R),
    (USER, YES, [against("*")], None, None, E, R),
    (USER, YES, [against(BOB.arn)], None, None, A, D),
    (ROLE, YES, [against(ROLE_ARN)], None, None, E, R),
    (ROLE, YES, [against(SESSION)], None, None, E, R),
    (ROOT, None, [against(ACCOUNT)], None, None, E, R),
    (ROOT, None, [against(USER.arn)], None, None, A, None),
    (FEDERATED, YES, [against(USER.arn)], None, YES, E, R),
    # NotPrincipal with Deny spares who is listed with all names.
    (USER, YES, [but(USER.arn, ACCOUNT)], None, None, A, D),
    (USER, YES, [but(USER.arn)], None, None, E, R),
    (USER, YES, [but(ACCOUNT)], None, None, E, R),
    (USER, YES, [but(BOB.arn, ACCOUNT)], None, None, E, R),
    (ROLE, YES, [but(SESSION, ROLE_ARN, HERE)], None, None, A, D),
    (ROLE, YES, [but(ROLE_ARN, HERE)], None, None, E, R),
    (ROLE, YES, [but(SESSION, HERE)], None, None, E, R),
    (ROOT, None, [but(HERE)], None, None, A, None),
    (USER, YES, [but("*")], None, None, A, D),
    # NotPrincipal with Allow allows everyone of whom no name is listed.
    (USER, None, [allow(Resource=None, NotPrincipal={"AWS": BOB.arn})], None, None, A, R),
    (USER, None, [allow(Resource=None, NotPrincipal={"AWS": USER.arn})], None, None, I, D),
    (USER, None, [allow(Resource=None, NotPrincipal={"AWS": HERE})], None, None, I, D),
    # Services and the anonymous have resource-based policies alone.
    (SERVICE, None, [to("lambda.amazonaws.com", kind="Service")], None, None, A, R),
    (SERVICE, None, [to("s3.amazonaws.com", kind="Service")], None, None, I, R),
    (SERVICE, None, [to("lambda.amazonaws.com")], None, None, I, R),
    (SERVICE, None, [EVERYONE], None, None, A, R),
    (SERVICE, None, [EVERYONE, against("lambda.amazonaws.com", kind="Service")], None, None, E, R),
    (SERVICE, None, None, None, None, I, R),
    (ANYONE, None, [EVERYONE], None, None, A, R),
    (ANYONE, None, [to("*")], None, None, A, R),
    (ANYONE, None, [to(ACCOUNT)], None, None, I, R),
    (ANYONE, None, None, None, None, I, R),
    (ANYONE, None, [EVERYONE, but(ACCOUNT)], None, None, E, R),
]

ACROSS: list[Case] = [
    # Both accounts have to allow.
    (STRANGER, YES, [to(STRANGER.arn)], None, None, A, D),
    (STRANGER, YES, [to(THEIR_ACCOUNT)], None, None, A, D),
    (STRANGER, YES, [to(THERE)], None, None, A, D),
    (STRANGER, YES, [EVERYONE], None, None, A, D),
    (STRANGER, None, [to(STRANGER.arn)], None, None, I, D),
    (STRANGER, None, [EVERYONE], None, None, I, D),
    (STRANGER, YES, None, None, None, I, R),
    (STRANGER, YES, [to(ACCOUNT)], None, None, I, R),
    (STRANGER, YES, [to(STRANGER.arn)], OTHER, None, I, B),
    (STRANGER, YES, [to(STRANGER.arn), against(THERE)], None, None, E, R),
    (STRANGER, BOTH, [to(STRANGER.arn)], None, None, E, D),
    (STRANGE_ROOT, None, [to(THERE)], None, None, A, None),
    (STRANGE_ROOT, None, None, None, None, I, R),
    (STRANGE_ROOT, None, [EVERYONE], None, None, A, None),
]

# Keys and roles, whose own policy has to allow: KMS Developer Guide, "Key policies in AWS KMS".
WITH_LEAVE: list[Case] = [
    (USER, YES, None, None, None, I, R),
    (USER, YES, [to(BOB.arn)], None, None, I, R),
    (USER, YES, [to(ACCOUNT)], None, None, A, D),
    (USER, None, [to(ACCOUNT)], None, None, I, D),
    (USER, YES, [to(ACCOUNT)], OTHER, None, I, B),
    (USER, None, [to(USER.arn)], None, None, A, R),
    (ROLE, None, [to(ROLE_ARN)], None, None, A, R),
    (ROLE, None, [to(ROLE_ARN)], OTHER, None, I, B),
    (ROOT, None, None, None, None, I, R),
    (ROOT, None, [to(ACCOUNT)], None, None, A, R),
    (ROOT, None, [to(USER.arn)], None, None, I, R),
    (SERVICE, None, [to("lambda.amazonaws.com", kind="Service")], None, None, A, R),
    (SERVICE, None, [to(ACCOUNT)], None, None, I, R),
]

CASES = [
    *((case, {}) for case in ONE_ACCOUNT),
    *((case, {"resource_account": HERE}) for case in ACROSS),
    *((case, {"resource_policy_required": True, "resource_account": HERE}) for case in WITH_LEAVE),
]


@pytest.mark.parametrize(("case", "asked"), CASES)
def test_which_policy_decides(case: Case, asked: dict[str, Any]) -> None:
    who, own, attached, boundary, session, decision, by = case
    wanted = request(who, federated_by=USER.arn if who is FEDERATED else None, **asked)
    verdict = evaluate(
        wanted,
        Policies(
            identity=(identity(*own),) if own is not None else (),
            resource=resource(*attached) if attached is not None else None,
            boundary=identity(*boundary) if boundary is not None else None,
            session=(identity(*session),) if session is not None else None,
        ),
    )
    told = (verdict.decision.value, verdict.policy_type.value if verdict.policy_type else None)
    assert told == (decision, by)
    literally = decide_literally(
        wanted,
        identity=[document(*own)] if own is not None else [],
        resource=document(*attached) if attached is not None else None,
        boundary=document(*boundary) if boundary is not None else None,
        session=[document(*session)] if session is not None else None,
    )
    assert literally == (decision, by)


def test_any_of_several_policies_may_allow_and_any_may_deny() -> None:
    first, second = identity(allow(Action="s3:Get*")), identity(allow(Action="s3:Put*"))
    assert decide(request(action="s3:PutObject"), identity=(first, second)).allowed
    assert decide(request(action="s3:PutObject"), identity=(first, second), session=(first, second)).allowed
    last = identity(deny(Action="s3:PutObject"))
    assert decide(request(action="s3:PutObject"), identity=(first, second, last)).decision is (
        Decision.EXPLICIT_DENY
    )


def test_principal_arn_is_the_roles_and_not_the_sessions() -> None:
    named = {"ArnEquals": {"aws:PrincipalArn": ROLE_ARN}}
    attached = resource(allow(Resource=None, Principal="*", Condition=named))
    assert decide(request(ROLE), resource=attached).allowed
    assert not decide(request(USER), resource=attached).allowed


@pytest.mark.parametrize(
    ("who", "keys"),
    [
        (ROOT, {"aws:PrincipalType": "Account", "aws:userid": HERE, "aws:PrincipalArn": ROOT.arn}),
        (USER, {"aws:PrincipalType": "User", "aws:username": "alice", "aws:userid": "AIDAALICE"}),
        (ROLE, {"aws:PrincipalType": "AssumedRole", "aws:userid": "AROAREADER:night"}),
        (FEDERATED, {"aws:PrincipalType": "FederatedUser", "aws:userid": f"{HERE}:carol"}),
        (ANYONE, {"aws:PrincipalType": "Anonymous", "aws:userid": "anonymous"}),
        (SERVICE, {"aws:PrincipalIsAWSService": "true", "aws:PrincipalServiceName": "lambda.amazonaws.com"}),
        (USER, {"aws:PrincipalAccount": HERE, "aws:PrincipalIsAWSService": "false"}),
    ],
)
def test_what_a_principal_says_of_itself(who: Principal, keys: dict[str, str]) -> None:
    attached = resource(allow(Resource=None, Principal="*", Condition={"StringEquals": keys}))
    assert decide(request(who), resource=attached).allowed


REFUSED = f"User: {USER.arn} is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::bucket/key"
SAID = "because no {} allows the s3:GetObject action"


@pytest.mark.parametrize(
    ("policies", "ending"),
    [
        ({}, SAID.format("identity-based policy")),
        ({"boundary": identity(*OTHER), "identity": (identity(*YES),)}, SAID.format("permissions boundary")),
        ({"session": (identity(*OTHER),), "identity": (identity(*YES),)}, SAID.format("session policy")),
        ({"identity": (identity(*NO),)}, "with an explicit deny in an identity-based policy"),
        ({"resource": resource(against("*"))}, "with an explicit deny in a resource-based policy"),
        ({"boundary": identity(*NO)}, "with an explicit deny in a permissions boundary"),
        ({"session": (identity(*NO),)}, "with an explicit deny in a session policy"),
    ],
)
def test_the_sentence_of_a_refusal(policies: dict[str, Any], ending: str) -> None:
    assert decide(request(), **policies).sentence == f"{REFUSED} {ending}"


def test_the_sentence_names_the_resources_policy_where_that_is_missing() -> None:
    verdict = decide(request(STRANGER, resource_account=HERE), identity=(identity(*YES),))
    assert verdict.sentence.endswith(SAID.format("resource-based policy"))


def test_the_sentences_of_trust_policies() -> None:
    def assume(*statements: dict[str, Any]) -> str:
        asked = Request(
            USER,
            "sts:AssumeRole",
            (ROLE_ARN,),
            resource_account=HERE,
            resource_policy_required=True,
            resource_policy_type=PolicyType.TRUST,
        )
        return evaluate(asked, Policies((identity(*YES),), resource(*statements))).sentence

    assert assume(to(BOB.arn)).endswith("because no role trust policy allows the sts:AssumeRole action")
    assert assume(to(USER.arn), against(USER.arn)).endswith("with an explicit deny in the role trust policy")
    assert "is authorized" in assume(to(USER.arn))


def test_a_verdict_knows_what_decided() -> None:
    second = Policy.parse(
        document(allow(Action="ec2:*"), allow(Sid="Reads", Action="s3:Get*")),
        name="arn:aws:iam::111122223333:policy/reader",
    )
    verdict = decide(request(), identity=(identity(*OTHER), second))
    assert verdict.policy is second
    assert verdict.statement is second.statements[1]
    assert (
        verdict.decided_by
        == "statement 'Reads' of identity-based policy arn:aws:iam::111122223333:policy/reader"
    )
    denied = decide(request(), identity=(identity(*BOTH, name="mine"),))
    assert denied.decided_by == "statement 2 of identity-based policy mine"
    assert decide(request()).decided_by == ""
    assert decide(request(ROOT)).sentence.endswith("as the account's root user")
