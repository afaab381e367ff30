"""What a client may do with a file system that it mounts.

Amazon EFS User Guide, "Using IAM to control access to file systems": read with ClientMount, write with
ClientWrite, be uid 0 with ClientRootAccess. All three are about the file system; an access point is only a
condition key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lambay.aws import Arn, Principal
from lambay.identity.policy.context import Value, context, principal_context
from lambay.identity.policy.document import Policy, Statement
from lambay.identity.policy.evaluation import Policies, PolicyType, Request, Verdict, evaluate

CLIENT_MOUNT = "elasticfilesystem:ClientMount"
CLIENT_WRITE = "elasticfilesystem:ClientWrite"
CLIENT_ROOT_ACCESS = "elasticfilesystem:ClientRootAccess"

# In effect while a file system has no policy of its own.
DEFAULT_POLICY = Policy.parse(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Sid": "FullAccessThroughMountTargets",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": [CLIENT_MOUNT, CLIENT_WRITE, CLIENT_ROOT_ACCESS],
            "Condition": {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}},
        },
    },
    name="EFS default",
    attached_to="resource",
)


@dataclass(frozen=True, slots=True)
class MountDecision:
    """The verdicts on the three client actions.

    `hints` name statements that were meant to have a say and never do.
    """

    mount: Verdict
    write: Verdict
    root: Verdict
    hints: tuple[str, ...]

    @property
    def client_mount(self) -> bool:
        """May mount and read; without it the other two are of no use."""
        return self.mount.allowed

    @property
    def client_write(self) -> bool:
        """May write; otherwise the mount is read-only."""
        return self.write.allowed

    @property
    def client_root_access(self) -> bool:
        """Uid 0 stays root; otherwise it acts as the anonymous user."""
        return self.root.allowed

    @property
    def reasons(self) -> dict[str, str]:
        """A sentence for each of the three actions."""
        return {verdict.action: verdict.sentence for verdict in (self.mount, self.write, self.root)}


def mount_decision(
    file_system_arn: str,
    file_system_policy: Policy | None,
    principal: Principal,
    *,
    identity: tuple[Policy, ...] = (),
    boundary: Policy | None = None,
    session: tuple[Policy, ...] | None = None,
    federated_by: str | None = None,
    access_point_arn: str | None = None,
    secure_transport: bool,
    via_mount_target: bool,
    tags: Mapping[str, str] | None = None,
    keys: Mapping[str, Value | None] | None = None,
) -> MountDecision:
    """What `principal` may do with the file system.

    `principal` is anonymous for a client that mounts without IAM. `tags` are the principal's; `keys` are
    further condition keys (`aws:SourceVpc`, `aws:SourceIp`). Without a file system policy everybody who comes
    through a mount target has full access, whichever account he is of, unless his own policies explicitly
    deny it.
    """
    request_keys = {
        **principal_context(principal, tags),
        **context(keys or {}),
        **context(
            {
                "aws:SecureTransport": secure_transport,
                "elasticfilesystem:AccessedViaMountTarget": via_mount_target,
                "elasticfilesystem:AccessPointArn": access_point_arn,
            }
        ),
    }
    policies = Policies(identity, file_system_policy or DEFAULT_POLICY, boundary, session)

    def verdict(action: str) -> Verdict:
        return evaluate(
            Request(
                principal,
                action,
                (file_system_arn,),
                request_keys,
                resource_account="" if file_system_policy is None else Arn.parse(file_system_arn).account,
                federated_by=federated_by,
            ),
            policies,
        )

    mount, write, root = verdict(CLIENT_MOUNT), verdict(CLIENT_WRITE), verdict(CLIENT_ROOT_ACCESS)
    hints = tuple(_hints(policies, (mount, write, root), file_system_arn))
    return MountDecision(mount, write, root, hints)


def _hints(policies: Policies, verdicts: tuple[Verdict, ...], file_system_arn: str) -> Iterator[str]:
    kinds = [(PolicyType.RESOURCE, policies.resource)]
    kinds += [(PolicyType.IDENTITY, policy) for policy in policies.identity]
    kinds += [(PolicyType.BOUNDARY, policies.boundary)]
    kinds += [(PolicyType.SESSION, policy) for policy in policies.session or ()]
    for policy_type, policy in kinds:
        for statement in policy.statements if policy is not None else ():
            access_point = _access_point_as_resource(statement)
            if access_point is None or not any(_meant(statement, verdict) for verdict in verdicts):
                continue
            name = f" {policy.name}" if policy is not None and policy.name else ""
            yield (
                f"In {policy_type.value}{name}, {statement} has the access point "
                f"{access_point} as Resource and never applies to a mount: name {file_system_arn} there, and "
                "the access point in a condition on elasticfilesystem:AccessPointArn"
            )


def _access_point_as_resource(statement: Statement) -> str | None:
    """The access point where a statement lists access points and nothing else."""
    if not statement.resource_listed or not all(":access-point/" in each for each in statement.resources):
        return None
    return statement.resources[0]


def _meant(statement: Statement, verdict: Verdict) -> bool:
    """Whether the statement would have changed this verdict."""
    changes = verdict.allowed if statement.effect == "Deny" else not verdict.allowed
    return changes and statement.covers(verdict.action)
