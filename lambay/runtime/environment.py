"""One execution environment: Init, one invocation at a time, freeze between them, end.

Follows the Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle".
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Literal

from lambay.clock import Clock
from lambay.runtime.completion import completed
from lambay.runtime.connection import Connection
from lambay.runtime.ending import Ending, Running
from lambay.runtime.environment_log import EnvironmentLog
from lambay.runtime.event_headers import event_headers, new_trace_id
from lambay.runtime.extensions import Extensions
from lambay.runtime.log_shipping import LogShipping
from lambay.runtime.platform_events import PlatformEvents
from lambay.runtime.report import Report, Status, billed, error_object, exit_reason
from lambay.runtime.runtime_api import MAX_RESPONSE_BYTES, Door
from lambay.runtime.slot import Remainder, Slot
from lambay.runtime.slots import Slots
from lambay.runtime.spec import (
    Credentials,
    EnvironmentSpec,
    FileServer,
    FileSystemLost,
    FileSystemMount,
    Invocation,
    Outcome,
    SandboxFailure,
)
from lambay.runtime.streaming import ResponseStream
from lambay.runtime.telemetry import Telemetry
from lambay.runtime.variables import environment_variables
from lambay.spans import Tracer, span

INIT_SECONDS = 10.0
SHUTDOWN_SECONDS = 2.0
_FREEZE_AFTER = 0.02

_log = logging.getLogger("lambay.runtime")


class Environment:
    """Made and used by the fleet; it answers its sandbox's Runtime API calls itself."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        clock: Clock,
        file_server: FileServer,
        shipping: LogShipping,
        credentials: Callable[[EnvironmentSpec], Awaitable[Credentials]],
        take_slot: Callable[[EnvironmentSpec, Remainder | None], Awaitable[Slot]],
        slots: Slots,
        gone: Callable[[Environment], None],
        tracer: Tracer | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.spec = spec
        self.log_stream = f"{clock.now():%Y/%m/%d}/[{spec.version}]{self.id}"
        self.draining = False
        self.ended = False
        self.idle_since = 0.0
        self.began = clock.time()
        self.invocations = 0
        self._clock = clock
        self._issue = credentials
        self._take_slot = take_slot
        self._slots = slots
        self._gone = gone
        self._tracer = tracer
        self.connection = Connection(self.id, spec, file_server, self.lose_file_system, tracer)
        self._credentials: Credentials | None = None
        self._log = EnvironmentLog((spec.account, spec.region, spec.group, self.log_stream), clock, shipping)
        self._events = PlatformEvents(spec, clock, self._log)
        self._slot: Slot | None = None
        self._remainder: Remainder | None = None
        self._door: Door | None = None
        self._init: asyncio.Future[Ending] | None = None
        self._lost = False
        self._shutting_down = False
        self._extensions = Extensions(spec, self._events.telemetry, self._proceed, self._extension_lost)
        self._extensions_output = -1
        self._ended_by: Literal["spindown", "timeout", "failure"] = "spindown"
        self._init_ms: float | None = None
        self._running: Running | None = None
        self._peak_mb = 0
        self._frozen = False
        self._freezing: asyncio.TimerHandle | None = None
        self._rested = 0.0
        self._reset = False
        self._resetting: asyncio.Task[None] | None = None

    # What the fleet asks

    @property
    def usable(self) -> bool:
        """Whether another invocation may come here."""
        if self.ended or self.draining:
            return False
        return self._reset or (self._slot is not None and not self._slot.exited.done())

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def state(self) -> Literal["starting", "busy", "idle", "frozen"]:
        if self._running is not None:
            return "busy"
        if self._init is not None or (self._slot is None and not self._reset):
            return "starting"
        return "frozen" if self._frozen else "idle"

    @property
    def peak_mb(self) -> int:
        """The most memory that it has used at once so far, in MiB."""
        return self._peak_mb if self._slot is None else self._slot.group.peak_memory_mb()

    def credentials_last(self) -> bool:
        """Whether the role's session lasts for one more invocation."""
        expiration = self._credentials.expiration if self._credentials else None
        if expiration is None:
            return True
        return expiration.timestamp() > self._clock.time() + self.spec.timeout_s + 60

    async def start(self) -> None:
        """Build the sandbox and run the Init phase; a failure that is the function's own shows at `invoke`.

        Raises RuntimeUnavailable, SandboxFailure, MountFailure.
        """
        self._events.environment_starts()
        self._credentials = await self._issue(self.spec)
        ending, duration_ms = await self._initialise(INIT_SECONDS)
        if ending.reason == "ready":
            self._init_ms = duration_ms
        else:
            self._events.init_failed("init", ending, duration_ms)
        self._log.ship()

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Raises FileSystemLost, and whatever building anew may raise after a failed Init."""
        if self._running is not None:
            raise RuntimeError(f"environment {self.id} runs an invocation already")
        if self.ended:
            raise SandboxFailure(f"environment {self.id} was ended before its invocation")
        loop = asyncio.get_running_loop()
        running = Running(invocation, loop.create_future(), self._clock.monotonic())
        timer = loop.call_later(self.spec.timeout_s, self._settle, Ending("timeout"))
        self._running = running
        self.invocations += 1
        self._log.begin(tail=invocation.tail_log)
        self._thaw()
        try:
            await self.settled()
            if self.spec.network is not None and self._slot is not None:
                await self._slot.settle()
            if self._lost or (self._slot is not None and self._slot.exited.done()):
                await self._leave_slot(reset=True)
            if self._slot is None:
                await self._initialise_again(running)
            else:
                self._tell_start(running)
                self._deliver()
            ending = await running.ending
            if ending.reason == "exit" and not running.delivered and not self.ended:
                ending = await self._begin_anew(running)
            return self._conclude(running, ending)
        except asyncio.CancelledError:
            # Nobody waits any more, and the function does not know: it must not get another event.
            self.draining = True
            raise
        finally:
            timer.cancel()
            if invocation.stream is not None:
                invocation.stream.end()
            self._running = None
            self._log.finish()

    def rest(self) -> None:
        """No invocation is due; freeze shortly, so that a busy environment is never slowed by it."""
        self.idle_since = self._clock.time()
        self._rested = self._clock.monotonic()
        if self._reset and self._resetting is None:
            self._resetting = asyncio.create_task(self._clear_away(), name="reset of an environment")
        self._freeze_soon()

    async def settled(self) -> None:
        """Return once what a timeout or a crash left has ended."""
        if self._resetting is not None:
            await asyncio.wait([self._resetting])

    async def end(self) -> None:
        """Kill the processes, unmount, remove. Safe to call twice."""
        if self.ended:
            return
        self.ended = True
        if self._freezing is not None:
            self._freezing.cancel()
        await self.settled()
        await self._shut_extensions_down()
        killed = Ending("exit", status=128 + 9)
        if self._init is not None and not self._init.done():
            self._init.set_result(killed)
        self._settle(killed)
        await self._leave_slot()
        if self._remainder is not None:
            remainder, self._remainder = self._remainder, None
            await self._slots.discard(remainder)
        self._log.ship()

    def lose_file_system(self) -> None:
        """The file server died with this environment's mount: nothing here is of use any more."""
        self._lost = True
        self.draining = True
        if self._init is not None and not self._init.done():
            self._init.set_result(Ending("file-system-lost"))
        elif not self._settle(Ending("file-system-lost")):
            self._gone(self)

    async def permit(self, mount: FileSystemMount) -> bool:
        """The mount has the permissions of `mount` from now on; whether that could be had."""
        return await self.connection.permit(mount)

    def revoke(self) -> None:
        """The mount is not permitted any more: what runs loses it, and none is made that could be used."""
        self.connection.deny()
        self.lose_file_system()

    # Init

    async def _initialise(self, seconds: float, phase: str = "init") -> tuple[Ending, float]:
        """How it ended, and its duration in milliseconds."""
        with span(self._tracer, "claim slot", {}):
            remainder, self._remainder = self._remainder, None
            slot = await self._take_slot(self.spec, remainder)
        if self.ended:
            await self._slots.end(slot)
            raise SandboxFailure(f"environment {self.id} was ended before its Init phase")
        self._slot = slot
        self._door = None
        loop = asyncio.get_running_loop()
        began = self._clock.monotonic()
        init: asyncio.Future[Ending] = loop.create_future()
        self._init = init
        slot.calls = self
        slot.exited.add_done_callback(lambda _: self._exited(slot))
        self._events.telemetry.stop()
        self._events.telemetry = telemetry = Telemetry(self._clock, slot.connect)
        self._extensions = Extensions(self.spec, telemetry, self._proceed, self._extension_lost)
        self._log.listen(slot.output, lambda event: telemetry.emit("function", event.removesuffix("\n")))
        self._events.init_starts(phase)
        try:
            await self._furnish(slot)
            began = self._clock.monotonic()
            assert self._credentials is not None
            variables = environment_variables(self.spec, slot.language, self._credentials, self.log_stream)
            with span(self._tracer, "init", {"lambay.init.phase": phase}) as told:
                self._run(slot, variables)
                async with asyncio.timeout(seconds):
                    ending = await init
                if ending.reason != "ready":
                    told.fail(self._error_type(ending))
        except TimeoutError:
            ending = Ending("timeout")
        except BaseException:
            await self._leave_slot()
            raise
        finally:
            self._init = None
        duration_ms = (self._clock.monotonic() - began) * 1000
        if self.ended:
            raise SandboxFailure(f"environment {self.id} was ended in its Init phase")
        self._log.read()
        self._events.init_ended(phase, ending, self._error_type(ending), duration_ms)
        if ending.reason != "ready":
            ending = replace(ending, error_type=self._error_type(ending))
            self._peak_mb = slot.group.peak_memory_mb()
            await self._leave_slot(reset=True)
            if ending.reason == "file-system-lost":
                raise FileSystemLost("the file server ended during the Init phase")
            return ending, duration_ms
        self._extensions.end_registration()
        self._events.extensions_ready(self._extensions.described)
        telemetry.end_subscriptions()
        slot.group.limit_cpu(self.spec.memory_mb)
        return ending, duration_ms

    def _run(self, slot: Slot, variables: Mapping[str, str]) -> None:
        if not self._extensions.programs:
            slot.run(variables)
            return
        # The function's logs and its extensions' are told apart in telemetry only.
        telemetry = self._events.telemetry
        self._extensions_output, written = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._extensions_output, False)
        self._log.listen(
            self._extensions_output, lambda event: telemetry.emit("extension", event.removesuffix("\n"))
        )
        slot.run(variables, written)
        os.close(written)

    async def _initialise_again(self, running: Running) -> None:
        """What failed in Init, or broke since, is repeated as part of the invocation, in the function's time."""
        self._lost = self._reset = False
        self._resetting = None
        left = running.began + self.spec.timeout_s - self._clock.monotonic()
        ending, duration_ms = await self._initialise(left, "invoke")
        if ending.reason == "ready":
            self._tell_start(running)
            self._deliver()
            return
        self._events.init_failed("invoke", ending, duration_ms)
        self._tell_start(running)
        running.delivered = True
        self._settle(ending)

    async def _begin_anew(self, running: Running) -> Ending:
        """The runtime ended with its last event, and never asked for this one: the next runtime has it."""
        running.ending = asyncio.get_running_loop().create_future()
        await self._leave_slot(reset=True)
        self._ended_by = "spindown"
        await self._initialise_again(running)
        return await running.ending

    def _tell_start(self, running: Running) -> None:
        if not running.told:
            running.told = True
            self._events.invocation_starts(running.invocation)

    async def _furnish(self, slot: Slot) -> None:
        spec = self.spec
        # Bubblewrap must have done with its own mounts: it would change the flags of one that comes amidst.
        await slot.ready()
        if not slot.warm:
            raise SandboxFailure(f"{spec.function_arn}: its sandbox ended before it had begun")
        try:
            slot.group.limit_memory(spec.memory_mb)
            if spec.image is None:
                slot.mount_code(spec.code, spec.layers)
            await slot.resize_scratch(spec.ephemeral_mb)
        except OSError as error:
            raise SandboxFailure(f"{spec.function_arn}: {error}") from error
        await slot.join(spec.network)
        await self.connection.open(slot)

    # The Runtime API's calls

    def next(self, door: Door) -> bool:
        if self._door is not None or self._slot is None:
            return False
        running = self._running
        if running is not None and running.delivered and not running.ending.done():
            return False
        self._door = door
        self._proceed()
        return True

    def _proceed(self) -> None:
        """The runtime or an extension has come to rest: go on with what waits for all of them."""
        if self._door is None or not self._extensions.at_rest:
            return
        if self._init is not None:
            if not self._init.done():
                self._init.set_result(Ending("ready"))
        elif self._running is None:
            self._freeze_soon()
        else:
            self._deliver()

    def running(self) -> str | None:
        running = self._running
        return running.invocation.request_id if running is not None and running.delivered else None

    def stream(self, request_id: str, content_type: str, door: Door) -> ResponseStream | None:
        stream = self._running.invocation.stream if self._running is not None else None
        if self._running is not None:
            self._running.responded = self._clock.monotonic()
        if stream is not None:
            stream.begin(content_type, door.hold)
        return stream

    def truncated(self) -> None:
        kind = "Runtime.TruncatedResponse"
        request_id = self._running.invocation.request_id if self._running is not None else ""
        if self._settle(Ending("error", error_object(kind, f"RequestId: {request_id} Error: {kind}"), kind)):
            self.draining = True

    def respond(self, request_id: str, payload: bytes) -> bool:
        return self._settle(Ending("response", payload))

    def respond_too_large(self, request_id: str, size: int) -> bool:
        return self._settle(Ending("too-large", error_type="Function.ResponseSizeTooLarge"))

    def fail(self, request_id: str, payload: bytes, error_type: str) -> bool:
        return self._settle(Ending("error", payload, error_type))

    def fail_init(self, payload: bytes, error_type: str) -> bool:
        if self._init is None or self._init.done():
            return False
        self._init.set_result(Ending("error", payload, error_type))
        return True

    def left(self, door: Door) -> None:
        if self._door is door:
            self._door = None
        self._extensions.left(door)

    def call_extensions(self, door: Door, route: str, headers: Mapping[str, str], body: bytes) -> None:
        self._extensions.call(door, route, headers, body)

    def _extension_lost(self, kind: str) -> None:
        """One crashed or gave up: the environment is of no more use."""
        if self._shutting_down:
            return
        self.draining = True
        request_id = self._running.invocation.request_id if self._running is not None else ""
        ending = Ending("error", error_object(kind, f"RequestId: {request_id} Error: {kind}"), kind)
        if self._init is not None and not self._init.done():
            self._init.set_result(ending)
        elif not self._settle(ending):
            self._gone(self)

    # One invocation

    def _deliver(self) -> None:
        running, door = self._running, self._door
        if running is None or door is None or running.delivered or not self._extensions.at_rest:
            return
        self._door = None
        running.delivered = True
        left = running.began + self.spec.timeout_s - self._clock.monotonic()
        invocation = running.invocation
        # The function compares it with the machine's own time, which no test's clock moves.
        deadline_ms = int((time.time() + left) * 1000)
        trace_id = invocation.trace_id or new_trace_id()
        door.answer(HTTPStatus.OK, invocation.event, event_headers(invocation, deadline_ms, trace_id))
        self._extensions.invoke(invocation, deadline_ms, trace_id)

    def _settle(self, ending: Ending) -> bool:
        running = self._running
        if running is None or running.ending.done():
            return False
        running.ending.set_result(ending)
        return True

    def _exited(self, slot: Slot) -> None:
        if slot is not self._slot or self._reset:
            return
        self._ended_by = "failure"
        ending = Ending("exit", status=slot.exited.result())
        if self._init is not None and not self._init.done():
            self._init.set_result(ending)
        elif not self._settle(ending):
            self._gone(self)

    def _conclude(self, running: Running, ending: Ending) -> Outcome:
        duration_ms = (self._clock.monotonic() - running.began) * 1000
        self._log.read(flush=True)
        spec, request_id = self.spec, running.invocation.request_id
        now_ms = self._log.now_ms
        payload, error_type = ending.payload, ending.error_type
        status: Status = "success"
        if ending.reason != "response":
            payload, status, error_type = self._failure(running, ending)
        if ending.reason == "timeout":
            duration_ms = max(duration_ms, spec.timeout_s * 1000.0)
        init_ms, self._init_ms = self._init_ms, None
        slot, stream = self._slot, running.invocation.stream
        report = Report(
            request_id=request_id,
            duration_ms=duration_ms,
            billed_ms=billed(duration_ms, init_ms),
            memory_mb=spec.memory_mb,
            max_memory_mb=slot.group.peak_memory_mb() if slot is not None else self._peak_mb,
            init_ms=init_ms,
            status="success" if ending.reason == "error" and spec.log_format == "Text" else status,
            error_type=error_type,
            trace_id=running.invocation.trace_id,
        )
        self._events.invocation_ended(now_ms, report)
        if self._events.telemetry.wanted:
            produced = stream.size if stream is not None and stream.streaming else len(payload)
            self._events.report(running, replace(report, status=status), produced)
        if ending.reason == "file-system-lost":
            raise FileSystemLost(f"{spec.function_arn}: the file system's connection ended")
        return Outcome(
            payload=payload,
            streamed=stream is not None and stream.streaming,
            error=None if status == "success" else "Unhandled",
            error_type=error_type,
            log_tail=self._log.tail,
            duration_ms=duration_ms,
            billed_ms=report.billed_ms,
            init_ms=init_ms,
            max_memory_mb=report.max_memory_mb,
            environment_id=self.id,
            log_stream=self.log_stream,
        )

    def _failure(self, running: Running, ending: Ending) -> tuple[bytes, Status, str]:
        """Payload, status and error type of what is not a response; ends the processes where they go on."""
        spec, request_id = self.spec, running.invocation.request_id
        error_type = self._error_type(ending)
        if ending.reason == "error":
            return ending.payload, "error", error_type
        if ending.reason == "too-large":
            limit = (
                f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            )
            return error_object(error_type, limit), "error", error_type
        # Whatever is left of it must not go on, but for extensions that are told of the end. The environment is
        # reset: its next invocation begins with an Init phase that nothing reports ("suppressed init").
        if ending.reason == "file-system-lost" or spec.initialization_type != "on-demand":
            self.draining = True
        else:
            self._reset = True
        self._ended_by = "timeout" if ending.reason == "timeout" else "failure"
        if self._slot is not None and self._extensions.expects_shutdown:
            self._slot.kill_runtime()
        elif self._slot is not None:
            self._slot.kill()
        if ending.reason == "timeout":
            self._events.timed_out(request_id)
            message = f"RequestId: {request_id} Error: Task timed out after {spec.timeout_s:.2f} seconds"
            return error_object(error_type, message), "timeout", error_type
        if ending.reason == "file-system-lost":
            return b"", "error", error_type
        reason = exit_reason(ending.status)
        self._events.exited(request_id, reason, error_type)
        return error_object(error_type, f"RequestId: {request_id} Error: {reason}"), "error", error_type

    def _error_type(self, ending: Ending) -> str:
        out_of_memory = ending.killed and self._slot is not None and self._slot.group.out_of_memory()
        return ending.named(out_of_memory=out_of_memory)

    # Between invocations, and the end

    def _freeze_soon(self, seconds: float = _FREEZE_AFTER) -> None:
        if self._freezing is None:
            self._freezing = asyncio.get_running_loop().call_later(seconds, self._freeze)

    def _freeze(self) -> None:
        self._freezing = None
        # A runtime that has not asked for its next event has not finished with its last.
        if self._running is not None or self._slot is None or self._frozen or self._door is None:
            return
        if not self._extensions.at_rest:
            return
        left = self._rested + _FREEZE_AFTER - self._clock.monotonic()
        if left > 0.001:
            self._freeze_soon(left)
            return
        self._events.telemetry.hold(True)
        self._slot.group.freeze()
        self._frozen = True

    def _thaw(self) -> None:
        if self._frozen and self._slot is not None:
            self._slot.group.thaw()
            self._frozen = False
            self._events.telemetry.hold(False)

    async def _clear_away(self) -> None:
        """After a timeout or a crash: what ran here ends, extensions with their Shutdown phase."""
        await self._shut_extensions_down()
        await self._leave_slot(reset=True)
        self._ended_by, self._shutting_down = "spindown", False

    async def _shut_extensions_down(self) -> None:
        """The Shutdown phase, which environments with extensions have, after a timeout or a crash as well."""
        slot = self._slot
        if slot is None or self.busy or not self._extensions.expects_shutdown:
            return
        programs = slot.beside_the_runtime()
        if not programs:
            return
        self._shutting_down = True
        self._thaw()
        flushed = asyncio.create_task(self._events.telemetry.flush(), name="last telemetry")
        # Extensions, too, go by the machine's own time.
        self._extensions.shut_down(self._ended_by, int((time.time() + SHUTDOWN_SECONDS) * 1000))
        await slot.ended(programs, SHUTDOWN_SECONDS)
        flushed.cancel()
        self._log.read(flush=True)

    async def _leave_slot(self, *, reset: bool = False) -> None:
        """`reset`: the environment goes on in another sandbox and keeps its /tmp.

        See the Developer Guide, "Failures during the invoke phase".
        """
        slot, self._slot = self._slot, None
        if slot is None:
            return
        self._frozen = False
        self._door = None
        slot.kill()
        self._events.telemetry.stop()
        self._log.stop_listening()
        if self._extensions_output >= 0:
            os.close(self._extensions_output)
            self._extensions_output = -1
        await self.connection.close()
        if reset and not self.ended:
            await completed(self._part(slot))
        else:
            await self._slots.end(slot)

    async def _part(self, slot: Slot) -> None:
        remainder = await self._slots.part(slot)
        if remainder is not None and self.ended:
            # The end came meanwhile, and found nothing to give back.
            await self._slots.discard(remainder)
        else:
            self._remainder = remainder
