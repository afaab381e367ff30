"""What identity needs to know of IAM's records, wherever they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

# A policy's name (its ARN, or that of an inline policy) and its JSON text.
NamedDocument = tuple[str, str]


class AccessKey(Protocol):
    """A user's long-term access key; an inactive one authenticates nobody."""

    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_access_key(self) -> str: ...
    @property
    def active(self) -> bool: ...
    @property
    def account(self) -> str: ...
    @property
    def user_arn(self) -> str: ...
    @property
    def user_id(self) -> str: ...


class Role(Protocol):
    """An IAM role; `trust_policy` is its AssumeRolePolicyDocument as JSON text, the duration in seconds."""

    @property
    def arn(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def role_id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def trust_policy(self) -> str: ...
    @property
    def max_session_duration(self) -> int: ...


class Attachments(Protocol):
    """All that is attached to a user (its groups' policies included) or a role."""

    @property
    def policies(self) -> tuple[NamedDocument, ...]: ...
    @property
    def boundary(self) -> NamedDocument | None: ...
    @property
    def tags(self) -> Mapping[str, str]: ...


class ResourcePolicy(Protocol):
    """A resource that may have a policy of its own, by its own ARN, whatever name it was asked for by.

    `account` owns it. A `required` policy has to allow what it is about, even to the owner's principals.
    """

    @property
    def arn(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def document(self) -> str | None: ...
    @property
    def required(self) -> bool: ...


class ResourcePolicies(Protocol):
    """Policies of resources: queues, topics, buckets, keys, functions, file systems."""

    async def of(self, arn: str) -> ResourcePolicy | None:
        """None where there is no such resource, or nothing is known of its kind."""
        ...


class NoPolicies:
    """No resource has a policy."""

    async def of(self, arn: str) -> None:
        return None


class IamRecords(Protocol):
    """Lookups in IAM's users, roles and policies; None where there is no such record."""

    async def access_key(self, access_key_id: str) -> AccessKey | None: ...
    async def role(self, role_arn: str) -> Role | None: ...
    async def attachments(self, user_or_role_arn: str) -> Attachments | None: ...
    async def managed_policy(self, policy_arn: str, account: str) -> NamedDocument | None: ...
    async def identity_provider(self, kind: str, name: str, account: str) -> bool:
        """Whether the account has a `saml-provider` or `oidc-provider` of that name."""
        ...
