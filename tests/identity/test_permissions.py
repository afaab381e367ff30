"""Which policies a principal holds, and what comes of them when they are enforced."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from lambay.aws import AWSError, Call, Principal
from lambay.identity import Identity, SecurityTokens

from .conftest import ACCOUNT, Attached
from .signing import signed

ROOT = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, "test")
ANN = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN", "AKIAANN")
THING = "arn:aws:s3:::bucket/key"


@pytest.fixture
def enforcing(store, records, settings, clock) -> Identity:
    return Identity(store, records, dataclasses.replace(settings, iam="enforce"), clock)


@pytest.fixture
def tokens(enforcing, records, settings, clock) -> SecurityTokens:
    return SecurityTokens(enforcing, records, settings, clock)


def policy(action: str = "*", effect: str = "Allow", **elements: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": "*", **elements}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def call(principal: Principal, service: str = "s3", **headers: str) -> Call:
    return Call("r", principal.account, "us-east-1", principal, service, "X", "10.1.2.3", headers)


async def allowed(
    identity: Identity, principal: Principal, action: str = "s3:GetObject", **given: Any
) -> bool:
    try:
        await identity.authorize(call(principal), action, (THING,), given)
    except AWSError:
        return False
    return True


async def signed_in(identity: Identity, output: Any) -> Principal:
    given = output["Credentials"]
    request = signed(
        service="sts", key=given["AccessKeyId"], secret=given["SecretAccessKey"], token=given["SessionToken"]
    )
    return await identity.authenticate(request, "sts")


async def test_off_everybody_may_everything(store, records, settings, clock):
    off = Identity(store, records, dataclasses.replace(settings, iam="off"), clock)
    assert await allowed(off, ANN)


async def test_a_user_has_what_is_attached_at_that_moment(enforcing, records):
    assert not await allowed(enforcing, ANN)
    records.attached[ANN.arn] = Attached((("own", policy("s3:Get*")),))
    assert await allowed(enforcing, ANN)
    assert not await allowed(enforcing, ANN, "s3:PutObject")
    records.attached[ANN.arn] = Attached((("own", policy("s3:Get*")), ("no", policy("*", "Deny"))))
    assert not await allowed(enforcing, ANN)


async def test_a_boundary_limits(enforcing, records):
    records.attached[ANN.arn] = Attached((("own", policy()),), ("limit", policy("s3:Get*")))
    assert await allowed(enforcing, ANN)
    assert not await allowed(enforcing, ANN, "s3:PutObject")


async def test_root_and_whoever_may_come_unsigned_are_not_asked(enforcing):
    anonymous = Principal("anonymous", "", "", "anonymous")
    assert await allowed(enforcing, ROOT)
    assert await allowed(enforcing, anonymous)


@pytest.mark.parametrize("action", ["sts:GetCallerIdentity", "sts:GetSessionToken", "sts:AssumeRole"])
async def test_what_needs_no_permission(enforcing, records, action):
    records.attached[ANN.arn] = Attached((("no", policy("*", "Deny")),))
    assert await allowed(enforcing, ANN, action)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ({"StringEquals": {"aws:username": "ann"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/Team": "x"}}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01"}}, True),
        ({"NumericGreaterThan": {"aws:EpochTime": 1_500_000_000}}, True),
        ({"Null": {"aws:MultiFactorAuthPresent": "true"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01"}}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, False),
    ],
)
async def test_the_keys_of_every_call(enforcing, records, condition, met):
    records.attached[ANN.arn] = Attached((("own", policy(Condition=condition)),), tags={"Team": "x"})
    assert await allowed(enforcing, ANN, **{"aws:SecureTransport": False}) is met


async def test_a_policy_that_cannot_be_read_denies_everything(enforcing, records):
    records.attached[ANN.arn] = Attached((("own", policy()), ("broken", '{"Statement": 7}')))
    with pytest.raises(AWSError) as refused:
        await enforcing.authorize(call(ANN), "s3:GetObject")
    assert "explicit deny in an identity-based policy" in refused.value.message


@pytest.mark.parametrize(
    ("service", "headers", "code", "status"),
    [
        ("s3", {}, "AccessDenied", 403),
        ("efs", {}, "AccessDeniedException", 403),
        ("logs", {"x-amz-target": "Logs_20140328.X"}, "AccessDeniedException", 400),
        ("iam", {"content-type": "application/x-www-form-urlencoded"}, "AccessDenied", 403),
        ("sts", {"content-type": "application/x-www-form-urlencoded"}, "AccessDenied", 403),
        ("sns", {"content-type": "application/x-www-form-urlencoded"}, "AuthorizationError", 403),
        ("ec2", {"content-type": "application/x-www-form-urlencoded"}, "UnauthorizedOperation", 403),
    ],
)
async def test_a_refusal_has_the_services_own_code(enforcing, service, headers, code, status):
    with pytest.raises(AWSError) as refused:
        await enforcing.authorize(call(ANN, service, **headers), f"{service}:Do", (THING,))
    assert (refused.value.code, refused.value.status) == (code, status)
    assert (
        f"User: {ANN.arn} is not authorized to perform: {service}:Do on resource: {THING} "
        f"because no identity-based policy allows the {service}:Do action"
    ) in refused.value.message


async def test_ec2s_message_can_be_decoded(enforcing, tokens, records):
    records.attached[ANN.arn] = Attached((("mine", policy("ec2:*", "Deny")),))
    with pytest.raises(AWSError) as refused:
        await enforcing.authorize(call(ANN, "ec2"), "ec2:RunInstances", ("*",))
    encoded = refused.value.message.rpartition(" ")[2]
    output = await tokens.decode_authorization_message(call(ROOT, "sts"), {"EncodedMessage": encoded})
    told = json.loads(output["DecodedMessage"])
    assert told["explicitDeny"] is True
    assert told["decidedBy"] == "statement 1 of identity-based policy mine"
    assert told["context"]["action"] == "ec2:RunInstances"


async def test_a_role_and_the_policies_passed_to_its_session(enforcing, tokens, records):
    role = records.add_role("r", {"AWS": ANN.arn})
    records.attached[role.arn] = Attached((("own", policy("s3:*")),), tags={"Team": "role"})
    records.managed["arn:aws:iam::aws:policy/Reads"] = policy("s3:Get*")

    async def session(**passed: Any) -> Principal:
        asked = {"RoleArn": role.arn, "RoleSessionName": "me", **passed}
        return await signed_in(enforcing, await tokens.assume_role(call(ANN, "sts"), asked))

    whole = await session()
    assert await allowed(enforcing, whole, "s3:PutObject")
    assert not await allowed(enforcing, whole, "ec2:RunInstances")
    inline = await session(Policy=policy("s3:Get*"))
    assert await allowed(enforcing, inline)
    assert not await allowed(enforcing, inline, "s3:PutObject")
    managed = await session(PolicyArns=[{"arn": "arn:aws:iam::aws:policy/Reads"}])
    assert await allowed(enforcing, managed)
    assert not await allowed(enforcing, managed, "s3:PutObject")
    unknown = await session(PolicyArns=[{"arn": "arn:aws:iam::aws:policy/Gone"}])
    assert not await allowed(enforcing, unknown)
    records.attached[role.arn] = Attached(
        (("own", policy(Condition={"StringEquals": {"aws:PrincipalTag/Team": "session"}})),),
        tags={"Team": "role"},
    )
    assert not await allowed(enforcing, whole)
    assert await allowed(enforcing, await session(Tags=[{"Key": "Team", "Value": "session"}]))


async def test_a_session_that_is_not_known_any_more_has_nothing(enforcing, records):
    role = records.add_role("r")
    records.attached[role.arn] = Attached((("own", policy()),))
    forgotten = Principal(
        "assumed-role", ACCOUNT, "arn:aws:sts::1:assumed-role/r/s", "A:s", "ASIAGONE", role.arn, "s"
    )
    assert not await allowed(enforcing, forgotten)


async def test_a_users_session_has_the_users_permissions(enforcing, tokens, records):
    records.attached[ANN.arn] = Attached((("own", policy("s3:Get*")),))
    session = await signed_in(enforcing, await tokens.get_session_token(call(ANN, "sts"), {}))
    assert await allowed(enforcing, session)
    assert not await allowed(enforcing, session, "s3:PutObject")


async def test_a_federated_user_has_what_both_its_user_and_its_policies_allow(enforcing, tokens, records):
    records.attached[ANN.arn] = Attached((("own", policy("s3:*")),))

    async def federated(by: Principal, **passed: Any) -> Principal:
        asked = {"Name": "carol", **passed}
        return await signed_in(enforcing, await tokens.get_federation_token(call(by, "sts"), asked))

    assert not await allowed(enforcing, await federated(ANN))
    reader = await federated(ANN, Policy=policy("*:Get*"))
    assert await allowed(enforcing, reader)
    assert not await allowed(enforcing, reader, "s3:PutObject")
    assert not await allowed(enforcing, reader, "ec2:GetConsole")
    assert await allowed(enforcing, await federated(ROOT, Policy=policy("*:Get*")), "ec2:GetConsole")


async def test_a_trusted_account_still_has_to_allow_it_itself(enforcing, tokens, records):
    role = records.add_role("r", {"AWS": ACCOUNT})
    asked = {"RoleArn": role.arn, "RoleSessionName": "me"}
    with pytest.raises(AWSError, match="not authorized to perform: sts:AssumeRole"):
        await tokens.assume_role(call(ANN, "sts"), asked)
    records.attached[ANN.arn] = Attached((("own", policy("sts:AssumeRole", Resource=role.arn)),))
    assert await tokens.assume_role(call(ANN, "sts"), asked)


async def test_a_role_of_another_account_needs_both_accounts(enforcing, tokens, records):
    role = records.add_role("r", {"AWS": ANN.arn}, account="210987654321")
    asked = {"RoleArn": role.arn, "RoleSessionName": "me"}
    with pytest.raises(AWSError, match="not authorized to perform: sts:AssumeRole"):
        await tokens.assume_role(call(ANN, "sts"), asked)
    records.attached[ANN.arn] = Attached((("own", policy("sts:AssumeRole")),))
    assert await tokens.assume_role(call(ANN, "sts"), asked)


FILE_SYSTEM = f"arn:aws:elasticfilesystem:us-east-1:{ACCOUNT}:file-system/fs-1"
CLIENT = "elasticfilesystem:Client"


async def rights(identity: Identity, role: Any, file_system_policy: str | None = None, **given: Any) -> str:
    principal = await identity.role_principal(role.arn, "function")
    decision = await identity.permissions.may_mount(
        principal, FILE_SYSTEM, file_system_policy, **{"secure_transport": True, **given}
    )
    may = (decision.client_mount, decision.client_write, decision.client_root_access)
    return "".join(letter for letter, has in zip("mwr", may, strict=True) if has)


def on_file_system(principal: Any, action: str, effect: str = "Allow", **elements: Any) -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": action, **elements}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


async def test_the_resources_account_is_a_condition_key(enforcing, records):
    """A bucket's ARN has no account; a queue's has."""
    own = {"Condition": {"StringEquals": {"aws:ResourceAccount": ACCOUNT}}}
    records.attached[ANN.arn] = Attached((("own", policy(**own)),))

    async def may(resource: str) -> bool:
        try:
            await enforcing.authorize(call(ANN), "sqs:SendMessage", (resource,))
        except AWSError:
            return False
        return True

    assert await may(f"arn:aws:sqs:us-east-1:{ACCOUNT}:q")
    assert not await may("arn:aws:sqs:us-east-1:210987654321:q")


async def test_what_a_functions_role_may_do_with_a_mount(enforcing, records):
    role = records.add_role("r")
    others = on_file_system({"AWS": ANN.arn}, CLIENT + "*")
    assert await rights(enforcing, role) == "mwr"
    assert await rights(enforcing, role, others) == ""
    assert await rights(enforcing, role, on_file_system({"AWS": role.arn}, CLIENT + "Mount")) == "m"
    records.attached[role.arn] = Attached((("own", policy(CLIENT + "*")),), ("limit", policy(CLIENT + "?o*")))
    assert await rights(enforcing, role, others) == "mr"
    secure = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    only_secure = on_file_system("*", "*", "Deny", **secure)
    assert await rights(enforcing, role, only_secure) == "mr"
    assert await rights(enforcing, role, only_secure, secure_transport=False) == ""
    here = {"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}}
    from_here = on_file_system({"AWS": role.arn}, CLIENT + "Mount", **here)
    assert await rights(enforcing, role, from_here, keys={"aws:SourceVpc": "vpc-1"}) == "mr"


async def test_mounts_are_decided_also_where_api_calls_are_not(identity, records):
    role = records.add_role("r")
    assert await rights(identity, role, None) == "mwr"
    assert await rights(identity, role, on_file_system({"AWS": ANN.arn}, CLIENT + "*")) == ""
    records.attached[role.arn] = Attached((("own", policy(CLIENT + "Mount")),))
    assert await rights(identity, role, on_file_system({"AWS": ANN.arn}, CLIENT + "*")) == "m"


async def test_a_file_system_policy_that_cannot_be_read_lets_nobody_in(enforcing, records):
    role = records.add_role("r")
    records.attached[role.arn] = Attached((("own", policy()),))
    assert await rights(enforcing, role, "{") == ""


async def test_a_role_that_is_not_there_has_no_principal(enforcing):
    with pytest.raises(AWSError) as refused:
        await enforcing.role_principal(f"arn:aws:iam::{ACCOUNT}:role/gone", "f")
    assert refused.value.code == "NoSuchEntity"
