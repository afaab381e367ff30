"""IAM's records, asked once between two changes: they are on the way of every signed request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from lambay.identity.principals import AccessKey, Attachments, IamRecords, NamedDocument, Role

T = TypeVar("T")

_MOST = 8192


class RememberedRecords:
    """`changed` has to be called after every change of IAM, before whoever made it is answered."""

    def __init__(self, records: IamRecords) -> None:
        self._records = records
        self._known: dict[tuple[str, ...], object] = {}
        self._generation = 0

    def changed(self, account: str = "", region: str = "") -> None:
        self._known.clear()
        self._generation += 1

    async def access_key(self, access_key_id: str) -> AccessKey | None:
        return await self._found(("key", access_key_id), lambda: self._records.access_key(access_key_id))

    async def role(self, role_arn: str) -> Role | None:
        return await self._found(("role", role_arn), lambda: self._records.role(role_arn))

    async def attachments(self, user_or_role_arn: str) -> Attachments | None:
        return await self._found(
            ("attachments", user_or_role_arn), lambda: self._records.attachments(user_or_role_arn)
        )

    async def managed_policy(self, policy_arn: str, account: str) -> NamedDocument | None:
        return await self._found(
            ("policy", policy_arn, account), lambda: self._records.managed_policy(policy_arn, account)
        )

    async def identity_provider(self, kind: str, name: str, account: str) -> bool:
        return await self._records.identity_provider(kind, name, account)

    async def _found(self, key: tuple[str, ...], look: Callable[[], Awaitable[T | None]]) -> T | None:
        """Only what is there is remembered: what is not may be anything a stranger asks for."""
        known = self._known.get(key)
        if known is not None:
            return known  # type: ignore[return-value]
        generation = self._generation
        found = await look()
        if found is not None and generation == self._generation:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return found
