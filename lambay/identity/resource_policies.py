"""Which policy a resource has, whichever room keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lambay.aws import Arn
from lambay.identity.principals import ResourcePolicies, ResourcePolicy


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """The policy of a resource that Lambay owns."""

    arn: str
    account: str
    document: str | None
    required: bool = False


class PoliciesByService:
    """By the ARN's service: those that were `add`ed, then those of `others`."""

    def __init__(self, others: ResourcePolicies) -> None:
        self._others = others
        self._finders: dict[str, Callable[[str], str | None]] = {}

    def add(self, service: str, document_of: Callable[[str], str | None]) -> None:
        """`document_of` an ARN is its policy's JSON text, None where it has none."""
        self._finders[service] = document_of

    async def of(self, arn: str) -> ResourcePolicy | None:
        try:
            named = Arn.parse(arn)
        except ValueError:
            return None
        find = self._finders.get(named.service)
        if find is None:
            return await self._others.of(arn)
        return OwnPolicy(arn, named.account, find(arn))
