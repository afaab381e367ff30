"""This machine's execution environments: found warm or built, lent for invocations, ended."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from lambay.clock import Clock
from lambay.runtime import kernel
from lambay.runtime.capacity import (
    ENVIRONMENT_DESCRIPTORS,
    ENVIRONMENT_MB,
    spare_descriptors,
    spare_mb,
)
from lambay.runtime.cgroups import ControlGroups
from lambay.runtime.environment import Environment
from lambay.runtime.fork_servers import ForkServers
from lambay.runtime.identities import Identities
from lambay.runtime.image_root import make_skeleton
from lambay.runtime.languages import LAUNCHER, OWN_PYTHON, RUNTIMES, Language, examine
from lambay.runtime.leftovers import end_slots
from lambay.runtime.log_shipping import LogShipping, WriteLog
from lambay.runtime.sandbox import make_etc
from lambay.runtime.scaling import ENVIRONMENTS, SECONDS, ScalingRate
from lambay.runtime.scratch import Scratch
from lambay.runtime.seccomp import filter_program
from lambay.runtime.slot import Host, Remainder, ServeEndpoint, Slot
from lambay.runtime.slots import Slots
from lambay.runtime.spawner import Spawner
from lambay.runtime.spec import (
    CapacityExceeded,
    Credentials,
    EnvironmentSpec,
    FileServer,
    FileSystemMount,
    Invocation,
    Outcome,
    Runtime,
    RuntimeUnavailable,
    ScalingLimitExceeded,
)
from lambay.runtime.wiring import Wiring
from lambay.settings import Settings
from lambay.spans import Attributes, Tracer, span

_log = logging.getLogger("lambay.runtime")


class Fleet(Protocol):
    """What functions need of whoever runs environments, here or on other machines."""

    async def acquire(self, spec: EnvironmentSpec) -> Environment: ...

    async def invoke(self, environment: Environment, invocation: Invocation) -> Outcome: ...

    def release(self, environment: Environment) -> None: ...

    async def drain(self, key_prefix: str) -> None: ...


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Numbers of environments; `environments` counts them by their spec's key."""

    busy: int
    idle: int
    ready_slots: int
    environments: dict[str, int]


@dataclass(frozen=True, slots=True)
class Living:
    """An environment as it is now; `began` is seconds since the epoch, `mount` the id of its mount, if any."""

    id: str
    account: str
    region: str
    function: str
    version: str
    state: str
    initialization_type: str
    memory_mb: int
    mount: str | None
    began: float
    invocations: int
    peak_mb: int


