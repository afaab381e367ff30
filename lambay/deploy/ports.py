"""What the room needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lambay.aws import Principal


class Client(Protocol):
    """The API from inside, boto3-shaped; see `lambay.api.inside`."""

    async def __call__(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]:
        """Raises AWSError."""


class Roles(Protocol):
    async def role_principal(self, role_arn: str, session_name: str) -> Principal:
        """Whoever acts in a session of the role. Raises AWSError where there is no such role."""


class Alarms(Protocol):
    """Rollback triggers."""

    def states(self, account: str, region: str, names: list[str]) -> Mapping[str, str]: ...

    def on_change(self, listener: Callable[[Any], None]) -> None:
        """Have `listener` called after each change of an alarm's state."""
