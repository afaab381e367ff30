"""Where actions go, as constructor arguments."""

from __future__ import annotations

from typing import Any, Protocol


class Neighbours(Protocol):
    """SNS and EventBridge. Raises AWSError."""

    async def call(
        self, service: str, operation: str, input: dict[str, Any], *, account: str, region: str
    ) -> dict[str, Any]: ...