class LocalFleet:
    """One for each server.

    `credentials` issues the role's session for an environment; `write_log` takes its log events (account,
    Region, group, stream, [(ms, text)]); `serve_endpoint` serves Lambay's AWS API on a listening socket
    inside a sandbox until the result is closed; `wiring` gives sandboxes their network; `tracer` is told of
    environments that are made, and of what invocations move through their mounts.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        file_server: FileServer,
        credentials: Callable[[EnvironmentSpec], Awaitable[Credentials]],
        write_log: WriteLog,
        serve_endpoint: ServeEndpoint,
        wiring: Wiring | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._file_server = file_server
        self._credentials = credentials
        self._tracer = tracer
        self._shipping = LogShipping(write_log)
        self._control_groups = ControlGroups(settings.tag)
        self._identities = Identities()
        self._scratch = Scratch(settings.data_dir / "scratch")
        self._spawner = Spawner()
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="lambay-slots")
        run_dir = settings.run_dir
        etc = run_dir / "etc"
        self._fork_servers = ForkServers(run_dir, etc, self._spawner)
        self._host = Host(
            run_dir=run_dir,
            etc=etc,
            seccomp=run_dir / "seccomp.bpf",
            control_groups=self._control_groups,
            scratch=self._scratch,
            spawner=self._spawner,
            fork_servers=self._fork_servers,
            forks=settings.fork_server,
            skeleton=run_dir / "skeleton",
            serve_endpoint=serve_endpoint,
            threads=self._threads,
            wiring=wiring,
        )
        self._slots = Slots(self._host, self._identities, settings.warm_slots)
        self._languages: dict[str, Language] = {}
        self._environments: set[Environment] = set()
        self._building = 0
        self._idle: dict[str, list[Environment]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._scaling = ScalingRate(clock.time)
        self._reaper: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._rested = asyncio.Event()
        file_server.on_death(self._lose)

    async def start(self) -> None:
        """Remove what an earlier instance left, then be ready. Raises OSError, RuntimeError."""
        await asyncio.to_thread(self._prepare)
        self._reaper = asyncio.create_task(self._reap(), name="idle environments")
        self._preparing = asyncio.create_task(self._prepare_own(), name="first spare sandboxes")

    async def stop(self) -> None:
        """End every environment and give everything back; safe to call twice."""
        if self._reaper is None:
            return
        self._reaper.cancel()
        self._reaper = None
        if self._preparing is not None:
            await asyncio.wait([self._preparing])
        await self.reset()
        await self._slots.stop()
        await self._fork_servers.stop()
        await self._shipping.flush()
        await asyncio.to_thread(self._clear)

    async def prepare(self, runtime: str) -> None:
        """Have spare sandboxes started for a runtime that will be used soon. Raises RuntimeUnavailable."""
        self._slots.refill(await self._language(runtime))

    async def settled(self) -> None:
        """Return once the spare sandboxes are up and environments that were to end have ended."""
        if self._preparing is not None:
            await asyncio.wait([self._preparing])
        await self._slots.settled()
        while self._endings:
            await asyncio.wait(set(self._endings))
        for environment in list(self._environments):
            await environment.settled()

    async def acquire(self, spec: EnvironmentSpec) -> Environment:
        """An idle environment of the spec's key, or a new one that has been through its Init phase.

        It belongs to the caller until `release`. Raises RuntimeUnavailable, CapacityExceeded,
        ScalingLimitExceeded, SandboxFailure, MountFailure, FileSystemLost.
        """
        idle = self._idle.get(spec.key)
        while idle:
            environment = idle.pop()
            if environment.usable and environment.credentials_last():
                return environment
            self._end(environment)
        return await self._build(spec)

    async def invoke(self, environment: Environment, invocation: Invocation) -> Outcome:
        """Run one event in an acquired environment.

        Raises FileSystemLost; where a failed Init is repeated, also what `acquire` raises.
        """
        outcome = await environment.invoke(invocation)
        if self._tracer is not None:
            await environment.connection.traffic.tell(self._tracer.current(), environment.connection.mount_id)
        return outcome

    def release(self, environment: Environment) -> None:
        """Give an environment back: it waits for its next invocation, or ends if it cannot have one."""
        if not environment.usable:
            self._end(environment)
            return
        self._idle.setdefault(environment.spec.key, []).append(environment)
        environment.rest()
        if not self._rested.is_set():
            self._rested.set()

    async def drain(self, key_prefix: str) -> None:
        """End the environments whose key begins so; busy ones end with their invocation.

        Returns once the idle ones have ended and their file systems are unmounted.
        """
        for environment in self._environments:
            if environment.spec.key.startswith(key_prefix):
                environment.draining = True
        drained = [key for key in self._idle if key.startswith(key_prefix)]
        await self._ended([environment for key in drained for environment in self._idle[key]])

    def retire(self, mounts: Collection[str]) -> None:
        """Give the environments of these mounts no further invocation; busy ones end with the one they have."""
        for environment in list(self._environments):
            if environment.connection.mount_id in mounts:
                environment.draining = True
                self._gone(environment)

    async def permit(self, key_prefix: str, mount: FileSystemMount | None) -> bool:
        """Give living mounts the permissions of `mount`; with None they end at once, I/O under way and all.

        Whether there was one. Where the file server cannot change one, its environment gets no more invocations.
        """
        standing = [
            environment
            for environment in self._environments
            if environment.spec.key.startswith(key_prefix) and environment.spec.file_system is not None
        ]
        for environment in standing:
            if mount is None:
                environment.revoke()
            elif not await environment.permit(mount):
                environment.draining = True
                self._gone(environment)
        return bool(standing)

    async def reset(self) -> None:
        """End every environment, busy ones too; their invocations end as killed."""
        await self._ended(list(self._environments))

    async def flush_logs(self) -> None:
        """Return once all log events so far are written."""
        await self._shipping.flush()

    def status(self) -> FleetStatus:
        idle = sum(len(environments) for environments in self._idle.values())
        counts = Counter(environment.spec.key for environment in self._environments)
        return FleetStatus(len(self._environments) - idle, idle, self._slots.ready, dict(counts))

    def environments(self) -> list[Living]:
        """Every environment that has not ended."""
        return [
            Living(
                id=each.id,
                account=each.spec.account,
                region=each.spec.region,
                function=each.spec.function_name,
                version=each.spec.version,
                state=each.state,
                initialization_type=each.spec.initialization_type,
                memory_mb=each.spec.memory_mb,
                mount=each.connection.mount_id,
                began=each.began,
                invocations=each.invocations,
                peak_mb=each.peak_mb,
            )
            for each in self._environments
        ]

    def runtimes(self) -> tuple[Runtime, ...]:
        """Lambda's runtimes as this host has them; starts interpreters to ask, so it blocks."""
        return tuple(examine(name)[0] for name in RUNTIMES)

    # How

    async def _prepare_own(self) -> None:
        """Spare sandboxes for the Python that Lambay runs on: the likeliest to be wanted first."""
        try:
            await self.prepare(OWN_PYTHON)
        except RuntimeUnavailable as unavailable:
            _log.info("%s", unavailable)

    def _prepare(self) -> None:
        run_dir = self._settings.run_dir
        slots = run_dir / "slots"
        self._control_groups.start()
        end_slots(slots)
        end_slots(run_dir / "fork-servers")
        slots.mkdir(parents=True, exist_ok=True)
        # Slots' mounts are for this host and their own sandbox, whatever the propagation of /run.
        kernel.make_mount_point(slots, shared=False)
        make_etc(self._host.etc)
        make_skeleton(self._host.skeleton)
        self._host.seccomp.write_bytes(filter_program())
        self._scratch.start()
        self._identities.start()

    def _clear(self) -> None:
        self._spawner.stop()
        self._threads.shutdown()
        self._control_groups.stop()
        slots = self._settings.run_dir / "slots"
        end_slots(slots)
        slots.rmdir()
        shutil.rmtree(self._host.etc)
        shutil.rmtree(self._host.skeleton)
        self._host.seccomp.unlink()
        self._scratch.stop()
        self._identities.stop()

    async def _language(self, runtime: str) -> Language:
        known = self._languages.get(runtime)
        if known is not None:
            return known
        examined, language = await asyncio.to_thread(examine, runtime)
        if language is None:
            raise RuntimeUnavailable(runtime, examined.reason)
        return self._languages.setdefault(runtime, language)

    async def _take_slot(self, spec: EnvironmentSpec, remainder: Remainder | None) -> Slot:
        language = await self._language(LAUNCHER if spec.image is not None else spec.runtime)
        if remainder is not None:
            return await self._slots.again(language, spec.image, remainder)
        if spec.image is not None:
            return await self._slots.start(language, spec.image)
        return await self._slots.take(language)

    async def _make_room(self) -> None:
        """End what has been idle for longest where memory or descriptors are short. Raises CapacityExceeded."""
        short = -(-(ENVIRONMENT_MB - spare_mb()) // ENVIRONMENT_MB)
        short = max(short, -(-self._missing_descriptors() // ENVIRONMENT_DESCRIPTORS))
        if short <= 0:
            return
        idle = [environment for waiting in self._idle.values() for environment in waiting]
        # Provisioned ones go last: they were paid for to be there.
        idle.sort(key=lambda each: (each.spec.initialization_type != "on-demand", each.idle_since))
        await self._ended(idle[:short])
        if spare_mb() < ENVIRONMENT_MB:
            raise CapacityExceeded(
                f"{-spare_mb()} MiB of memory are missing for another execution environment beside "
                f"{len(self._environments)} on this host"
            )
        missing = self._missing_descriptors()
        if missing > 0:
            raise CapacityExceeded(
                f"{missing} file descriptors are missing for another execution environment beside "
                f"{len(self._environments)} on this host; its limit of open files (ulimit -Hn) is too low"
            )

    def _missing_descriptors(self) -> int:
        """For one more environment beside those that are on their way; none where it is 0 or less."""
        return ENVIRONMENT_DESCRIPTORS * (self._building + 1) - spare_descriptors()

    async def _build(self, spec: EnvironmentSpec) -> Environment:
        function = f"{spec.account}/{spec.region}/{spec.function_name}"
        if spec.initialization_type == "on-demand" and not self._scaling.admit(function):
            raise ScalingLimitExceeded(
                f"{spec.function_name} has gained {ENVIRONMENTS} execution environments within {SECONDS:.0f} seconds"
            )
        await self._make_room()
        environment = Environment(
            spec,
            clock=self._clock,
            file_server=self._file_server,
            shipping=self._shipping,
            credentials=self._credentials,
            take_slot=self._take_slot,
            slots=self._slots,
            gone=self._gone,
            tracer=self._tracer,
        )
        self._environments.add(environment)
        self._building += 1
        try:
            attributes: Attributes = {
                "lambay.environment.id": environment.id,
                "lambay.environment.initialization_type": spec.initialization_type,
                "faas.name": spec.function_name,
                "faas.version": spec.version,
                "faas.max_memory": spec.memory_mb << 20,
            }
            with span(self._tracer, f"environment {spec.function_name}", attributes) as told:
                await environment.start()
                if self._tracer is not None:
                    await environment.connection.traffic.tell(told, environment.connection.mount_id)
        except BaseException:
            self._end(environment)
            raise
        finally:
            self._building -= 1
            language = self._languages.get(spec.runtime)
            if language is not None:
                self._slots.refill_soon(language)
        return environment

    def _gone(self, environment: Environment) -> None:
        """It has come to its end by itself. One that is lent shows it to its invocation."""
        if environment in self._idle.get(environment.spec.key, ()):
            self._end(environment)

    def _end(self, environment: Environment) -> None:
        if environment not in self._environments:
            return
        self._environments.discard(environment)
        idle = self._idle.get(environment.spec.key)
        if idle is not None and environment in idle:
            idle.remove(environment)
        if idle is not None and not idle:
            self._idle.pop(environment.spec.key, None)
        task = asyncio.create_task(environment.end(), name="end of an environment")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _ended(self, environments: Sequence[Environment]) -> None:
        for environment in environments:
            self._end(environment)
        # Also those that were ending already.
        if self._endings:
            await asyncio.wait(set(self._endings))

    def _lose(self, mounts: Sequence[str]) -> None:
        lost = set(mounts)
        for environment in list(self._environments):
            if environment.connection.mount_id in lost:
                environment.lose_file_system()

    async def _reap(self) -> None:
        """End what has been idle for too long, by the clock."""
        while True:
            await self._rested.wait()
            # Provisioned ones are to be there when nobody has called for hours.
            idle = [
                environment
                for waiting in self._idle.values()
                for environment in waiting
                if environment.spec.initialization_type == "on-demand"
            ]
            limit = self._settings.idle_seconds
            due = [each for each in idle if each.idle_since + limit <= self._clock.time()]
            for environment in due:
                self._end(environment)
            rest = [each.idle_since for each in idle if each not in due]
            if rest:
                await self._clock.sleep(min(rest) + limit - self._clock.time())
            else:
                self._rested.clear()
