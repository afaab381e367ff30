"""Where actions go, as constructor arguments."""

from __future__ import annotations

from typing import Any, Protocol


class Neighbours(Protocol):
    """SNS and EventBridge. Raises AWSError."""

    async def call(
        self, service: str, operation: str, input: dict[str, Any], *, account: str, region: str
    ) -> dict[str, Any]: ...


class Trigger(Protocol):
    @property
    def function_arn(self) -> str: ...
    @property
    def event(self) -> Any: ...
    @property
    def principal(self) -> str: ...
    @property
    def source_arn(self) -> str: ...
    @property
    def source_account(self) -> str: ...


class Deliver(Protocol):
    """Queues an event for a function whose policy allows it."""

    async def __call__(self, trigger: Any) -> None: ...
