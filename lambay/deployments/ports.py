"""What deployments need of other rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class AlarmStates(Protocol):
    """CloudWatch's alarms."""

    def states(self, account: str, region: str, names: Sequence[str]) -> Mapping[str, str]:
        """`OK`, `ALARM` or `INSUFFICIENT_DATA` by name, without those that are not there."""
        ...

    def on_change(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` in the event loop after an alarm has changed its state."""
        ...


class Roles(Protocol):
    """IAM's roles."""

    async def assumable(
        self, role_arn: str, *, source_arn: str = "", region: str = "", service: str = ""
    ) -> bool:
        """Whether the role is there and lets the service assume it."""
        ...


class NoAlarms:
    """Where nobody keeps alarms: none is there."""

    def states(self, account: str, region: str, names: Sequence[str]) -> Mapping[str, str]:
        return {}

    def on_change(self, callback: Callable[[Any], None]) -> None:
        return
