"""Who signed a request, and the sessions that Lambay issues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

import msgspec

from lambay.aws import AWSError, Call, Principal, arn
from lambay.clock import Clock
from lambay.http import Request
from lambay.identity import connections, refusals, sigv2, sigv4
from lambay.identity.anonymous import ANONYMOUS_OPERATIONS
from lambay.identity.chunks import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_AND_TRAILER,
    BrokenChunks,
    are_signed,
)
from lambay.identity.permissions import Permissions, account_of
from lambay.identity.policy import Decision, Verdict
from lambay.identity.policy.context import Value
from lambay.identity.principals import IamRecords, ResourcePolicies, Role
from lambay.identity.refusals import Dialect
from lambay.identity.sessions import (
    Credentials,
    Sealer,
    Session,
    Sessions,
    secret_access_key,
    temporary_access_key_id,
)
from lambay.settings import Settings
from lambay.store import Store

R = TypeVar("R")

SKEW_SECONDS = 300
S3_SKEW_SECONDS = 900
PRESIGNED_MAX_SECONDS = 604_800

# Whoever he is may ask that; a role's own trust policy decides on AssumeRole, with the caller's policies.
ALWAYS_ALLOWED = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken", "sts:AssumeRole"})

ANONYMOUS = Principal(kind="anonymous", account="", arn="", user_id="anonymous")

_HASH_ON_THREAD_BYTES = 1 << 20


class _Key(NamedTuple):
    """The secret to check with, whose it is, and when it ends (seconds since the epoch, None for never)."""

    secret: str
    principal: Principal
    expires: float | None = None


class Identity:
    """Authenticates requests, authorizes calls, and issues sessions of roles."""

    def __init__(
        self,
        store: Store,
        iam: IamRecords,
        settings: Settings,
        clock: Clock,
        resources: ResourcePolicies | None = None,
    ) -> None:
        """`resources` knows the policies of resources; without it none has one."""
        self._iam = iam
        self._settings = settings
        self._clock = clock
        self._verifier = sigv4.Verifier()
        self.sealer = Sealer(store)
        self.sessions = Sessions(self.sealer)
        self.permissions = Permissions(
            iam, self.sessions, clock, resources, enforced=settings.iam == "enforce"
        )
        self.root = _root(settings.account, settings.access_key)
        self._roots = {
            settings.access_key: _Key(settings.secret_key, self.root),
            **{
                key: _Key(secret, _root(account, key))
                for key, (account, secret) in settings.further_roots().items()
            },
        }

    async def authenticate(self, request: Request, service: str, operation: str = "") -> Principal:
        """Whoever signed `request` for `service` (botocore's name).

        Unsigned requests are anonymous for ANONYMOUS_OPERATIONS. Raises AWSError in the service's own words:
        no signature, unreadable signature, unknown or inactive key, expired session, wrong signature,
        altered body, a clock that is off.
        """
        kind = refusals.dialect(request, service)
        try:
            signature = sigv4.read(request)
        except sigv4.Malformed as fault:
            presigned = "authorization" not in request.headers
            raise refusals.malformed(kind, fault, presigned=presigned) from None
        if signature is None:
            if kind == "s3":
                return await self._authenticate_for_s3(request, service, operation)
            return _anonymous(kind, service, operation)
        if signature.service in sigv4.S3_SERVICES and kind != "s3":
            # S3's looser rules (an unsigned payload) are for S3 alone.
            raise refusals.wrong_scope(kind, service)
        self._check_time(signature, kind)
        key = await self._key(signature.access_key_id, signature.session_token, kind)
        await self._check_signature(signature, request, kind, key.secret)
        return self._principal(key, kind)

    async def authenticate_connection(
        self, connection: connections.ConnectionSignature, region: str
    ) -> Principal:
        """Who connects to a file system of that Region.

        Raises AWSError: unknown or inactive key, expired session, wrong signature, one of another day.
        """
        signature = connections.in_region(connection, region)
        self._check_time(signature, "rest-json")
        key = await self._key(connection.access_key_id, connection.session_token, "rest-json")
        if not connections.holds(connection, signature, self._verifier.signing_key(key.secret, signature)):
            raise refusals.connection_mismatch()
        return self._principal(key, "rest-json")

    async def authorize(
        self,
        call: Call,
        action: str,
        resources: Iterable[str | None] = (None,),
        keys: Mapping[str, Value | Iterable[Value] | None] | None = None,
    ) -> None:
        """Raises AWSError unless `call`'s principal may do `action` (`elasticfilesystem:CreateFileSystem`).

        `resources` are ARNs, `*`, or None where it is not known which (see `policy.Request`); `keys` are
        condition keys of the request beyond the global ones. With the setting `iam` off, every authenticated
        principal may do everything in its account. An anonymous one gets only what ANONYMOUS_OPERATIONS let
        through `authenticate`.
        """
        principal = call.principal
        if principal.kind == "anonymous":
            return
        everything = self._settings.iam == "off" or principal.kind == "root"
        if everything and self._settings.accounts == "none":
            # Of another account's resources only their own policies make anything free.
            resources = [each for each in resources if account_of(each) not in ("", call.account)]
            if not resources:
                return
        if action in ALWAYS_ALLOWED:
            return
        verdict = await self.permissions.decide(call, action, resources, keys)
        if not verdict.allowed:
            message = await self.sealer.seal("authorization", msgspec.json.encode(_explained(verdict)))
            raise refusals.not_authorized(call, verdict.sentence, message)

    @property
    def enforces(self) -> bool:
        """Whether principals other than the root may do in API calls only what their policies allow."""
        return self._settings.iam == "enforce"

    async def issue_session(
        self,
        role_arn: str,
        session_name: str,
        duration_s: int,
        *,
        source_identity: str | None = None,
        tags: Mapping[str, str] | None = None,
        transitive_tags: Sequence[str] = (),
        policy: str | None = None,
        policy_arns: Sequence[str] = (),
    ) -> Credentials:
        """Credentials of the role `role_arn` for `duration_s` seconds, as `sts:AssumeRole` gives them.

        No trust policy is asked: that is the caller's business. Raises AWSError NoSuchEntity where IAM has no
        such role.
        """
        role = await self._role(role_arn)
        principal = _session_principal(role, session_name, temporary_access_key_id(role.account))
        return await self.sessions.issue(
            Session(
                access_key_id=principal.access_key_id,
                secret=secret_access_key(),
                kind="assumed-role",
                account=principal.account,
                arn=principal.arn,
                user_id=principal.user_id,
                expires=self._clock.time() + duration_s,
                role_arn=principal.role_arn,
                session_name=session_name,
                source_identity=source_identity,
                tags=dict(tags or {}),
                transitive_tags=tuple(transitive_tags),
                policy=policy,
                policy_arns=tuple(policy_arns),
            )
        )

    async def role_principal(self, role_arn: str, session_name: str) -> Principal:
        """Whoever acts in a session of the role, such as a function that mounts a file system.

        Raises AWSError NoSuchEntity where IAM has no such role.
        """
        return _session_principal(await self._role(role_arn), session_name)

    async def _role(self, role_arn: str) -> Role:
        role = await self._iam.role(role_arn)
        if role is None:
            name = role_arn.rpartition("/")[2]
            raise AWSError("NoSuchEntity", f"The role with name {name} cannot be found.", status=404)
        return role

    async def _authenticate_for_s3(self, request: Request, service: str, operation: str) -> Principal:
        """Without Signature Version 4: S3's older one, or nobody."""
        try:
            legacy = sigv2.read(request)
        except sigv4.Malformed as fault:
            raise AWSError("AccessDenied", fault.message, status=403) from None
        if legacy is None:
            if "authorization" in request.headers:
                raise refusals.unsupported_scheme()
            if "signature=" in unquote(f"{request.path}?{request.query}").lower():
                # What looks signed and was not verified must never pass for it further on.
                raise refusals.missing_token("s3")
            return _anonymous("s3", service, operation)
        now = self._clock.wall()
        if legacy.expires is not None and now > legacy.expires:
            raise AWSError("AccessDenied", "Request has expired", status=403, Expires=legacy.expires)
        if legacy.signed_at is not None and abs(now - legacy.signed_at) > S3_SKEW_SECONDS:
            raise refusals.skewed_header(request.headers.get("date", ""), now, S3_SKEW_SECONDS)
        key = await self._key(legacy.access_key_id, legacy.session_token, "s3")
        if not sigv2.holds(legacy, request, key.secret):
            raise refusals.legacy_mismatch(legacy, sigv2.string_to_sign(legacy, request))
        return self._principal(key, "s3")

    def _principal(self, key: _Key, kind: Dialect) -> Principal:
        if key.expires is not None and key.expires <= self._clock.time():
            raise refusals.expired_token(kind)
        return key.principal

    def _check_time(self, signature: sigv4.Signature, kind: Dialect) -> None:
        # Callers sign with their own machines' clocks, which `advance` does not move.
        now = self._clock.wall()
        s3 = signature.service in sigv4.S3_SERVICES
        allowed = S3_SKEW_SECONDS if s3 else SKEW_SECONDS
        if signature.kind == "query" and signature.expires is not None:
            if s3 and not 1 <= signature.expires <= PRESIGNED_MAX_SECONDS:
                fault = sigv4.Malformed(
                    "X-Amz-Expires must be between 1 and 604800 seconds, that is, at most a week; "
                    f"{signature.expires} was given"
                )
                raise refusals.malformed(kind, fault, presigned=True)
            if now > signature.signed_at + min(signature.expires, PRESIGNED_MAX_SECONDS):
                raise refusals.presigned_expired(kind, signature, now)
            if now < signature.signed_at - allowed:
                raise refusals.skewed(kind, signature, now, allowed)
        elif abs(now - signature.signed_at) > allowed:
            raise refusals.skewed(kind, signature, now, allowed)

    async def _key(self, key_id: str, session_token: str | None, kind: Dialect) -> _Key:
        root = self._roots.get(key_id)
        if root is not None:
            # People keep a leftover AWS_SESSION_TOKEN beside test/test; the secret alone proves the root.
            return root
        if session_token is not None:
            found = self.sessions.read(key_id, session_token)
            if found is None:
                raise refusals.invalid_token(kind, key_id)
            session, principal = found
            return _Key(session.secret, principal, session.expires)
        key = await self._iam.access_key(key_id)
        if key is None or not key.active:
            raise refusals.unknown_key(kind, key_id)
        principal = Principal(
            kind="user", account=key.account, arn=key.user_arn, user_id=key.user_id, access_key_id=key_id
        )
        return _Key(key.secret_access_key, principal)

    async def _check_signature(
        self, signature: sigv4.Signature, request: Request, kind: Dialect, secret: str
    ) -> None:
        unsigned = sigv4.unsigned_headers(signature, request.headers)
        if unsigned:
            raise refusals.unsigned_headers(kind, unsigned)
        declared = sigv4.declared_digest(signature, request.headers)
        payload = sigv4.payload_in_words(signature, request.headers)
        digest = await _digest(request.body) if declared is not None or payload is None else ""
        try:
            self._verifier.verify(signature, request, secret, declared or payload or digest)
        except sigv4.Mismatch as fault:
            raise refusals.mismatch(kind, fault) from None
        if declared is not None and declared != digest:
            raise refusals.altered_body(declared, digest)
        if payload in (SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER):
            await self._check_chunks(signature, request, secret, trailer=payload == SIGNED_CHUNKS_AND_TRAILER)

    async def _check_chunks(
        self, signature: sigv4.Signature, request: Request, secret: str, *, trailer: bool
    ) -> None:
        key = self._verifier.signing_key(secret, signature)
        try:
            signed = await _beside(
                request.body, lambda: are_signed(key, signature, request.body, trailer=trailer)
            )
        except BrokenChunks as fault:
            raise AWSError("IncompleteBody", f"The body is not aws-chunked: {fault}", status=400) from None
        if not signed:
            raise refusals.altered_chunk(signature)


def _root(account: str, key: str) -> Principal:
    return Principal("root", account, arn("iam", "", account, "root"), account, key)


def _session_principal(role: Role, session_name: str, access_key_id: str = "") -> Principal:
    return Principal(
        kind="assumed-role",
        account=role.account,
        arn=arn("sts", "", role.account, f"assumed-role/{role.name}/{session_name}"),
        user_id=f"{role.role_id}:{session_name}",
        access_key_id=access_key_id,
        role_arn=role.arn,
        session_name=session_name,
    )


def _explained(verdict: Verdict) -> dict[str, object]:
    """What `sts:DecodeAuthorizationMessage` tells of a refusal."""
    return {
        "allowed": verdict.allowed,
        "explicitDeny": verdict.decision is Decision.EXPLICIT_DENY,
        "decidedBy": verdict.decided_by,
        "context": {
            "principal": {"id": verdict.principal.user_id, "arn": verdict.principal.arn},
            "action": verdict.action,
            "resource": verdict.resource,
        },
    }


def _anonymous(kind: Dialect, service: str, operation: str) -> Principal:
    if operation not in ANONYMOUS_OPERATIONS.get(service, ()):
        raise refusals.missing_token(kind)
    return ANONYMOUS


async def _digest(body: bytes) -> str:
    """The body's SHA-256 in hex."""
    if not body:
        return sigv4.EMPTY_SHA256
    return await _beside(body, lambda: sha256(body).hexdigest())


async def _beside(body: bytes, hashing: Callable[[], R]) -> R:
    """`hashing`, on a thread where `body` is so large that others would wait for it."""
    return hashing() if len(body) < _HASH_ON_THREAD_BYTES else await asyncio.to_thread(hashing)
