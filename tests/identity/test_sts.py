"""The Security Token Service, called as the gateway calls it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from lambay.aws import AWSError, Call, Principal

from .conftest import ACCOUNT
from .signing import signed

ROOT = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, "test")
ANN = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN", "AKIAANN")
STRANGER = Principal("user", "210987654321", "arn:aws:iam::210987654321:user/eve", "AIDAEVE", "AKIAEVE")


def call(principal: Principal = ROOT) -> Call:
    return Call("request-1", principal.account, "us-east-1", principal, service="sts", source_ip="10.1.2.3")


async def assume(sts, role, principal=ROOT, **given):
    return await sts.assume_role(call(principal), {"RoleArn": role.arn, "RoleSessionName": "me", **given})


async def principal_of(identity, output) -> Principal:
    given = output["Credentials"]
    request = signed(
        service="sts",
        key=given["AccessKeyId"],
        secret=given["SecretAccessKey"],
        token=given["SessionToken"],
    )
    return await identity.authenticate(request, "sts")


async def refused(awaitable) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await awaitable
    return caught.value


async def test_the_caller_is_told_who_it_is(sts):
    assert await sts.get_caller_identity(call(ANN), {}) == {
        "UserId": "AIDAANN",
        "Account": ACCOUNT,
        "Arn": f"arn:aws:iam::{ACCOUNT}:user/ann",
    }


async def test_an_assumed_role_lasts_an_hour_unless_told(sts, records, clock):
    role = records.add_role("r", max_session_duration=7200)
    output = await assume(sts, role)
    left = output["Credentials"]["Expiration"] - clock.now()
    assert timedelta(seconds=3598) < left <= timedelta(seconds=3600)
    output = await assume(sts, role, DurationSeconds=7200)
    assert output["Credentials"]["Expiration"] - clock.now() > timedelta(seconds=7198)


async def test_a_session_cannot_outlast_what_the_role_allows(sts, records):
    error = await refused(assume(sts, records.add_role("r"), DurationSeconds=3601))
    assert (error.code, error.message) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )


async def test_a_chained_session_lasts_an_hour_at_most(sts, records, identity):
    role = records.add_role("r", max_session_duration=43_200)
    first = await principal_of(identity, await assume(sts, role))
    await assume(sts, role, first, DurationSeconds=3600)
    error = await refused(assume(sts, role, first, DurationSeconds=3601))
    assert "1 hour session limit for roles assumed by role chaining" in error.message


async def test_access_keys_carry_their_account(sts, records):
    output = await assume(sts, records.add_role("r"))
    key_id = output["Credentials"]["AccessKeyId"]
    assert key_id.startswith("ASIA")
    assert len(key_id) == 20
    assert await sts.get_access_key_info(call(), {"AccessKeyId": key_id}) == {"Account": ACCOUNT}
    # A real identifier whose account is public knowledge.
    assert await sts.get_access_key_info(call(), {"AccessKeyId": "ASIAQNZGKIQY56JQ7WML"}) == {
        "Account": "029608264753"
    }
    assert await sts.get_access_key_info(call(), {"AccessKeyId": "test"}) == {"Account": ACCOUNT}
    assert (
        await refused(sts.get_access_key_info(call(), {"AccessKeyId": "no" * 10}))
    ).code == "ValidationError"


@pytest.mark.parametrize(
    ("trusted", "caller", "allowed"),
    [
        ("*", STRANGER, True),
        ({"AWS": "*"}, STRANGER, True),
        ({"AWS": ACCOUNT}, ANN, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, ANN, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, STRANGER, False),
        ({"AWS": [f"arn:aws:iam::{ACCOUNT}:user/bob", ANN.arn]}, ANN, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"}, ANN, False),
        ({"Service": "lambda.amazonaws.com"}, ROOT, False),
        ({"Federated": "*"}, ROOT, False),
    ],
)
async def test_the_trust_policy_names_who_may(sts, records, trusted, caller, allowed):
    role = records.add_role("r", trusted)
    if allowed:
        assert (await assume(sts, role, caller))["AssumedRoleUser"]["AssumedRoleId"] == "AROAEXAMPLEID:me"
    else:
        error = await refused(assume(sts, role, caller))
        assert (error.code, error.status) == ("AccessDenied", 403)
        assert error.message == (
            f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {role.arn}"
        )


@pytest.mark.parametrize(
    ("condition", "given", "allowed"),
    [
        ({"StringEquals": {"sts:ExternalId": "x1"}}, {"ExternalId": "x1"}, True),
        ({"StringEquals": {"sts:ExternalId": "x1"}}, {"ExternalId": "x2"}, False),
        ({"StringEquals": {"sts:ExternalId": ["x1", "x2"]}}, {"ExternalId": "x2"}, True),
        ({"StringEquals": {"sts:ExternalId": "x1"}}, {}, False),
        ({"StringEqualsIfExists": {"sts:ExternalId": "x1"}}, {}, True),
        ({"StringNotEquals": {"sts:ExternalId": ["x1", "x2"]}}, {"ExternalId": "x2"}, False),
        ({"StringNotEquals": {"sts:ExternalId": "x1"}}, {}, True),
        ({"StringLike": {"sts:RoleSessionName": "m?"}}, {}, True),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/*"}}, {}, True),
        ({"ArnNotLike": {"AWS:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/*"}}, {}, False),
        ({"Null": {"sts:ExternalId": "true"}}, {}, True),
        ({"Null": {"sts:ExternalId": True}}, {"ExternalId": "x1"}, False),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, {}, False),
        ({"DateLessThan": {"aws:CurrentTime": "2999-01-01"}}, {}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2999-01-01"}}, {}, False),
        ({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}, {}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.1.0.0/16"}}, {}, False),
        ({"StringEquals": {"aws:RequestTag/team": "x"}}, {"Tags": [{"Key": "team", "Value": "x"}]}, True),
        ({"StringEquals": {"aws:RequestTag/team": "x"}}, {"Tags": [{"Key": "team", "Value": "y"}]}, False),
    ],
)
async def test_conditions_of_the_trust_policy_hold(sts, records, condition, given, allowed):
    role = records.add_role("r", statement={"Condition": condition})
    if allowed:
        await assume(sts, role, ANN, **given)
    else:
        assert (await refused(assume(sts, role, ANN, **given))).code == "AccessDenied"


async def test_a_deny_wins_and_an_unreadable_policy_trusts_nobody(sts, records):
    allow = {"Effect": "Allow", "Action": "sts:*", "Principal": "*"}
    deny = {"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": {"AWS": ANN.arn}}
    role = records.add_role("r")
    for policy, caller, allowed in (
        (json.dumps({"Statement": [allow, deny]}), ANN, False),
        (json.dumps({"Statement": [deny, allow]}), STRANGER, True),
        (json.dumps({"Statement": allow | {"Action": "sts:TagSession"}}), ANN, False),
        ("{", ANN, False),
        ("[]", ANN, False),
    ):
        records.roles[role.arn] = type(role)(role.name, policy)
        if allowed:
            await assume(sts, role, caller)
        else:
            assert (await refused(assume(sts, role, caller))).code == "AccessDenied"


async def test_a_malformed_role_is_named(sts):
    error = await refused(
        sts.assume_role(call(), {"RoleArn": "arn:aws:s3:::not-a-role-at-all", "RoleSessionName": "me"})
    )
    assert (error.code, error.message) == ("ValidationError", "arn:aws:s3:::not-a-role-at-all is invalid")


async def test_transitive_tags_and_the_source_identity_go_along_the_chain(sts, records, identity):
    role = records.add_role("r")
    tags = [{"Key": "team", "Value": "a"}, {"Key": "local", "Value": "b"}]
    output = await assume(sts, role, Tags=tags, TransitiveTagKeys=["team"], SourceIdentity="ann")
    assert output["SourceIdentity"] == "ann"
    first = await principal_of(identity, output)
    second = await principal_of(identity, await assume(sts, role, first))
    session = identity.sessions.of(second)
    assert session is not None
    assert (session.tags, session.transitive_tags, session.source_identity) == (
        {"team": "a"},
        ("team",),
        "ann",
    )
    conflict = await refused(assume(sts, role, first, Tags=[{"Key": "Team", "Value": "z"}]))
    assert "conflicts with a transitive tag key" in conflict.message
    assert (await refused(assume(sts, role, first, SourceIdentity="eve"))).code == "AccessDenied"


async def test_session_policies_are_checked_and_kept(sts, records, identity):
    role = records.add_role("r")
    policy = json.dumps({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    arns = [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]
    output = await assume(sts, role, Policy=policy, PolicyArns=arns)
    assert 0 < output["PackedPolicySize"] < 100
    session = identity.sessions.of(await principal_of(identity, output))
    assert session is not None
    assert (session.policy, session.policy_arns) == (policy, ("arn:aws:iam::aws:policy/ReadOnlyAccess",))
    assert (await refused(assume(sts, role, Policy="{"))).code == "MalformedPolicyDocument"
    long = json.dumps({"Statement": [], "Id": "x" * 2048})
    assert (await refused(assume(sts, role, Policy=long))).code == "PackedPolicyTooLarge"
    assert (await refused(assume(sts, role, PolicyArns=arns * 11))).code == "ValidationError"


async def test_a_code_of_a_device_that_is_not_there_is_wrong(sts, records):
    error = await refused(assume(sts, records.add_role("r"), SerialNumber="GAHT12345678", TokenCode="123456"))
    assert error.code == "AccessDenied"


async def test_a_session_token_is_the_caller_for_a_while(sts, identity, clock):
    output = await sts.get_session_token(call(ANN), {"DurationSeconds": 129_600})
    assert output["Credentials"]["Expiration"] - clock.now() > timedelta(hours=35)
    principal = await principal_of(identity, output)
    assert (principal.kind, principal.arn, principal.user_id) == ("user", ANN.arn, "AIDAANN")
    error = await refused(sts.get_session_token(call(principal), {}))
    assert error.message == "Cannot call GetSessionToken with session credentials"
    error = await refused(sts.get_federation_token(call(principal), {"Name": "bob"}))
    assert error.message == "Cannot call GetFederationToken with session credentials"


async def test_the_roots_session_lasts_an_hour_at_most(sts, clock):
    output = await sts.get_session_token(call(ROOT), {"DurationSeconds": 129_600})
    assert output["Credentials"]["Expiration"] - clock.now() <= timedelta(hours=1)


async def test_a_federated_user_has_a_name(sts, identity):
    output = await sts.get_federation_token(call(ANN), {"Name": "bob"})
    arn = f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
    assert output["FederatedUser"] == {"FederatedUserId": f"{ACCOUNT}:bob", "Arn": arn}
    principal = await principal_of(identity, output)
    assert (principal.kind, principal.arn) == ("federated-user", arn)


async def test_authorization_messages_are_decoded_and_foreign_ones_refused(sts, identity):
    message = await identity.sealer.seal("authorization", b'{"allowed":false}')
    decoded = await sts.decode_authorization_message(call(), {"EncodedMessage": message})
    assert decoded == {"DecodedMessage": '{"allowed":false}'}
    token = (await sts.get_session_token(call(ANN), {}))["Credentials"]["SessionToken"]
    for foreign in ("abc", token):
        error = await refused(sts.decode_authorization_message(call(), {"EncodedMessage": foreign}))
        assert error.code == "InvalidAuthorizationMessageException"


def web_token(**claims: str) -> str:
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "RS256"}, claims)
    )
    return f"{header}.{body}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("token", "code", "text"),
    [
        ("no token", "InvalidIdentityToken", "not a valid JWT"),
        ("a.b.c", "InvalidIdentityToken", "not a valid JWT"),
        (web_token(sub="ann"), "InvalidIdentityToken", "not a valid JWT"),
        (
            web_token(iss="https://elsewhere.example"),
            "InvalidIdentityToken",
            "No OpenIDConnect provider found",
        ),
        (web_token(iss="https://id.example"), "IDPCommunicationError", "Couldn't retrieve verification key"),
    ],
)
async def test_no_web_identity_is_believed(sts, records, token, code, text):
    records.providers.add("oidc-provider/id.example")
    role = records.add_role("r", {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/id.example"})
    given = {"RoleArn": role.arn, "RoleSessionName": "me", "WebIdentityToken": token}
    error = await refused(sts.assume_role_with_web_identity(call(), given))
    assert (error.code, text in error.message) == (code, True)


@pytest.mark.parametrize(
    ("provider", "text"),
    [
        (f"arn:aws:iam::{ACCOUNT}:saml-provider/here", "Response signature invalid"),
        (f"arn:aws:iam::{ACCOUNT}:saml-provider/gone", "Specified provider doesn't exist"),
        (f"arn:aws:iam::{ACCOUNT}:role/here", "Specified provider doesn't exist"),
    ],
)
async def test_no_saml_assertion_is_believed(sts, records, provider, text):
    records.providers.add("saml-provider/here")
    role = records.add_role("r", {"Federated": provider})
    given = {"RoleArn": role.arn, "PrincipalArn": provider, "SAMLAssertion": "PHNhbWw+"}
    error = await refused(sts.assume_role_with_saml(call(), given))
    assert (error.code, text in error.message) == ("InvalidIdentityToken", True)
