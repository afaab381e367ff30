"""The Security Token Service: who am I, and temporary credentials.

Follows the AWS STS API Reference. Sessions are sealed tokens (see `sessions`), so they outlive restarts.
Tokens of SAML and OpenID Connect providers are refused: there is nobody here to verify them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lambay.aws import Arn, AWSError, Call, Principal, Service, arn
from lambay.clock import Clock
from lambay.identity.authentication import Identity
from lambay.identity.principals import IamRecords
from lambay.identity.sessions import (
    Credentials,
    Session,
    account_of_access_key_id,
    secret_access_key,
    temporary_access_key_id,
)
from lambay.settings import Settings

DEFAULT_ROLE_SESSION_SECONDS = 3600
CHAINED_ROLE_SESSION_SECONDS = 3600
DEFAULT_SESSION_SECONDS = 43_200
ROOT_SESSION_SECONDS = 3600
SESSION_POLICY_CHARACTERS = 2048
SESSION_POLICY_ARNS = 10
SESSION_TOKEN_BYTES = 4096

Input = Mapping[str, Any]
Output = dict[str, Any]


class SecurityTokens(Service):
    """The service `sts`."""

    service_name = "sts"

    def __init__(self, identity: Identity, iam: IamRecords, settings: Settings, clock: Clock) -> None:
        self._identity = identity
        self._iam = iam
        self._settings = settings
        self._clock = clock

    async def get_caller_identity(self, call: Call, input: Input) -> Output:
        principal = call.principal
        return {"UserId": principal.user_id, "Account": principal.account, "Arn": principal.arn}

    async def assume_role(self, call: Call, input: Input) -> Output:
        _refuse_multi_factor(input)
        caller = call.principal
        role = await self._iam.role(_role_arn(input["RoleArn"]))
        name = input["RoleSessionName"]
        passed = _Passed.of(input)
        keys = {
            "sts:ExternalId": input.get("ExternalId"),
            "sts:RoleSessionName": name,
            "sts:SourceIdentity": input.get("SourceIdentity"),
            "sts:TransitiveTagKeys": passed.transitive or None,
            "aws:TagKeys": tuple(passed.tags) or None,
            **{f"aws:RequestTag/{key}": value for key, value in passed.tags.items()},
        }
        if role is None or not (await self._identity.permissions.may_assume(call, role, keys)).allowed:
            # As AWS does, without a reason: it would tell strangers about the role.
            raise AWSError(
                "AccessDenied",
                f"User: {caller.arn} is not authorized to perform: sts:AssumeRole "
                f"on resource: {input['RoleArn']}",
                status=403,
            )
        chained_from = self._identity.sessions.of(caller) if caller.kind == "assumed-role" else None
        duration = _role_duration(input.get("DurationSeconds"), role.max_session_duration, chained_from)
        source_identity = _source_identity(input.get("SourceIdentity"), chained_from)
        tags, transitive = passed.inherited(chained_from)
        credentials = await self._identity.issue_session(
            role.arn,
            name,
            duration,
            source_identity=source_identity,
            tags=tags,
            transitive_tags=transitive,
            policy=passed.policy,
            policy_arns=passed.policy_arns,
        )
        output: Output = {
            **_rendered(credentials),
            "AssumedRoleUser": {
                "AssumedRoleId": f"{role.role_id}:{name}",
                "Arn": arn("sts", "", role.account, f"assumed-role/{role.name}/{name}"),
            },
            **passed.packed_size(),
        }
        if source_identity is not None:
            output["SourceIdentity"] = source_identity
        return output

    async def assume_role_with_web_identity(self, call: Call, input: Input) -> Output:
        """Always refused: Lambay speaks to no identity provider, so it has no key that a token could prove itself by.

        The refusal is AWS's for a token of that kind: unreadable, of a provider that IAM does not have, or of
        one whose keys cannot be had.
        """
        _role_arn(input["RoleArn"])
        issuer = _issuer(input["WebIdentityToken"])
        if issuer is None:
            raise AWSError(
                "InvalidIdentityToken",
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
                status=400,
            )
        account = Arn.parse(input["RoleArn"]).account
        if not await self._iam.identity_provider("oidc-provider", issuer, account):
            raise AWSError(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for https://{issuer}",
                status=400,
            )
        raise AWSError(
            "IDPCommunicationError",
            f"Couldn't retrieve verification key from your identity provider https://{issuer}: Lambay speaks to none",
            status=400,
        )

    async def assume_role_with_saml(self, call: Call, input: Input) -> Output:
        """Always refused: no assertion is ever verified here."""
        _role_arn(input["RoleArn"])
        provider = input["PrincipalArn"]
        try:
            named = Arn.parse(provider)
        except ValueError:
            raise _validation(f"{provider} is invalid") from None
        kind, _, name = named.resource.partition("/")
        if kind != "saml-provider" or not await self._iam.identity_provider(kind, name, named.account):
            raise AWSError(
                "InvalidIdentityToken", f"Specified provider doesn't exist: {provider}", status=400
            )
        raise AWSError(
            "InvalidIdentityToken",
            f"Response signature invalid: Lambay verifies no assertions of {provider}",
            status=400,
        )

    async def get_session_token(self, call: Call, input: Input) -> Output:
        _refuse_multi_factor(input)
        caller = call.principal
        if self._identity.sessions.of(caller) is not None:
            raise _access_denied("Cannot call GetSessionToken with session credentials")
        credentials = await self._issue(caller, _own_duration(input, caller), kind=caller.kind)
        return _rendered(credentials)

    async def get_federation_token(self, call: Call, input: Input) -> Output:
        caller = call.principal
        if self._identity.sessions.of(caller) is not None:
            raise _access_denied("Cannot call GetFederationToken with session credentials")
        passed = _Passed.of(input)
        name = input["Name"]
        credentials = await self._issue(
            caller,
            _own_duration(input, caller),
            kind="federated-user",
            arn=arn("sts", "", caller.account, f"federated-user/{name}"),
            user_id=f"{caller.account}:{name}",
            session_name=name,
            federated_by=caller.arn,
            tags=passed.tags,
            policy=passed.policy,
            policy_arns=passed.policy_arns,
        )
        return {
            **_rendered(credentials),
            "FederatedUser": {
                "FederatedUserId": f"{caller.account}:{name}",
                "Arn": arn("sts", "", caller.account, f"federated-user/{name}"),
            },
            **passed.packed_size(),
        }

    async def get_access_key_info(self, call: Call, input: Input) -> Output:
        access_key_id = input["AccessKeyId"]
        if access_key_id == self._settings.access_key:
            return {"Account": self._settings.account}
        root = self._settings.further_roots().get(access_key_id)
        if root is not None:
            return {"Account": root[0]}
        key = await self._iam.access_key(access_key_id)
        account = key.account if key is not None else account_of_access_key_id(access_key_id)
        if account is None:
            raise AWSError("ValidationError", f"Invalid access key: {access_key_id}", status=400)
        return {"Account": account}

    async def decode_authorization_message(self, call: Call, input: Input) -> Output:
        """The document that a refusal sealed with the purpose "authorization"."""
        content = self._identity.sealer.open("authorization", input["EncodedMessage"])
        if content is None:
            raise AWSError(
                "InvalidAuthorizationMessageException",
                "Message is not valid or cannot be decoded",
                status=400,
            )
        return {"DecodedMessage": content.decode()}

    async def _issue(self, caller: Principal, seconds: int, **given: Any) -> Credentials:
        own = {"account": caller.account, "arn": caller.arn, "user_id": caller.user_id}
        fields: dict[str, Any] = {**own, **given}
        return await self._identity.sessions.issue(
            Session(
                access_key_id=temporary_access_key_id(caller.account),
                secret=secret_access_key(),
                expires=self._clock.time() + seconds,
                **fields,
            )
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Passed:
    """The session policies and tags that a request passes on."""

    policy: str | None
    policy_arns: tuple[str, ...]
    tags: dict[str, str]
    transitive: tuple[str, ...]

    @classmethod
    def of(cls, input: Input) -> _Passed:
        arns = tuple(item["arn"] for item in input.get("PolicyArns", ()))
        if len(arns) > SESSION_POLICY_ARNS:
            raise _validation(
                f"Value '{len(arns)}' at 'policyArns' failed to satisfy constraint: "
                f"Member must have length less than or equal to {SESSION_POLICY_ARNS}"
            )
        policy = input.get("Policy")
        if policy is not None:
            _check_policy(policy)
        tags = {tag["Key"]: tag["Value"] for tag in input.get("Tags", ())}
        if len({key.lower() for key in tags}) != len(input.get("Tags", ())):
            raise AWSError(
                "InvalidParameterValue",
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
                status=400,
            )
        passed = cls(policy, arns, tags, tuple(input.get("TransitiveTagKeys", ())))
        if passed._characters > SESSION_POLICY_CHARACTERS:
            raise AWSError(
                "PackedPolicyTooLarge",
                f"Packed size of session tags and session policies consumes {passed._percent}% "
                "of allotted space.",
                status=400,
            )
        return passed

    @property
    def _characters(self) -> int:
        return len(self.policy or "") + sum(map(len, self.policy_arns))

    @property
    def _percent(self) -> int:
        return math.ceil(100 * self._characters / SESSION_POLICY_CHARACTERS)

    def packed_size(self) -> Output:
        """`PackedPolicySize`, in per cent of the plain text that may be passed; only where something was."""
        return {"PackedPolicySize": self._percent} if self._characters else {}

    def inherited(self, chained_from: Session | None) -> tuple[dict[str, str], Sequence[str]]:
        """The tags of the new session and which of them go on: transitive ones of the caller's come along."""
        if chained_from is None:
            return self.tags, self.transitive
        given = chained_from.tags
        inherited = {key: given[key] for key in chained_from.transitive_tags if key in given}
        taken = {key.lower() for key in inherited}
        if any(key.lower() in taken for key in self.tags):
            raise AWSError(
                "InvalidParameterValue",
                "One of the specified transitive tag keys can't be set because it conflicts with a "
                "transitive tag key from the calling session.",
                status=400,
            )
        return {**self.tags, **inherited}, (*self.transitive, *inherited)


