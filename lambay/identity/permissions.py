"""What a principal is permitted: its policies from IAM's records and its session, and verdicts by them."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from lambay.aws import Call, Principal
from lambay.clock import Clock
from lambay.identity.policy import (
    Decision,
    MalformedPolicy,
    MountDecision,
    Policies,
    Policy,
    PolicyType,
    Request,
    Verdict,
    context,
    evaluate,
    mount_decision,
    principal_context,
)
from lambay.identity.policy.context import Value
from lambay.identity.principals import IamRecords, NoPolicies, ResourcePolicies, Role
from lambay.identity.sessions import Session, Sessions

_log = logging.getLogger("lambay.identity")

_ACCOUNT = re.compile(r"\d{12}")
_EVERYTHING = '{"Version": "2012-10-17", "Statement": {"Effect": "%s", "Action": "*", "Resource": "*"}}'


@dataclass(frozen=True, slots=True)
class Held:
    """The policies that a principal has, its tags, and for a federated user who federated it."""

    policies: Policies = field(default_factory=Policies)
    tags: Mapping[str, str] = field(default_factory=dict)
    federated_by: str | None = None


class Permissions:
    """Verdicts on calls by the policies that IAM has at that moment.

    With `enforced` off, identities have every permission in API calls, and only policies of resources decide.
    """

    def __init__(
        self,
        iam: IamRecords,
        sessions: Sessions,
        clock: Clock,
        resources: ResourcePolicies | None = None,
        *,
        enforced: bool,
    ) -> None:
        self._resources = resources or NoPolicies()
        self._iam = iam
        self._sessions = sessions
        self._clock = clock
        self._enforced = enforced

    async def held(self, principal: Principal, *, always: bool = False) -> Held:
        """What `principal` has now: of IAM's records and of the session it signed with.

        `always` is for decisions that do not hang on `enforced`.
        """
        if principal.kind in ("root", "anonymous", "service"):
            return Held()
        session = self._sessions.of(principal)
        federated_by = session.federated_by if session is not None else None
        session_tags = session.tags if session is not None else {}
        if not (self._enforced or always):
            everything = (parsed("full access", _EVERYTHING % "Allow"),)
            return Held(Policies(identity=everything, session=everything), session_tags, federated_by)
        passed = await self._passed(principal, session)
        if federated_by is not None and federated_by.endswith(":root"):
            everything = (parsed("the root user's", _EVERYTHING % "Allow"),)
            return Held(Policies(identity=everything, session=passed), session_tags, federated_by)
        attached = await self._iam.attachments(federated_by or principal.role_arn or principal.arn)
        if attached is None:
            return Held(Policies(session=passed), session_tags, federated_by)
        policies = Policies(
            identity=tuple(parsed(*each) for each in attached.policies),
            boundary=parsed(*attached.boundary) if attached.boundary is not None else None,
            session=passed,
        )
        return Held(policies, {**attached.tags, **session_tags}, federated_by)

    async def decide(
        self,
        call: Call,
        action: str,
        resources: Iterable[str | None] = (None,),
        keys: Mapping[str, Value | Iterable[Value] | None] | None = None,
    ) -> Verdict:
        """Whether the principal's own policies and those of the resources allow it `action` on all of them.

        Of several verdicts the first explicit deny, or else the first other refusal, or else the first.
        """
        held = await self.held(call.principal)
        context = self._context(call, held, keys or {})
        verdicts = [await self._about(call, action, resource, held, context) for resource in resources]
        refused = [verdict for verdict in verdicts if not verdict.allowed]
        explicit = (verdict for verdict in refused if verdict.decision is Decision.EXPLICIT_DENY)
        return next(explicit, None) or next(iter(refused), None) or verdicts[0]

    async def _about(
        self,
        call: Call,
        action: str,
        resource: str | None,
        held: Held,
        context: Mapping[str, tuple[str, ...]],
    ) -> Verdict:
        """The verdict on one resource. One of another account wants that account's leave as well."""
        policies, account, required = held.policies, account_of(resource), False
        found = await self._resources.of(resource) if resource is not None else None
        if found is not None:
            resource, account, required = found.arn, found.account, found.required
            if found.document is not None:
                own = parsed_of_resource(found.arn, found.document)
                policies = dataclasses.replace(policies, resource=own)
        if account:
            context = {**context, "aws:resourceaccount": (account,)}
        request = Request(
            call.principal,
            action,
            (resource,),
            context,
            resource_account=account,
            resource_policy_required=required,
            federated_by=held.federated_by,
        )
        return evaluate(request, policies)

    async def may_assume(
        self, call: Call, role: Role, keys: Mapping[str, Value | Iterable[Value] | None]
    ) -> Verdict:
        """Whether the role's trust policy and the principal's own allow `sts:AssumeRole`.

        A trust policy that cannot be read trusts nobody.
        """
        held = await self.held(call.principal)
        own = held.policies
        trust = parsed_of_resource(role.arn, role.trust_policy)
        request = Request(
            call.principal,
            "sts:AssumeRole",
            (role.arn,),
            self._context(call, held, keys),
            resource_account=role.account,
            resource_policy_required=True,
            resource_policy_type=PolicyType.TRUST,
            federated_by=held.federated_by,
        )
        return evaluate(request, Policies(own.identity, trust, own.boundary, own.session))

    async def may_mount(
        self,
        principal: Principal,
        file_system_arn: str,
        file_system_policy: str | None,
        *,
        access_point_arn: str | None = None,
        secure_transport: bool,
        via_mount_target: bool = True,
        keys: Mapping[str, Value | None] | None = None,
    ) -> MountDecision:
        """What `principal` (see `Identity.role_principal`) may do with a file system that it mounts.

        `file_system_policy` is the policy's JSON text, None where none is set. One that cannot be read denies
        everything. `keys` are further condition keys, such as `aws:SourceVpc`. It is decided by the policies
        of the role also where IAM is not enforced for API calls.
        """
        held = await self.held(principal, always=True)
        now = self._clock.time()
        return mount_decision(
            file_system_arn,
            parsed_of_resource(file_system_arn, file_system_policy) if file_system_policy else None,
            principal,
            identity=held.policies.identity,
            boundary=held.policies.boundary,
            session=held.policies.session,
            federated_by=held.federated_by,
            access_point_arn=access_point_arn,
            secure_transport=secure_transport,
            via_mount_target=via_mount_target,
            tags=held.tags,
            keys={**_moment(now), **(keys or {})},
        )

    def _context(
        self, call: Call, held: Held, keys: Mapping[str, Value | Iterable[Value] | None]
    ) -> Mapping[str, tuple[str, ...]]:
        now = self._clock.time()
        temporary = self._sessions.of(call.principal) is not None
        return {
            **context(
                {
                    **_moment(now),
                    "aws:RequestedRegion": call.region,
                    "aws:SourceIp": call.source_ip or None,
                    "aws:UserAgent": call.headers.get("user-agent"),
                    # Long-term credentials do not bring this key.
                    "aws:MultiFactorAuthPresent": False if temporary else None,
                    "aws:ViaAWSService": False,
                    **keys,
                }
            ),
            **principal_context(call.principal, held.tags),
        }

    async def _passed(self, principal: Principal, session: Session | None) -> tuple[Policy, ...] | None:
        """The session policies; None where the session was made without any."""
        if session is None:
            # A session that is no longer known could have been narrower than its role.
            return () if principal.access_key_id.startswith("ASIA") else None
        if session.policy is None and not session.policy_arns:
            return None
        passed = [parsed("passed to the session", session.policy)] if session.policy is not None else []
        for arn in session.policy_arns:
            found = await self._iam.managed_policy(arn, principal.account)
            if found is not None:
                passed.append(parsed(*found))
        return tuple(passed)


