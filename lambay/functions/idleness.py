"""Functions in a VPC that nobody has invoked for weeks: their network interfaces are given back.

Such a version is Inactive; the next invocation is refused and brings it back, through Pending. See "Lambda function
states" in the Developer Guide.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from lambay.clock import Clock
from lambay.functions.lifecycle import RESTORING_CODE, Lifecycle
from lambay.functions.records import LastUse, Version, revision
from lambay.functions.resources import Resources

_log = logging.getLogger(__name__)

IDLE_S = 14 * 86_400
_LOOK_EVERY_S = 86_400


class Idleness:
    """Told of every invocation; looks once a day, by the clock."""

    def __init__(self, resources: Resources, lifecycle: Lifecycle, clock: Clock) -> None:
        self._resources = resources
        self._lifecycle = lifecycle
        self._clock = clock
        self._used: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def used(self, version: Version) -> None:
        """An invocation of it begins."""
        self._used[version.key] = self._clock.time()

    def start(self) -> None:
        self._spawn(self._serve())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keep()

    def awaken(self, version: Version) -> None:
        """Bring an Inactive version back, soon."""
        self._spawn(self._awaken(version.key, version.function_key))

    async def _serve(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """Put to sleep what has been idle for too long."""
        await self._keep()
        kept = self._resources.last_uses
        now = self._clock.time()
        for version in self._resources.versions:
            known = kept.get(version.key)
            since = max(known.at if known else 0.0, version.last_modified.timestamp())
            if _in_vpc(version) and version.state == "Active" and now - since > IDLE_S:
                await self._put_to_sleep(version.key, version.function_key)

    async def _keep(self) -> None:
        """Write down what was used; a kill loses a day of it at most."""
        kept, versions = self._resources.last_uses, self._resources.versions
        changes = [kept.put(key, LastUse(at)) for key, at in self._used.items() if key in versions]
        changes += [kept.remove(key) for key, _ in kept.items() if key not in versions]
        self._used.clear()
        if changes:
            await self._resources.commit(*changes)

    async def _put_to_sleep(self, key: str, function_key: str) -> None:
        async with self._resources.exclusive(function_key):
            version = self._resources.versions.get(key)
            if version is None or version.state != "Active" or version.update_status == "InProgress":
                return
            asleep = _changed(version, "Inactive", "The function is idle.", "Idle")
            await self._resources.commit(self._resources.versions.put(key, asleep))
        self._lifecycle.retire(asleep)

    async def _awaken(self, key: str, function_key: str) -> None:
        async with self._resources.exclusive(function_key):
            version = self._resources.versions.get(key)
            if version is None or version.state != "Inactive":
                return
            pending = _changed(version, "Pending", "The function is being restored.", RESTORING_CODE)
            # It begins anew: else it would be idle again before anybody has called.
            use = self._resources.last_uses.put(key, LastUse(self._clock.time()))
            await self._resources.commit(self._resources.versions.put(key, pending), use)
        self._lifecycle.settle(function_key)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name="lambda: idleness")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("idleness: a step failed", exc_info=error)


def _in_vpc(version: Version) -> bool:
    vpc = version.configuration.vpc
    return vpc is not None and bool(vpc.subnet_ids)


def _changed(version: Version, state: Any, reason: str, code: str) -> Version:
    return msgspec.structs.replace(
        version, state=state, state_reason=reason, state_reason_code=code, revision_id=revision()
    )
