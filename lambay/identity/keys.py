"""KMS keys as EFS and Lambda use them: whether one can be used now, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lambay.aws import Arn, AWSError

ENABLED = "Enabled"
MISSING = "missing"


class Neighbours(Protocol):
    async def call(
        self, service: str, operation: str, input: dict[str, Any], *, account: str, region: str
    ) -> Mapping[str, Any]: ...


class Keys:
    """Remembers states until KMS changes: they are asked for at every mount of an encrypted file system."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._known: dict[str, str] = {}
        self._generation = 0

    def changed(self, account: str, region: str) -> None:
        """Keys, their states or grants have changed."""
        self._known.clear()
        self._generation += 1

    async def state(self, key: str) -> str:
        """KMS's word for the state of the key of this ARN (`Enabled`, `Disabled`, …), or `missing`."""
        known = self._known.get(key)
        if known is not None:
            return known
        generation = self._generation
        named = Arn.parse(key)
        try:
            answer = await self._neighbours.call(
                "kms", "DescribeKey", {"KeyId": key}, account=named.account, region=named.region
            )
        except AWSError as error:
            if error.code != "NotFoundException":
                raise
            state = MISSING
        else:
            state = str(answer["KeyMetadata"]["KeyState"])
        if generation == self._generation:
            self._known[key] = state
        return state