@lru_cache(maxsize=4096)
def parsed(name: str, document: str) -> Policy:
    """The policy of this text, parsed once. One that cannot be read denies everything: it might have."""
    try:
        return Policy.parse(document, name=name)
    except MalformedPolicy as fault:
        _log.warning("the policy %s is malformed and denies everything: %s", name, fault)
        return Policy.parse(_EVERYTHING % "Deny", name=f"{name} (malformed: {fault})")


@lru_cache(maxsize=4096)
def parsed_of_resource(name: str, document: str) -> Policy:
    """The policy of a resource; one that cannot be read denies everybody everything: it might have."""
    try:
        return Policy.parse(document, name=name, attached_to="resource")
    except MalformedPolicy as fault:
        _log.warning("the policy of %s is malformed and denies everything: %s", name, fault)
        nothing = {"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*"}}
        return Policy.parse(nothing, name=f"{name} (malformed: {fault})", attached_to="resource")


def account_of(resource: str | None) -> str:
    """The account in a resource's ARN, empty where it has none."""
    fields = resource.split(":", 5) if resource is not None else []
    return fields[4] if len(fields) == 6 and _ACCOUNT.fullmatch(fields[4]) else ""


def _moment(now: float) -> dict[str, Value | None]:
    """The keys of time; `now` in seconds since the epoch."""
    return {
        "aws:CurrentTime": datetime.fromtimestamp(now, UTC).replace(microsecond=0),
        "aws:EpochTime": int(now),
    }
