"""What one operation does to one resource, and to many over the graph, side by side.

Everything is written before and after each step, so that a deployment that was cut off can be taken up: what had been
begun is found again by `ResourceType.find`. What is done in which order, and the stack's statuses: `deployment`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace as replace_at
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.deploy import policies
from lambay.deploy.book import Book
from lambay.deploy.planning import Plan, dynamic, resolved_outputs
from lambay.deploy.reasons import reason_of
from lambay.deploy.records import Output, Physical, Resource, Stack
from lambay.deploy.template.errors import faulty
from lambay.deploy.template.functions import resolve
from lambay.deploy.template.template import Resource as Declared
from lambay.deploy.types.base import At, Call, Made, Nested, ResourceType, Signals
from lambay.deploy.types.cloudformation import failed
from lambay.deploy.types.registry import resource_type

_log = logging.getLogger("lambay.deploy")


class Stop(Exception):
    """The operation is over as far as this resource is concerned: another one failed."""


class Steps:
    """`call` is the API as the stack's principal; `alarming` names an alarm that a rollback trigger watches."""

    def __init__(
        self,
        book: Book,
        stack: Stack,
        plan: Plan,
        call: Call,
        signals: Signals,
        nested: Nested,
        alarming: Callable[[Stack], str | None] = lambda stack: None,
    ) -> None:
        self._book = book
        self._key = stack.key
        self._plan = plan
        self._call = call
        self._signals = signals
        self._nested = nested
        self._alarming = alarming
        self._failures: list[str] = []
        self._ending = asyncio.Event()
        self._cancelled = ""

    @property
    def stack(self) -> Stack:
        return self._book.stacks[self._key]

    @property
    def records(self) -> dict[str, Resource]:
        return self._book.of(self.stack)

    # -- towards a template --------------------------------------------------------------------------------

    async def _converge(self) -> bool:
        """Make and change what the plan wants; False where something failed."""
        self._failures.clear()
        if not self._cancelled:
            self._ending.clear()
        present = self._plan.present()
        waits = self._plan.template.dependencies(present)
        await self._over({name: list(waits[name]) for name in present}, self._settle)
        return not self._failures and not self._cancelled

    async def _over(
        self, waits: Mapping[str, Collection[str]], work: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        """`work` on each name once all that it waits for is done; after a failure nothing new is begun."""
        tasks: dict[str, asyncio.Task[None]] = {}

        async def one(name: str) -> None:
            for need in waits[name]:
                if need in tasks:
                    await tasks[need]
            if self._failures or self._cancelled:
                raise Stop
            await work(name)

        async with asyncio.TaskGroup() as group:
            for name in waits:
                tasks[name] = group.create_task(self._alone(one(name)))

    async def _alone(self, work: Coroutine[Any, Any, None]) -> None:
        """Failures are written down where they happen; here they only keep others from being begun."""
        try:
            await work
        except Stop:
            return

    async def _settle(self, name: str) -> None:
        declared = self._plan.template.resources[name]
        record = self.records.get(name)
        entry = resource_type(declared.type)
        try:
            properties = await self._properties(declared, entry)
            faults = entry.faults(properties)
            if faults:
                raise failed(
                    f"Properties validation failed for resource {name} with message:\n" + "\n".join(faults)
                )
        except AWSError as error:
            blank = record or self._blank(declared, {})
            if record is None:
                # Nothing was begun: there is nothing to be found.
                blank = replace(blank, now=replace(blank.now, token=""))
            status = "CREATE_FAILED" if record is None else "UPDATE_FAILED"
            await self._failed(
                replace(blank, touched=True, before=record.now if record else None), status, error
            )
            return
        if record is not None and not record.now.id:
            # A failed creation that was not rolled back: what it left goes before the next attempt.
            at = self._at(record, record.now)
            for id in await self._found(record, entry, at, record.now):
                await entry.delete(at, id, record.now.properties)
            record = None
        if record is None:
            await self._make(self._blank(declared, properties), entry)
            return
        record = self._noted(record, declared)
        if properties == record.now.properties and not entry.always_updates:
            await self._write(record)
            return
        refused = self._refused(record, entry, properties)
        if refused is not None:
            await self._failed(replace(record, before=record.now), "UPDATE_FAILED", failed(refused))
        elif entry.replaced_by(record.now.properties, properties):
            await self._replace(record, entry, properties)
        else:
            await self._change(record, entry, properties)

    def _refused(self, record: Resource, entry: ResourceType, properties: dict[str, Any]) -> str | None:
        """What the stack's policy says against a change."""
        stack = self.stack
        replacing = entry.replaced_by(record.now.properties, properties)
        action = "Update:Replace" if replacing else "Update:Modify"
        policy = stack.policy_during_update or stack.policy
        return policies.refusal(policy, action, record.name, record.type)

    def _blank(self, declared: Declared, properties: dict[str, Any]) -> Resource:
        made = Resource(
            name=declared.name,
            type=declared.type,
            status="CREATE_IN_PROGRESS",
            now=Physical(token=_token(), properties=properties),
            touched=True,
        )
        return self._noted(made, declared)

    def _noted(self, record: Resource, declared: Declared) -> Resource:
        """What a record keeps of the template for later operations."""
        return replace(
            record,
            needs=tuple(sorted(declared.references & set(self._plan.template.resources) - {declared.name})),
            deletion_policy=declared.deletion_policy,
            update_replace_policy=declared.update_replace_policy,
        )

    async def _properties(self, declared: Declared, entry: ResourceType) -> dict[str, Any]:
        scope = self._plan.within(self._ref, self._attribute)
        properties = await dynamic(resolve(dict(declared.properties), scope), self._call)
        schema = entry.schema
        if schema is not None:
            properties = schema.tagged(properties, self._plan.tags)
        return entry.coerce(properties)

    def _ref(self, name: str) -> str:
        record = self._book.resources.get(f"{self._key}/{name}")
        if record is None or not record.now.id:
            raise faulty(f"the resource {name} is not there: its condition is false")
        return record.now.id

    def _attribute(self, name: str, attribute: str) -> Any:
        record = self._book.resources.get(f"{self._key}/{name}")
        if record is None or not record.now.id:
            raise faulty(f"the resource {name} is not there: its condition is false")
        found = record.now.attributes
        if attribute in found:
            return found[attribute]
        first, dot, rest = attribute.partition(".")
        if dot and isinstance(found.get(first), Mapping) and rest in found[first]:
            return found[first][rest]
        raise faulty(f"resource {name} does not support attribute type {attribute} in Fn::GetAtt")

    async def _make(self, record: Resource, entry: ResourceType) -> None:
        await self._book.tell(self.stack, record)
        await self._warn(record, entry)
        await self._produce(record, entry, "CREATE")

    async def _produce(self, record: Resource, entry: ResourceType, verb: str) -> None:
        """A new physical resource. Where no call of its creation was granted there is nothing of ours, and `find`
        must not take another's thing of the same name for it.
        """
        call = _Watched(self._call)
        at = replace_at(self._at(record, record.now), aws=call)
        work = entry.create(at, record.now.properties)
        await self._finish(record, work, verb, nothing=lambda: not call.changed)

    async def _replace(self, record: Resource, entry: ResourceType, properties: dict[str, Any]) -> None:
        reason = "Requested update requires the creation of a new physical resource; hence creating one."
        await self._book.tell(
            self.stack,
            replace(record, status="UPDATE_IN_PROGRESS", reason=reason, before=record.now, touched=True),
        )
        record = replace(
            record,
            before=record.now,
            now=Physical(token=_token(), properties=properties),
            touched=True,
            status="UPDATE_IN_PROGRESS",
            reason=reason,
        )
        await self._book.tell(self.stack, record, quiet=True)
        await self._warn(record, entry)
        await self._produce(record, entry, "UPDATE")

    async def _change(self, record: Resource, entry: ResourceType, properties: dict[str, Any]) -> None:
        before = record.now
        record = replace(
            record,
            before=before,
            now=replace(before, properties=properties),
            touched=True,
            status="UPDATE_IN_PROGRESS",
            reason="",
        )
        await self._book.tell(self.stack, record)
        await self._warn(record, entry)
        at = self._at(record, before)
        await self._finish(record, entry.update(at, before.id, properties, before.properties), "UPDATE")

    async def _finish(
        self,
        record: Resource,
        work: Coroutine[Any, Any, Made],
        verb: str,
        nothing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`nothing`: whether a failed creation has left nothing behind."""
        try:
            made = await work
        except AWSError as error:
            if nothing():
                record = replace(record, now=replace(record.now, token=""))
            await self._failed(record, f"{verb}_FAILED", error)
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.exception("%s %s of %s broke", verb, record.type, record.name)
            await self._failed(
                record, f"{verb}_FAILED", failed(f"An internal error occurred: {type(error).__name__}")
            )
            return
        attributes = dict(made.attributes)
        if made.id == record.now.id and not attributes:
            # Such as an access key's secret, which is told once.
            attributes = record.now.attributes
        now = replace(record.now, id=made.id, attributes=attributes, type=record.type)
        done = replace(record, now=now, status=f"{verb}_COMPLETE", reason="")
        if not record.now.id:
            begun = replace(done, status=f"{verb}_IN_PROGRESS", reason="Resource creation Initiated")
            await self._book.tell(self.stack, begun)
        await self._book.tell(self.stack, done)

    async def _failed(self, record: Resource, status: str, error: AWSError) -> None:
        physical = error.members.get("physical")
        now = replace(record.now, id=physical) if physical and not record.now.id else record.now
        self._failures.append(record.name)
        self._ending.set()
        reason = f"{reason_of(error)}{self._advice(record, error)}"
        await self._book.tell(
            self.stack, replace(record, now=now, status=status, reason=reason, touched=True)
        )

    def _advice(self, record: Resource, error: AWSError) -> str:
        """EFS's well-known trap: nothing in a function's properties makes it wait for the mount targets."""
        if record.type != "AWS::Lambda::Function" or "FileSystemConfigs" not in record.now.properties:
            return ""
        if "mount target" not in error.message.lower():
            return ""
        targets = [
            one.name for one in self._plan.template.resources.values() if one.type == "AWS::EFS::MountTarget"
        ]
        missing = [name for name in targets if name not in record.needs]
        if not missing:
            return ""
        return (
            f" A function does not wait for mount targets by itself: add to {record.name} "
            f"DependsOn: [{', '.join(missing)}]."
        )

    async def _warn(self, record: Resource, entry: ResourceType) -> None:
        for warning in entry.warnings(record.now.properties):
            await self._book.note(
                self.stack, record.name, record.now.id, record.type, record.status, f"Warning: {warning}"
            )

    # -- back to what was ----------------------------------------------------------------------------------

    async def _restore(self, name: str, skip: Collection[str]) -> None:
        record = self.records[name]
        before = record.before
        if before is None or name in skip:
            return
        if before.id != record.now.id:
            retired = (*record.retired, record.now)
            restored = replace(record, now=before, retired=retired, status="UPDATE_COMPLETE", reason="")
            await self._book.tell(self.stack, restored)
            return
        if before.properties == record.now.properties:
            await self._book.tell(
                self.stack, replace(record, now=before, status="UPDATE_COMPLETE", reason="")
            )
            return
        entry = resource_type(record.type)
        await self._book.tell(self.stack, replace(record, status="UPDATE_IN_PROGRESS", reason=""))
        try:
            made = await entry.update(
                self._at(record, before, back=True), before.id, before.properties, record.now.properties
            )
        except AWSError as error:
            self._failures.append(name)
            await self._book.tell(
                self.stack, replace(record, status="UPDATE_FAILED", reason=reason_of(error))
            )
            return
        retired = record.retired
        if made.id != before.id:
            retired = (*retired, record.now)
        back = replace(before, id=made.id, attributes=dict(made.attributes) or before.attributes)
        await self._book.tell(
            self.stack, replace(record, now=back, retired=retired, status="UPDATE_COMPLETE", reason="")
        )

    # -- taking away ---------------------------------------------------------------------------------------

    async def _remove(
        self,
        records: Iterable[Resource],
        *,
        keep: Collection[str] = (),
        creating: bool = False,
        deleting: bool = False,
    ) -> bool:
        """Remove those that are not in `keep`, and what the kept ones have put aside; False where one stays.

        What depends on another goes first. `creating` is the rollback of what made them.
        """
        self._failures.clear()
        self._cancelled = ""
        listed = {record.name: record for record in records}
        waits: dict[str, list[str]] = {name: [] for name in listed}
        for dependent in listed.values():
            for need in dependent.needs:
                if need in waits:
                    waits[need].append(dependent.name)

        async def one(name: str) -> None:
            record = listed[name]
            for aside in record.retired:
                await self._retire(record, aside, replaced=True, creating=creating)
            if name not in keep:
                await self._retire(record, record.now, replaced=False, creating=creating, deleting=deleting)

        # A failure does not keep unrelated ones from going.
        await self._every(waits, one)
        return not self._failures

    async def _every(
        self, waits: Mapping[str, Collection[str]], work: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        tasks: dict[str, asyncio.Task[None]] = {}

        async def one(name: str) -> None:
            for need in waits[name]:
                await tasks[need]
            if not any(need in self._failures for need in waits[name]):
                await work(name)
            else:
                self._failures.append(name)

        async with asyncio.TaskGroup() as group:
            for name in waits:
                tasks[name] = group.create_task(one(name))

    async def _retire(
        self, record: Resource, physical: Physical, *, replaced: bool, creating: bool, deleting: bool = False
    ) -> None:
        policy = record.update_replace_policy if replaced and not creating else record.deletion_policy
        made_now = creating and (record.before is None or replaced)
        kept = (policy == "Retain" and physical.id) or (policy == "RetainExceptOnCreate" and not made_now)
        if made_now and self.stack.retain_except_on_create:
            kept = False
        if replaced and creating:
            # Rolled back: the new thing goes whatever the policy says of the old one.
            kept = False
        if record.name in self.stack.retain and deleting:
            kept = True
        if kept:
            await self._away(record, physical, "DELETE_SKIPPED", "", replaced=replaced)
            return
        entry = resource_type(record.type)
        at = self._at(record, physical)
        try:
            ids = [physical.id] if physical.id else await self._found(record, entry, at, physical)
            if ids:
                leaving = replace(record, status="DELETE_IN_PROGRESS", reason="")
                await self._book.tell(self.stack, leaving, physical=ids[0], quiet=replaced)
                if replaced:
                    await self._book.note(self.stack, record.name, ids[0], record.type, "DELETE_IN_PROGRESS")
            for id in ids:
                await entry.delete(at, id, physical.properties)
        except AWSError as error:
            if replaced:
                await self._book.note(
                    self.stack, record.name, physical.id, record.type, "DELETE_FAILED", reason_of(error)
                )
                return
            self._failures.append(record.name)
            await self._book.tell(
                self.stack, replace(record, status="DELETE_FAILED", reason=reason_of(error))
            )
            return
        await self._away(record, physical, "DELETE_COMPLETE", "", replaced=replaced)

    async def _away(
        self, record: Resource, physical: Physical, status: str, reason: str, *, replaced: bool
    ) -> None:
        current = self.records.get(record.name, record)
        if replaced:
            left = tuple(
                one for one in current.retired if one.token != physical.token or one.id != physical.id
            )
            await self._write(replace(current, retired=left, status=record.status, reason=record.reason))
            await self._book.note(self.stack, record.name, physical.id, record.type, status, reason)
            return
        await self._book.tell(self.stack, replace(current, status=status, reason=reason))
        await self._book.forget(self.stack, current)

    async def _found(self, record: Resource, entry: ResourceType, at: At, physical: Physical) -> list[str]:
        """What an interrupted or failed creation may have left."""
        if not physical.token:
            return []
        known = {one.id for one in (record.now, *record.retired) if one.id}
        if record.before is not None:
            known.add(record.before.id)
        return [id for id in await entry.find(at, physical.properties) if id not in known]

    # -- small things --------------------------------------------------------------------------------------

    def _at(self, record: Resource, physical: Physical, *, back: bool = False) -> At:
        """`back` is a rollback: what the update policy says of going forwards does not count."""
        stack = self.stack
        return At(
            aws=self._call,
            account=stack.account,
            region=stack.region,
            stack=stack.name,
            stack_arn=stack.arn,
            resource=record.name,
            type_name=record.type,
            token=physical.token or record.now.token,
            changed=self._book.store.next_commit,
            signals=self._signals,
            nested=self._nested,
            update_policy={} if back else self._policy(record.name, "update_policy"),
            creation_policy=self._policy(record.name, "creation_policy"),
            ending=self._ending,
        )

    def _policy(self, name: str, kind: str) -> Mapping[str, Any]:
        """A resource's `update_policy` or `creation_policy`, resolved; one that refers to what is not there yet says
        nothing.
        """
        declared = self._plan.template.resources.get(name)
        given = getattr(declared, kind, None)
        if given is None:
            return {}
        try:
            found = resolve(dict(given), self._plan.within(self._ref, self._attribute))
        except AWSError:
            return {}
        return found if isinstance(found, dict) else {}

    def _outputs(self) -> tuple[Output, ...]:
        scope = self._plan.within(self._ref, self._attribute)
        made = tuple(
            Output(key=key, value=value, description=description, export=export)
            for key, value, description, export in resolved_outputs(self._plan, scope)
        )
        stack = self.stack
        for output in made:
            if output.export is None:
                continue
            for name, _, owner in self._book.exports(stack.account, stack.region):
                if name == output.export and owner.arn != stack.arn:
                    raise failed(
                        f"Export with name {name} is already exported by stack {owner.name}. "
                        "Rollback requested by user."
                    )
        new = {output.export: output.value for output in made}
        for output in stack.outputs:
            if output.export is not None and new.get(output.export) != output.value:
                users = [one.name for one in self._book.importers(stack.account, stack.region, output.export)]
                if users:
                    what = "updated" if output.export in new else "deleted"
                    raise failed(
                        f"Export {output.export} cannot be {what} as it is in use by {' and '.join(users)}"
                    )
        return made

    def _imports(self) -> tuple[str, ...]:
        return tuple(sorted(self._plan.scope.imported))

    async def _commit_resources(self) -> None:
        changes = [
            self._book.resources.put(f"{self._key}/{name}", replace(record, before=None, touched=False))
            for name, record in self.records.items()
        ]
        await self._book.store.commit(*changes)

    async def _write(self, record: Resource) -> None:
        await self._book.store.commit(self._book.resources.put(f"{self._key}/{record.name}", record))

    async def _tell(self, status: str, reason: str = "", **changes: Any) -> None:
        updated = {} if status.endswith("IN_PROGRESS") else {"updated": self._book.clock.time()}
        if status in ("CREATE_COMPLETE", "CREATE_FAILED", "ROLLBACK_COMPLETE", "DELETE_COMPLETE"):
            updated = {}
        await self._book.tell_stack(self.stack, status, reason, **updated, **changes)

    def _said(self, verb: str) -> str:
        if self._cancelled:
            return self._cancelled
        names = ", ".join(dict.fromkeys(self._failures))
        return f"The following resource(s) failed to {verb}: [{names}]."


class _Watched:
    """The API, and whether something was changed through it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.changed = False

    async def __call__(self, service: str, operation: str, input: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._call(service, operation, input)
        self.changed = self.changed or not operation.startswith(("Describe", "Get", "List"))
        return answer


def _token() -> str:
    return secrets.token_hex(16)
