"""A stack's events to the topics in `NotificationARNs`, in their order.

See the CloudFormation User Guide, "Stack event notifications". What waits when the server is killed is not sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from lambay.aws import AWSError
from lambay.deploy.records import Event, Stack
from lambay.deploy.types.base import Call

_log = logging.getLogger("lambay.deploy")


def body(event: Event, principal: str, account: str) -> str:
    """The message: one `Name='value'` a line."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {
        "StackId": event.stack,
        "Timestamp": at,
        "EventId": event.id,
        "LogicalResourceId": event.resource,
        "Namespace": account,
        "PhysicalResourceId": event.physical,
        "PrincipalId": principal,
        "ResourceProperties": event.properties or "null",
        "ResourceStatus": event.status,
        "ResourceStatusReason": event.reason,
        "ResourceType": event.type,
        "StackName": event.stack_name,
        "ClientRequestToken": event.token or "null",
    }
    return "".join(f"{name}='{value}'\n" for name, value in said.items())


class Notifications:
    """`acting(stack)` is the API as whoever deploys the stack."""

    def __init__(self, acting: Callable[[Stack], Awaitable[Call]]) -> None:
        self._acting = acting
        self._waiting: asyncio.Queue[tuple[Stack, Event]] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None

    def tell(self, stack: Stack, event: Event) -> None:
        """An event that is stored."""
        if not stack.shape.notification_arns:
            return
        self._waiting.put_nowait((stack, event))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="stack notifications")

    async def _send(self) -> None:
        while not self._waiting.empty():
            stack, event = self._waiting.get_nowait()
            for topic in stack.shape.notification_arns:
                message = {
                    "TopicArn": topic,
                    "Subject": "AWS CloudFormation Notification",
                    "Message": body(event, stack.caller.user_id, stack.account),
                }
                try:
                    await (await self._acting(stack))("sns", "Publish", message)
                except AWSError as error:
                    _log.warning("%s's event was not published to %s: %s", stack.name, topic, error.message)

    async def stop(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