def _check_policy(policy: str) -> None:
    try:
        document = json.loads(policy)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise AWSError("MalformedPolicyDocument", "The policy is not in the valid JSON format.", status=400)


def _role_arn(text: str) -> str:
    try:
        parsed = Arn.parse(text)
    except ValueError:
        raise _validation(f"{text} is invalid") from None
    if parsed.service != "iam" or not parsed.resource.startswith("role/"):
        raise _validation(f"{text} is invalid")
    return text


def _issuer(token: str) -> str | None:
    """The issuer that a JSON Web Token claims, without its scheme; None where it is no such token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return str(claims["iss"]).removeprefix("https://").rstrip("/")
    except (ValueError, KeyError, TypeError):
        return None


def _role_duration(given: int | None, longest: int, chained_from: Session | None) -> int:
    if chained_from is not None and given is not None and given > CHAINED_ROLE_SESSION_SECONDS:
        raise _validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining"
        )
    if given is not None and given > longest:
        raise _validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return given or DEFAULT_ROLE_SESSION_SECONDS


def _own_duration(input: Input, caller: Principal) -> int:
    given = int(input.get("DurationSeconds", DEFAULT_SESSION_SECONDS))
    return min(given, ROOT_SESSION_SECONDS) if caller.kind == "root" else given


def _source_identity(given: str | None, chained_from: Session | None) -> str | None:
    set_before = chained_from.source_identity if chained_from else None
    if set_before is not None and given not in (None, set_before):
        raise _access_denied("The source identity of a session can't be changed once it is set")
    return given or set_before


def _refuse_multi_factor(input: Input) -> None:
    """There are no MFA devices here, so no code is ever right."""
    if "SerialNumber" in input or "TokenCode" in input:
        raise _access_denied("MultiFactorAuthentication failed, unable to validate MFA code.")


def _rendered(credentials: Credentials) -> Output:
    size = len(credentials.session_token)
    return {
        "Credentials": {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "SessionToken": credentials.session_token,
            "Expiration": credentials.expiration,
        },
        "SessionTokenSize": size,
        "SessionTokenUtilization": math.ceil(100 * size / SESSION_TOKEN_BYTES),
    }


def _access_denied(message: str) -> AWSError:
    return AWSError("AccessDenied", message, status=403)


def _validation(message: str) -> AWSError:
    return AWSError("ValidationError", message, status=400)
