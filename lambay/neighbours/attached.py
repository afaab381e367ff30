"""What is attached to users and roles in moto's IAM: policies, boundaries and tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A policy's name (its ARN, or that of an inline policy) and its JSON text.
NamedDocument = tuple[str, str]

# A boundary that is gone allows nothing, as in AWS.
_NOTHING = '{"Version": "2012-10-17", "Statement": []}'


@dataclass(frozen=True, slots=True)
class Attachments:
    """Inline and managed policies (a user's groups' among them), the boundary, and tags."""

    policies: tuple[NamedDocument, ...]
    boundary: NamedDocument | None
    tags: Mapping[str, str]


def to(iam: Any, arn: str) -> Attachments | None:
    """What moto's backend `iam` has for the user or role of this ARN, None where there is none."""
    for entity in _named(iam, arn):
        if entity.arn == arn:
            return Attachments(
                policies=tuple(_policies(iam, entity)),
                boundary=_boundary(iam, entity),
                tags={tag["Key"]: tag["Value"] for tag in entity.tags or ()},
            )
    return None


def managed(iam: Any, policy_arn: str) -> NamedDocument | None:
    """The managed policy's default version."""
    policy = iam.managed_policies.get(policy_arn)
    return (policy_arn, _default_version(policy)) if policy is not None else None


def _named(iam: Any, arn: str) -> Iterable[Any]:
    kind, _, path = arn.rpartition(":")[2].partition("/")
    if kind == "user":
        user = iam.users.get(path.rpartition("/")[2])
        return (user,) if user is not None else ()
    return list(iam.roles.values()) if kind == "role" else ()


def _policies(iam: Any, entity: Any) -> Iterator[NamedDocument]:
    yield from entity.policies.items()
    for policy in entity.managed_policies.values():
        yield policy.arn, _default_version(policy)
    if entity.arn.rpartition(":")[2].startswith("user/"):
        for group in iam.groups.values():
            if entity in group.users:
                yield from _policies(iam, group)


def _boundary(iam: Any, entity: Any) -> NamedDocument | None:
    # Groups have none.
    arn = getattr(entity, "permissions_boundary_arn", None)
    return (managed(iam, arn) or (arn, _NOTHING)) if arn else None


def _default_version(policy: Any) -> str:
    current = policy.default_version_id
    return next(str(each.document) for each in policy.versions if each.version_id == current)
