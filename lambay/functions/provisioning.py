"""Provisioned concurrency at work: environments that are initialised before anybody calls.

A pool belongs to one version under one configuration. Its environments have a key of their own, so that they
are lent to nobody else; when the pool changes size or is recycled, a new generation of them is initialised
first and the old one ends afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.functions.ports import Fleet
from lambay.functions.records import Provisioned, Version
from lambay.functions.rendering import environment_key
from lambay.functions.resources import Resources
from lambay.functions.scaling import utilised
from lambay.runtime import EnvironmentFailure, EnvironmentSpec

_log = logging.getLogger(__name__)

_RECYCLE_AFTER_S = 4 * 3600
_RETRY_AFTER_S = 60
_AT_ONCE = 4

SpecOf = Callable[[Version], Awaitable[EnvironmentSpec]]


@dataclass(slots=True)
class Pool:
    """`ready` environments are initialised, `busy` of them at work, `peak` at most since it was asked last.

    `failure` says why there are none.
    """

    version: Version
    wanted: int
    ready: int = 0
    busy: int = 0
    peak: int = 0
    generation: int = 0
    failure: str = ""
    renewal: asyncio.Task[Any] | None = field(default=None, repr=False)
    filled: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _cached: tuple[EnvironmentSpec, EnvironmentSpec] | None = None

    def key(self) -> str:
        return f"{environment_key(self.version)}!{self.generation}"

    def begin(self) -> None:
        """One more of the environments is at work."""
        self.busy += 1
        self.peak = max(self.peak, self.busy)

    def end(self) -> None:
        self.busy -= 1

    def spec(self, of: EnvironmentSpec) -> EnvironmentSpec:
        """The version's spec as this pool's environments have it."""
        if self._cached is None or self._cached[0] is not of:
            own = dataclasses.replace(of, key=self.key(), initialization_type="provisioned-concurrency")
            self._cached = (of, own)
        return self._cached[1]

    @property
    def status(self) -> Literal["IN_PROGRESS", "READY", "FAILED"]:
        if self.failure:
            return "FAILED"
        return "READY" if self.ready >= self.wanted else "IN_PROGRESS"


class Provisioning:
    """Keeps pools as the records want them; `spec_of` tells what a version's environments are made from."""

    def __init__(self, resources: Resources, fleet: Fleet, clock: Clock) -> None:
        self._resources = resources
        self._fleet = fleet
        self._clock = clock
        self._pools: dict[tuple[str, str], Pool] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = True
        self.spec_of: SpecOf | None = None
        resources.on_change(self._changed)

    def start(self) -> None:
        self._stopped = False
        self._changed()

    async def stop(self) -> None:
        self._stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pools.clear()

    async def settled(self) -> None:
        """When every pool is as it should be or has failed."""
        for pool in list(self._pools.values()):
            await pool.filled.wait()

    def pool(self, version: Version) -> Pool | None:
        """The pool that serves this version, under whichever configuration."""
        return next((pool for (_, key), pool in self._pools.items() if key == version.key), None)

    def replace_lost(self, pool: Pool) -> None:
        """Initialise another environment where one of the pool's may have ended with its invocation."""
        self._spawn(self._replace(pool))

    async def _replace(self, pool: Pool) -> None:
        assert self.spec_of is not None
        try:
            # One that is still there is lent and given back, nothing more.
            self._fleet.release(await self._fleet.acquire(pool.spec(await self.spec_of(pool.version))))
        except (AWSError, EnvironmentFailure) as error:
            _log.error("provisioned concurrency of %s: %s", pool.version.key, error)

    def utilisation(self, config: Provisioned) -> float:
        """The largest share of its environments that was at work since this was asked last."""
        pools = self.pools(config)
        share = utilised(sum(pool.peak for pool in pools), sum(pool.ready for pool in pools))
        for pool in pools:
            pool.peak = pool.busy
        return share

    def pools(self, config: Provisioned) -> list[Pool]:
        return [pool for (key, _), pool in self._pools.items() if key == config.key]

    def _changed(self) -> None:
        if self._stopped or not (len(self._resources.provisioned) or self._pools):
            return
        wanted = self._wanted()
        for key in [key for key in self._pools if key not in wanted]:
            self._end(self._pools.pop(key))
        for key, (version, count) in wanted.items():
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = Pool(version, count)
            elif pool.version.build == version.build and pool.wanted == count:
                continue
            pool.version, pool.wanted, pool.failure = version, count, ""
            self._fill(pool)

    def _wanted(self) -> dict[tuple[str, str], tuple[Version, int]]:
        """For each configuration and version: how many. An alias with weights shares them by weight."""
        wanted: dict[tuple[str, str], tuple[Version, int]] = {}
        for config in self._resources.provisioned:
            alias = self._resources.aliases.get(config.key)
            shares = {config.qualifier: 1.0}
            if alias is not None:
                weights = alias.weights
                shares = {alias.version: 1.0 - sum(weights.values()), **weights}
            for number, share in shares.items():
                version = self._resources.versions.get(f"{config.function_key}/{number}")
                count = round(config.wanted * share)
                if version is not None and version.state == "Active" and count:
                    wanted[config.key, version.key] = (version, count)
        return wanted

    def _fill(self, pool: Pool) -> None:
        if pool.renewal is not None:
            pool.renewal.cancel()
        pool.filled.clear()
        pool.renewal = self._spawn(self._renew(pool))

    async def _renew(self, pool: Pool) -> None:
        """Initialise a generation of environments, use it, end the one before; again in hours."""
        while True:
            earlier, had = pool.key(), pool.ready
            fresh = Pool(pool.version, pool.wanted, generation=pool.generation + 1)
            try:
                await self._initialise(fresh)
            except (AWSError, EnvironmentFailure) as error:
                _log.error("provisioned concurrency of %s: %s", pool.version.key, error)
                pool.failure = str(error)
                pool.filled.set()
                await self._clock.sleep(_RETRY_AFTER_S)
                continue
            pool.generation, pool.ready, pool._cached = fresh.generation, pool.wanted, None
            pool.failure = ""
            pool.filled.set()
            if had:
                await self._fleet.drain(earlier)
            await self._clock.sleep(_RECYCLE_AFTER_S)

    async def _initialise(self, pool: Pool) -> None:
        assert self.spec_of is not None
        spec = pool.spec(await self.spec_of(pool.version))
        gate = asyncio.Semaphore(_AT_ONCE)
        made: list[Any] = []

        async def one() -> None:
            async with gate:
                made.append(await self._fleet.acquire(spec))

        # Held until all are there: an environment given back at once would be lent to the next.
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(pool.wanted):
                    group.create_task(one())
        except BaseException as error:
            self._give_back(made)
            await self._fleet.drain(pool.key())
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        self._give_back(made)

    def _give_back(self, environments: list[Any]) -> None:
        for environment in environments:
            self._fleet.release(environment)

    def _end(self, pool: Pool) -> None:
        if pool.renewal is not None:
            pool.renewal.cancel()
        pool.filled.set()
        self._spawn(self._fleet.drain(f"{environment_key(pool.version)}!"))

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, name="lambda: provisioning")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("provisioning failed", exc_info=error)
