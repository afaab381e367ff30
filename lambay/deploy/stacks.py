"""`Stacks`: the service `cloudformation`, put together from its families of operations."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from msgspec.structs import replace

from lambay.aws import Arn, AWSError
from lambay.clock import Clock
from lambay.deploy.book import Book
from lambay.deploy.notifications import Notifications
from lambay.deploy.planning import Planner
from lambay.deploy.ports import Alarms, Client, Roles
from lambay.deploy.reading_operations import ReadingOperations
from lambay.deploy.records import Stack
from lambay.deploy.room import Room
from lambay.deploy.signals import Signals
from lambay.deploy.template_operations import TemplateOperations
from lambay.deploy.types.base import Call
from lambay.http import Request, Response
from lambay.settings import Settings
from lambay.store import Store

_log = logging.getLogger("lambay.deploy")


class Stacks(TemplateOperations, ReadingOperations):
    """AWS CloudFormation. `start` before the first call, `stop` after the last."""

    service_name: ClassVar[str] = "cloudformation"

    def __init__(
        self,
        store: Store,
        client: Client,
        roles: Roles,
        alarms: Alarms | None,
        settings: Settings,
        clock: Clock,
        inside: str,
    ) -> None:
        """`inside` is the URL by which functions reach this server."""
        book = Book(store, clock)
        self._room = Room(
            book=book,
            planner=Planner(book.exported),
            client=client,
            roles=roles,
            alarms=alarms,
            signals=Signals(store, clock, f"http://{settings.host}:{settings.port}", inside),
            clock=clock,
        )
        self._tasks = {}
        self._deployments = {}
        self._notifications = Notifications(self._acting)
        book.on_event(self._notifications.tell)
        if alarms is not None:
            alarms.on_change(self._alarm_changed)

    async def _acting(self, stack: Stack) -> Call:
        return await self._call_as(stack.caller, stack.role_arn, stack.account, stack.region)

    def _alarm_changed(self, change: object) -> None:
        for deployment in list(self._deployments.values()):
            deployment.alarmed()

    async def start(self) -> None:
        """Take up what a stop cut off: stacks under way roll back or finish."""
        for stack in self._room.book.stacks:
            if stack.in_progress:
                self._begin(stack, self._recover(stack.key))

    async def _recover(self, key: str) -> None:
        stack = self._room.book.stacks[key]
        try:
            deployment = await self._deployment(stack)
        except AWSError as error:
            _log.error("the stack %s cannot be taken up: %s", stack.name, error.message)
            failed = stack.status.removesuffix("_COMPLETE_CLEANUP_IN_PROGRESS").removesuffix("_IN_PROGRESS")
            await self._room.book.tell_stack(stack, f"{failed}_FAILED", error.message)
            return
        await deployment.recover()

    async def stop(self) -> None:
        """End what is under way; the next start takes it up."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._notifications.stop()

    async def reset(self) -> None:
        """Forget what is under way; the store's owner has cleared the records."""
        await self.stop()

    async def adopt(self, stack_arn: str, parent_arn: str) -> None:
        """Make a stack another's child."""
        book = self._room.book
        child, parent = (book.stacks[_key(one)] for one in (stack_arn, parent_arn))
        await book.save(replace(child, parent=parent.arn, root=parent.root or parent.arn))

    async def handle_signal(self, request: Request) -> Response:
        """`PUT /_lambay/signal/…`: an answer to a wait condition or of a custom resource."""
        return await self._room.signals.handle(request)

    def summary(self) -> dict[str, int]:
        """Counts for `lambay status`."""
        there = [one for one in self._room.book.stacks if one.status != "DELETE_COMPLETE"]
        return {"stacks": len(there), "under_way": sum(one.in_progress for one in there)}


def _key(arn: str) -> str:
    parsed = Arn.parse(arn)
    return f"{parsed.account}/{parsed.region}/{arn.rpartition('/')[2]}"
