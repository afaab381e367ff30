"""What functions may do with the file systems that they mount, and in one sentence why not.

EFS asks IAM at every mount, whoever enforces it for API calls: a file system without a policy is open to
everybody who reaches it, one with a policy to those whom it or their own policies allow.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lambay.aws import AWSError
from lambay.causes import key_unusable
from lambay.clock import Clock
from lambay.identity.authentication import Identity
from lambay.identity.keys import ENABLED, Keys
from lambay.identity.policy import Decision, MountDecision, PolicyType, Verdict

# For so long a decision is not asked again although nothing changed: conditions may be about the time.
DECISION_SECONDS = 5.0
_DECISIONS_KEPT = 4096

# A file system policy that leaves everything to the policies of identities.
_NOBODY = '{"Version": "2012-10-17", "Statement": []}'

READ_WRITE_POLICY = "AmazonElasticFileSystemClientReadWriteAccess"
READ_ONLY_POLICY = "AmazonElasticFileSystemClientReadOnlyAccess"
FULL_ACCESS_POLICY = "AmazonElasticFileSystemClientFullAccess"

_GRANTED_BY = {
    "elasticfilesystem:ClientMount": READ_ONLY_POLICY,
    "elasticfilesystem:ClientWrite": READ_WRITE_POLICY,
    "elasticfilesystem:ClientRootAccess": FULL_ACCESS_POLICY,
}


@dataclass(frozen=True, slots=True)
class MountPermit:
    """What a mount may do. `refusal` says why there may be none; `limits` why it is read-only or squashed.

    `refused_by` is who refuses: IAM, or KMS whose key the file system needs.
    """

    read_only: bool = False
    root_squash: bool = False
    refusal: str = ""
    refused_by: Literal["IAM", "KMS"] = "IAM"
    limits: tuple[str, ...] = field(default=())


class Source(Protocol):
    """A mount source of EFS, as far as its permissions go."""

    @property
    def file_system_arn(self) -> str: ...
    @property
    def file_system_policy(self) -> str | None: ...
    @property
    def access_point_arn(self) -> str | None: ...
    @property
    def kms_key(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A mount by a session of the role. `file_system_policy` is JSON text, None where none is set."""

    role_arn: str
    session_name: str
    file_system_arn: str
    file_system_policy: str | None
    access_point_arn: str | None
    kms_key: str | None
    vpc: str

    @classmethod
    def of(cls, role_arn: str, session_name: str, source: Source, vpc: str) -> MountRequest:
        return cls(
            role_arn,
            session_name,
            source.file_system_arn,
            source.file_system_policy,
            source.access_point_arn,
            source.kms_key,
            vpc,
        )


class MountPermits:
    """Decisions by the policies of the moment; a function's mount goes through a mount target, with TLS."""

    def __init__(self, identity: Identity, keys: Keys, clock: Clock) -> None:
        self._identity = identity
        self._keys = keys
        self._clock = clock
        self._known: dict[MountRequest, tuple[float, MountPermit]] = {}
        self._generation = 0

    def changed(self, account: str, region: str) -> None:
        """Policies, roles, what is attached to them or keys changed: nothing decided before counts."""
        self._known.clear()
        self._generation += 1

    async def permit(self, role_arn: str, session_name: str, source: Source, vpc: str) -> MountPermit:
        """For a session of the role, in a function of that VPC ("" for none)."""
        request = MountRequest.of(role_arn, session_name, source, vpc)
        known = self._known.get(request)
        now = self._clock.time()
        if known is not None and now < known[0]:
            return known[1]
        generation = self._generation
        permit = await self._decided(request)
        if generation == self._generation:
            if len(self._known) >= _DECISIONS_KEPT:
                self._known.clear()
            self._known[request] = (now + DECISION_SECONDS, permit)
        return permit

    async def decision(self, request: MountRequest) -> MountDecision:
        """The verdicts themselves. Raises AWSError NoSuchEntity where the role is gone."""
        principal = await self._identity.role_principal(request.role_arn, request.session_name)
        return await self._identity.permissions.may_mount(
            principal,
            request.file_system_arn,
            request.file_system_policy,
            access_point_arn=request.access_point_arn,
            secure_transport=True,
            keys={"aws:SourceVpc": request.vpc or None},
        )

    async def _decided(self, request: MountRequest) -> MountPermit:
        try:
            decision = await self.decision(request)
        except AWSError as error:
            if error.code != "NoSuchEntity":
                raise
            return MountPermit(refusal=f"role {request.role_arn} does not exist: create it again")
        permit = permit_of(decision, request.role_arn)
        if request.kms_key is not None and not permit.refusal:
            state = await self._keys.state(request.kms_key)
            if state != ENABLED:
                file_system = request.file_system_arn.rpartition("/")[2]
                return MountPermit(
                    refusal=key_unusable(file_system, request.kms_key, state), refused_by="KMS"
                )
        return permit

    async def traps(self, role_arn: str, session_name: str, source: Source, vpc: str) -> tuple[str, ...]:
        """What looks as if it decided about the mount and does not, a sentence each."""
        request = MountRequest.of(role_arn, session_name, source, vpc)
        try:
            decision = await self.decision(request)
            held = await self.decision(dataclasses.replace(request, file_system_policy=_NOBODY))
        except AWSError:
            return ()
        traps = list(dict.fromkeys((*decision.hints, *held.hints)))
        if request.file_system_policy is None and not held.client_write:
            lacking = "ClientWrite" if held.client_mount else "ClientMount"
            file_system = request.file_system_arn.rpartition("/")[2]
            traps.append(
                f"{file_system} has no file system policy, so everybody who reaches it has full access: that role "
                f"{role_arn} lacks elasticfilesystem:{lacking} changes nothing until a policy is set"
            )
        return tuple(traps)


def permit_of(decision: MountDecision, role_arn: str) -> MountPermit:
    """The decision as a mount has it."""
    if not decision.client_mount:
        return MountPermit(refusal=cause(decision.mount, decision.hints, role_arn))
    return MountPermit(
        read_only=not decision.client_write,
        root_squash=not decision.client_root_access,
        limits=tuple(
            cause(verdict, decision.hints, role_arn)
            for verdict in (decision.write, decision.root)
            if not verdict.allowed
        ),
    )


def cause(verdict: Verdict, hints: tuple[str, ...], role_arn: str) -> str:
    """Why the client action is denied, and the one thing to change."""
    what = f"{verdict.action} on {verdict.resource}"
    if verdict.decision is Decision.EXPLICIT_DENY:
        return f"role {role_arn} is denied {what} by {verdict.decided_by}: remove that statement or narrow it"
    if hints:
        return f"role {role_arn} lacks {what}. {hints[0]}"
    managed = f"arn:aws:iam::aws:policy/{_GRANTED_BY[verdict.action]}"
    if verdict.policy_type in (PolicyType.BOUNDARY, PolicyType.SESSION):
        return (
            f"role {role_arn} lacks {what}: its {verdict.policy_type.value} does not allow it; "
            f"allow {verdict.action} there"
        )
    if verdict.policy_type is PolicyType.RESOURCE:
        # Of another account: the file system's own policy has to name it.
        return (
            f"role {role_arn} lacks {what}: the file system policy of the other account does not allow it; "
            "allow the role there"
        )
    return (
        f"role {role_arn} lacks {what}: neither the file system policy nor the role's policies allow it; "
        f"granted by attaching {managed} to the role"
    )
