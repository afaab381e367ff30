"""One operation on one stack: resources made, changed and removed over the graph, side by side.

Everything is written before and after each step, so that a deployment that was cut off can be taken up: what had been
begun is found again by `ResourceType.find`, and the stack rolls back (`Deployment.recover`).

Statuses follow the CloudFormation User Guide, "Stack status codes".
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.deploy import policies
from lambay.deploy.records import Output
from lambay.deploy.steps import Steps
from lambay.deploy.types.cloudformation import failed

_INTERRUPTED = "The server was stopped while this was under way."


class Deployment(Steps):
    """The operations on a stack."""

    def cancel(self, reason: str) -> None:
        """Begin nothing new, wait for nobody's signals, and roll back."""
        self._cancelled = reason
        self._ending.set()

    # -- the operations ------------------------------------------------------------------------------------

    async def create(self) -> None:
        if not await self._converge():
            await self._create_failed()
            return
        try:
            outputs = self._outputs()
        except AWSError as error:
            await self._create_failed(error.message)
            return
        alarm = await self._monitored()
        if alarm:
            await self._create_failed(alarm)
            return
        await self._commit_resources()
        await self._tell("CREATE_COMPLETE", outputs=outputs, imports=self._imports())

    async def _monitored(self) -> str:
        """Why the operation must not stand, after the time for which its rollback triggers are watched."""
        watched = self.stack.rollback_configuration or {}
        trigger = self._alarming(self.stack)
        if trigger is not None:
            return f"Rollback trigger {trigger} is in ALARM."
        minutes = watched.get("MonitoringTimeInMinutes", 0) if watched.get("RollbackTriggers") else 0
        if minutes and not self._cancelled:
            hour = asyncio.ensure_future(self._book.clock.sleep(minutes * 60))
            ending = asyncio.ensure_future(self._ending.wait())
            try:
                await asyncio.wait({hour, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                hour.cancel()
                ending.cancel()
        return self._cancelled

    def alarmed(self) -> None:
        """An alarm has changed: where a rollback trigger is in ALARM, the operation is over."""
        trigger = self._alarming(self.stack)
        if trigger is not None and self.stack.status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
            self.cancel(f"Rollback trigger {trigger} is in ALARM.")

    async def _create_failed(self, because: str = "") -> None:
        reason = because or self._said("create")
        mode = "DO_NOTHING" if self.stack.disable_rollback else self.stack.on_failure
        if mode == "DO_NOTHING":
            await self._tell("CREATE_FAILED", reason)
        elif mode == "DELETE":
            await self._tell("DELETE_IN_PROGRESS", reason)
            await self.delete()
        else:
            await self._tell("ROLLBACK_IN_PROGRESS", f"{reason} Rollback requested by user.")
            await self.roll_back_creation()

    async def roll_back_creation(self) -> None:
        if await self._remove(self.records.values(), creating=True):
            await self._tell("ROLLBACK_COMPLETE", outputs=(), imports=())
        else:
            await self._tell("ROLLBACK_FAILED", self._said("delete"))

    async def update(self) -> None:
        converged = await self._may_remove() and await self._converge()
        outputs: tuple[Output, ...] = ()
        because = self._cancelled
        if converged and not because:
            try:
                outputs = self._outputs()
            except AWSError as error:
                because = error.message
            because = because or await self._monitored()
        if not converged or because:
            reason = because or self._said("update")
            if self.stack.disable_rollback:
                await self._tell("UPDATE_FAILED", reason)
                return
            await self._tell("UPDATE_ROLLBACK_IN_PROGRESS", reason)
            await self.roll_back_update()
            return
        await self._tell(
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", outputs=outputs, imports=self._imports(), before=None
        )
        await self.clean_up()

    async def _may_remove(self) -> bool:
        """Whether the stack's policy lets go what the new template does without."""
        present = set(self._plan.present())
        policy = self.stack.policy_during_update or self.stack.policy
        for record in self.records.values():
            refused = policies.refusal(policy, "Update:Delete", record.name, record.type)
            if record.name not in present and refused is not None:
                await self._failed(replace(record, before=record.now), "UPDATE_FAILED", failed(refused))
        return not self._failures

    async def clean_up(self) -> None:
        """What the new template does without is removed; what cannot be is left, as in CloudFormation."""
        present = set(self._plan.present())
        records = self.records
        for record in records.values():
            if record.name in present and record.before is not None and record.before.id != record.now.id:
                await self._write(
                    replace(record, retired=(*record.retired, record.before), before=None, touched=False)
                )
            elif record.name in present and (record.touched or record.before is not None):
                await self._write(replace(record, before=None, touched=False))
        await self._remove(self.records.values(), keep=present)
        await self._tell("UPDATE_COMPLETE")

    async def roll_back_update(self) -> None:
        """Back to `before`: what was changed in place is changed back, what was replaced is taken up again."""
        self._failures.clear()
        records = {name: record for name, record in self.records.items() if record.touched}
        skip = set(self.stack.skip)
        waits = {name: [need for need in record.needs if need in records] for name, record in records.items()}
        await self._over(waits, lambda name: self._restore(name, skip))
        if self._failures:
            await self._tell("UPDATE_ROLLBACK_FAILED", self._said("update"))
            return
        before = self.stack.before
        shape = self.stack.shape if before is None else before
        await self._tell("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", shape=shape, before=None)
        await self.clean_up_rollback()

    async def clean_up_rollback(self) -> None:
        kept = {
            name for name, record in self.records.items() if not record.touched or record.before is not None
        }
        for record in self.records.values():
            if record.name in kept and record.touched:
                await self._write(replace(record, before=None, touched=False))
        await self._remove(self.records.values(), keep=kept, creating=True)
        await self._tell("UPDATE_ROLLBACK_COMPLETE", skip=())

    async def delete(self) -> None:
        self._failures.clear()
        if await self._remove(self.records.values(), deleting=True):
            await self._tell("DELETE_COMPLETE", deleted=self._book.clock.time(), outputs=(), imports=())
        else:
            await self._tell("DELETE_FAILED", self._said("delete"))

    async def recover(self) -> None:
        """Take up what a stop of the server cut off."""
        status = self.stack.status
        if status == "CREATE_IN_PROGRESS":
            await self._interrupted("CREATE_FAILED")
            await self._create_failed(_INTERRUPTED)
        elif status == "ROLLBACK_IN_PROGRESS":
            await self.roll_back_creation()
        elif status == "DELETE_IN_PROGRESS":
            await self.delete()
        elif status == "UPDATE_IN_PROGRESS":
            await self._interrupted("UPDATE_FAILED")
            await self._tell("UPDATE_ROLLBACK_IN_PROGRESS", _INTERRUPTED)
            await self.roll_back_update()
        elif status == "UPDATE_ROLLBACK_IN_PROGRESS":
            await self.roll_back_update()
        elif status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
            await self.clean_up()
        elif status == "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS":
            await self.clean_up_rollback()

    async def _interrupted(self, status: str) -> None:
        for record in self.records.values():
            if record.status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
                await self._book.tell(self.stack, replace(record, status=status, reason=_INTERRUPTED))
