"""The records of all stacks: finding them, writing them, and the events that go with every change."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from lambay.aws import arn
from lambay.clock import Clock
from lambay.deploy.records import ChangeSet, Event, Resource, Stack
from lambay.deploy.template.errors import invalid
from lambay.store import Change, Store

STACK = "AWS::CloudFormation::Stack"


class Book:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.stacks = store.collection("deploy.stacks", Stack)
        self.resources = store.collection("deploy.resources", Resource)
        self.events = store.collection("deploy.events", Event)
        self._listeners: list[Callable[[Stack, Event], None]] = []
        self.change_sets = store.collection("deploy.change-sets", ChangeSet)

    def on_event(self, listener: Callable[[Stack, Event], None]) -> None:
        """Have `listener` called with each event, once it is stored."""
        self._listeners.append(listener)

    async def _commit(self, stack: Stack, event: Event, *changes: Change) -> None:
        await self.store.commit(*changes, self.events.put(f"{stack.key}/{stack.events:08d}", event))
        for listener in self._listeners:
            listener(stack, event)

    # -- finding -------------------------------------------------------------------------------------------

    def live(self, account: str, region: str) -> Iterator[Stack]:
        """The stacks that are there, the newest first."""
        there = self.stacks.under(f"{account}/{region}/")
        return iter(
            sorted((one for one in there if one.status != "DELETE_COMPLETE"), key=lambda one: -one.created)
        )

    def find(self, account: str, region: str, name: str) -> Stack | None:
        """By name, or by ARN: then deleted ones as well."""
        if name.startswith("arn:"):
            return self.stacks.get(f"{account}/{region}/{name.rpartition('/')[2]}")
        return next((one for one in self.live(account, region) if one.name == name), None)

    def stack(
        self, account: str, region: str, name: str, *, message: str = "Stack [{}] does not exist"
    ) -> Stack:
        found = self.find(account, region, name)
        if found is None:
            raise invalid(message.format(name))
        return found

    def of(self, stack: Stack) -> dict[str, Resource]:
        return {one.name: one for one in self.resources.under(f"{stack.key}/")}

    def exports(self, account: str, region: str) -> Iterator[tuple[str, str, Stack]]:
        """Name, value and stack of every export."""
        for stack in self.live(account, region):
            for output in stack.outputs:
                if output.export is not None:
                    yield output.export, output.value, stack

    def exported(self, account: str, region: str, name: str) -> str | None:
        return next((value for export, value, _ in self.exports(account, region) if export == name), None)

    def importers(self, account: str, region: str, name: str) -> list[Stack]:
        return [stack for stack in self.live(account, region) if name in stack.imports]

    # -- writing -------------------------------------------------------------------------------------------

    async def save(self, stack: Stack, *others: Change) -> Stack:
        await self.store.commit(self.stacks.put(stack.key, stack), *others)
        return stack

    async def tell_stack(self, stack: Stack, status: str, reason: str = "", **changes: Any) -> Stack:
        """The stack in a new status, with its event."""
        known = self.stacks.get(stack.key) or stack
        current = replace(known, status=status, reason=reason, **changes)
        current, event = self._event(current, current.name, current.arn, STACK, status, reason, None)
        await self._commit(current, event, self.stacks.put(current.key, current))
        return current

    async def tell(
        self, stack: Stack, resource: Resource, *, physical: str | None = None, quiet: bool = False
    ) -> None:
        """A resource's record with the event of its status; `physical` is the event's id where it is another's."""
        resource = replace(resource, at=self.clock.time())
        changes = [self.resources.put(f"{stack.key}/{resource.name}", resource)]
        if quiet:
            await self.store.commit(*changes)
        else:
            properties = msgspec.json.encode(resource.now.properties).decode()
            current, event = self._event(
                self.stacks[stack.key],
                resource.name,
                resource.now.id if physical is None else physical,
                resource.type,
                resource.status,
                resource.reason,
                properties,
            )
            await self._commit(current, event, *changes, self.stacks.put(current.key, current))

    async def note(
        self, stack: Stack, name: str, physical: str, kind: str, status: str, reason: str = ""
    ) -> None:
        """An event that changes no record of a resource."""
        current, event = self._event(self.stacks[stack.key], name, physical, kind, status, reason, None)
        await self._commit(current, event, self.stacks.put(current.key, current))

    async def forget(self, stack: Stack, resource: Resource) -> None:
        """A resource is no part of the stack any more."""
        await self.store.commit(self.resources.remove(f"{stack.key}/{resource.name}"))

    def _event(
        self,
        stack: Stack,
        name: str,
        physical: str,
        kind: str,
        status: str,
        reason: str,
        properties: str | None,
    ) -> tuple[Stack, Event]:
        number = stack.events + 1
        counted = replace(stack, events=number)
        event = Event(
            id=str(uuid.uuid4()),
            stack=stack.arn,
            stack_name=stack.name,
            resource=name,
            physical=physical,
            type=kind,
            at=self.clock.time(),
            status=status,
            reason=reason,
            properties=properties,
            token=stack.token,
        )
        return counted, event

    def history(self, stack: Stack) -> list[Event]:
        """Newest first."""
        return self.events.under(f"{stack.key}/")[::-1]

    def change_sets_of(self, stack: Stack) -> list[ChangeSet]:
        return self.change_sets.under(f"{stack.key}/")


def stack_arn(account: str, region: str, name: str) -> str:
    return arn("cloudformation", region, account, f"stack/{name}/{uuid.uuid4()}")
