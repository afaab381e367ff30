"""Direct lookups in moto's IAM records: access keys with their secrets, roles, and what is attached to them.

The API never tells a secret again after CreateAccessKey, and a lookup is on the way of every signed request
and every cold start, so these read the backend's own objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lambay.aws import DEFAULT_PARTITION, Arn
from lambay.neighbours import attached
from lambay.neighbours.attached import Attachments, NamedDocument


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A user's long-term access key."""

    access_key_id: str
    secret_access_key: str
    active: bool
    account: str
    user_arn: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role. `trust_policy` is JSON text, `max_session_duration` in seconds."""

    arn: str
    name: str
    role_id: str
    account: str
    trust_policy: str
    max_session_duration: int


class IamRecords:
    """IAM's records as identity asks for them.

    `ready` returns once moto is loaded and its journal replayed; it is awaited before every lookup.
    """

    def __init__(self, ready: Callable[[], Awaitable[object]]) -> None:
        self._ready = ready

    async def access_key(self, access_key_id: str) -> AccessKey | None:
        """The key called `access_key_id` in any account, None where there is none."""
        await self._ready()
        from moto.iam.models import iam_backends

        for account in list(iam_backends):
            iam = iam_backends[account][DEFAULT_PARTITION]
            key = iam.access_keys.get(access_key_id)
            if key is None or key.user_name not in iam.users:
                continue
            user = iam.users[key.user_name]
            active = key.status == "Active"
            return AccessKey(access_key_id, key.secret_access_key, active, account, user.arn, user.id)
        return None

    async def role(self, role_arn: str) -> Role | None:
        """The role of exactly this ARN, None where there is none."""
        try:
            account = Arn.parse(role_arn).account
        except ValueError:
            return None
        await self._ready()
        from moto.iam.models import iam_backends

        if account not in iam_backends:
            return None
        for role in list(iam_backends[account][DEFAULT_PARTITION].roles.values()):
            if role.arn == role_arn:
                return Role(
                    role.arn,
                    role.name,
                    role.id,
                    account,
                    role.assume_role_policy_document,
                    int(role.max_session_duration or 3600),
                )
        return None

    async def attachments(self, user_or_role_arn: str) -> Attachments | None:
        """All that is attached to the user or role of exactly this ARN, None where there is none."""
        try:
            account = Arn.parse(user_or_role_arn).account
        except ValueError:
            return None
        await self._ready()
        from moto.iam.models import iam_backends

        if account not in iam_backends:
            return None
        return attached.to(iam_backends[account][DEFAULT_PARTITION], user_or_role_arn)

    async def identity_provider(self, kind: str, name: str, account: str) -> bool:
        """Whether the account has a `saml-provider` or `oidc-provider` of that name."""
        await self._ready()
        from moto.iam.models import iam_backends

        if account not in list(iam_backends):
            return False
        iam = iam_backends[account][DEFAULT_PARTITION]
        providers = iam.saml_providers if kind == "saml-provider" else iam.open_id_providers
        return any(each.arn.endswith(f":{kind}/{name}") for each in providers.values())

    async def managed_policy(self, policy_arn: str, account: str) -> NamedDocument | None:
        """The default version of a managed policy of `account` or of AWS, None where there is none."""
        await self._ready()
        from moto.iam.models import iam_backends

        return attached.managed(iam_backends[account][DEFAULT_PARTITION], policy_arn)
