"""One execution environment: Init, one invocation at a time, freeze between them, end.

Follows the Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle".
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Literal

from lambay.clock import Clock
from lambay.fsd import FsdError, Permissions
from lambay.runtime.completion import completed
from lambay.runtime.environment_log import EnvironmentLog
from lambay.runtime.extensions import Extensions
from lambay.runtime.log_shipping import LogShipping
from lambay.runtime.mounting import MountHold, mount_file_system
from lambay.runtime.report import Report, Status, Words, billed, error_object, exit_reason
from lambay.runtime.runtime_api import MAX_RESPONSE_BYTES, Door
from lambay.runtime.slot import Slot
from lambay.runtime.spec import (
    EVERYTHING,
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
from lambay.runtime.telemetry import Telemetry, stamp
from lambay.runtime.telemetry_delivery import Post
from lambay.runtime.traffic import Traffic
from lambay.runtime.variables import environment_variables
from lambay.spans import Attributes, Tracer, span

INIT_SECONDS = 10.0
SHUTDOWN_SECONDS = 2.0
_FREEZE_AFTER = 0.02
# Line ends are white space in JSON, and the end of a header.
_ONE_LINE = {ord("\r"): " ", ord("\n"): " "}

_log = logging.getLogger("lambay.runtime")

Reason = Literal["ready", "response", "error", "too-large", "timeout", "exit", "file-system-lost"]


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an Init phase or an invocation ended; `status` is the exit's, as a shell would give it."""

    reason: Reason
    payload: bytes = b""
    error_type: str | None = None
    status: int = 0


@dataclass(eq=False, slots=True)
class _Running:
    invocation: Invocation
    ending: asyncio.Future[_Ending]
    began: float
    delivered: bool = False
    responded: float | None = None


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
        take_slot: Callable[[EnvironmentSpec], Awaitable[Slot]],
        end_slot: Callable[[Slot], Awaitable[None]],
        gone: Callable[[Environment], None],
        tracer: Tracer | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.spec = spec
        self.log_stream = f"{clock.now():%Y/%m/%d}/[{spec.version}]{self.id}"
        self.mount_id: str | None = None
        self.draining = False
        self.ended = False
        self.idle_since = 0.0
        self.began = clock.time()
        self.invocations = 0
        self._clock = clock
        self._file_server = file_server
        self._issue = credentials
        self._take_slot = take_slot
        self._end_slot = end_slot
        self._gone = gone
        self._tracer = tracer
        self.traffic = Traffic(file_server)
        self._credentials: Credentials | None = None
        self._words = Words(spec)
        self._log = EnvironmentLog((spec.account, spec.region, spec.group, self.log_stream), clock, shipping)
        self._slot: Slot | None = None
        self._door: Door | None = None
        self._init: asyncio.Future[_Ending] | None = None
        self._lost = False
        self._shutting_down = False
        self._telemetry = Telemetry(clock, _nowhere)
        self._extensions = Extensions(spec, self._telemetry, self._proceed, self._extension_lost)
        self._extensions_output = -1
        self._ended_by: Literal["spindown", "timeout", "failure"] = "spindown"
        self._init_ms: float | None = None
        self._running: _Running | None = None
        self._mounts = 0
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
        self._log.write(self._words.init_start(self._log.now_ms))
        self._credentials = await self._issue(self.spec)
        ending, duration_ms = await self._initialise(INIT_SECONDS)
        if ending.reason == "ready":
            self._init_ms = duration_ms
        else:
            self._log.write(self._init_report(duration_ms, "init", ending))
        self._log.ship()

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Raises FileSystemLost, and whatever building anew may raise after a failed Init."""
        if self._running is not None:
            raise RuntimeError(f"environment {self.id} runs an invocation already")
        if self.ended:
            raise SandboxFailure(f"environment {self.id} was ended before its invocation")
        loop = asyncio.get_running_loop()
        running = _Running(invocation, loop.create_future(), self._clock.monotonic())
        timer = loop.call_later(self.spec.timeout_s, self._settle, _Ending("timeout"))
        self._running = running
        self.invocations += 1
        self._log.begin(tail=invocation.tail_log)
        self._thaw()
        try:
            await self.settled()
            if self.spec.network is not None and self._slot is not None:
                await self._slot.settle()
            if self._lost or (self._slot is not None and self._slot.exited.done()):
                await self._leave_slot()
            if self._slot is None:
                await self._initialise_again(running)
            else:
                self._tell_of_start(invocation)
                self._deliver()
            ending = await running.ending
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
        killed = _Ending("exit", status=128 + 9)
        if self._init is not None and not self._init.done():
            self._init.set_result(killed)
        self._settle(killed)
        await self._leave_slot()
        self._log.ship()

    def lose_file_system(self) -> None:
        """The file server died with this environment's mount: nothing here is of use any more."""
        self._lost = True
        self.draining = True
        if self._init is not None and not self._init.done():
            self._init.set_result(_Ending("file-system-lost"))
        elif not self._settle(_Ending("file-system-lost")):
            self._gone(self)

    async def permit(self, mount: FileSystemMount) -> bool:
        """The mount has the permissions of `mount` from now on; whether that could be had.

        Files that the kernel writes past the file server lose nothing while they are open: where something is
        taken away, the processes that hold them end.
        """
        before = self.spec.file_system.permissions if self.spec.file_system is not None else EVERYTHING
        # An Init phase that is repeated mounts anew.
        self.spec = replace(self.spec, file_system=mount)
        if self.mount_id is None:
            return True
        after = mount.permissions
        try:
            turned = await self._file_server.permit(self.mount_id, after)
        except FsdError as error:
            _log.warning("environment %s: its mount's permissions stay as they are: %s", self.id, error)
            return False
        taken = (after.read_only and not before.read_only, after.root_squash and not before.root_squash)
        if turned.bypassing and any(taken):
            self.lose_file_system()
        return True

    def revoke(self) -> None:
        """The mount is not permitted any more: what runs loses it, and none is made that could be used."""
        if self.spec.file_system is not None:
            denied = replace(self.spec.file_system, permissions=Permissions(denied=True))
            self.spec = replace(self.spec, file_system=denied)
        self.lose_file_system()

    # Init

    async def _initialise(self, seconds: float, phase: str = "init") -> tuple[_Ending, float]:
        """How it ended, and its duration in milliseconds."""
        with span(self._tracer, "claim slot", {}):
            slot = await self._take_slot(self.spec)
        if self.ended:
            await self._end_slot(slot)
            raise SandboxFailure(f"environment {self.id} was ended before its Init phase")
        self._slot = slot
        self._door = None
        loop = asyncio.get_running_loop()
        began = self._clock.monotonic()
        init: asyncio.Future[_Ending] = loop.create_future()
        self._init = init
        slot.calls = self
        slot.exited.add_done_callback(lambda _: self._exited(slot))
        self._telemetry.stop()
        self._telemetry = telemetry = Telemetry(self._clock, slot.connect)
        self._extensions = Extensions(self.spec, telemetry, self._proceed, self._extension_lost)
        self._log.listen(slot.output, lambda event: telemetry.emit("function", event.removesuffix("\n")))
        telemetry.emit("platform.initStart", self._words.init_record(phase))
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
            ending = _Ending("timeout")
        except BaseException:
            await self._leave_slot()
            raise
        finally:
            self._init = None
        duration_ms = (self._clock.monotonic() - began) * 1000
        if self.ended:
            raise SandboxFailure(f"environment {self.id} was ended in its Init phase")
        self._log.read()
        self._tell_of_init(phase, ending, duration_ms)
        if ending.reason != "ready":
            ending = replace(ending, error_type=self._error_type(ending))
            self._peak_mb = slot.group.peak_memory_mb()
            await self._leave_slot()
            if ending.reason == "file-system-lost":
                raise FileSystemLost("the file server ended during the Init phase")
            return ending, duration_ms
        self._extensions.end_registration()
        for name, events in self._extensions.described:
            self._log.write(self._words.extension(self._log.now_ms, name, events))
            telemetry.emit("platform.extension", {"name": name, "state": "Ready", "events": list(events)})
        telemetry.end_subscriptions()
        slot.group.limit_cpu(self.spec.memory_mb)
        return ending, duration_ms

    def _run(self, slot: Slot, variables: Mapping[str, str]) -> None:
        if not self._extensions.programs:
            slot.run(variables)
            return
        # The function's logs and its extensions' are told apart in telemetry only.
        telemetry = self._telemetry
        self._extensions_output, written = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._extensions_output, False)
        self._log.listen(
            self._extensions_output, lambda event: telemetry.emit("extension", event.removesuffix("\n"))
        )
        slot.run(variables, written)
        os.close(written)

    def _tell_of_start(self, invocation: Invocation) -> None:
        self._log.write(self._words.start(self._log.now_ms, invocation.request_id))
        if self._telemetry.wanted:
            record = {"requestId": invocation.request_id, "version": self.spec.version}
            self._telemetry.emit("platform.start", {**record, **_tracing(invocation)})

    def _tell_of_end(self, running: _Running, report: Report, produced: int) -> None:
        """What the REPORT line tells, as telemetry, and when the response began and ended."""
        invocation, duration_ms = running.invocation, round(report.duration_ms, 3)
        began = datetime.fromtimestamp(self._clock.time() - report.duration_ms / 1000, UTC)
        latency = (
            duration_ms if running.responded is None else round((running.responded - running.began) * 1000, 3)
        )
        spans = [
            {"name": "responseLatency", "start": stamp(began), "durationMs": latency},
            {
                "name": "responseDuration",
                "start": stamp(began + timedelta(milliseconds=latency)),
                "durationMs": round(duration_ms - latency, 3),
            },
        ]
        failed = {} if report.status == "success" else {"errorType": report.error_type}
        record = {"requestId": report.request_id, "status": report.status, **failed, **_tracing(invocation)}
        done = {"durationMs": duration_ms, "producedBytes": produced}
        spans = spans if report.status == "success" else []
        self._telemetry.emit("platform.runtimeDone", {**record, "metrics": done, "spans": spans})
        self._telemetry.emit("platform.end", {"requestId": report.request_id})
        self._telemetry.emit("platform.report", {**record, "metrics": report.metrics})

    def _tell_of_init(self, phase: str, ending: _Ending, duration_ms: float) -> None:
        record: dict[str, object] = {
            "initializationType": self.spec.initialization_type,
            "phase": phase,
            "status": {"ready": "success", "timeout": "timeout"}.get(ending.reason, "error"),
        }
        if ending.reason not in ("ready", "timeout"):
            record["errorType"] = self._error_type(ending)
        self._telemetry.emit("platform.initRuntimeDone", record)
        metrics = {"durationMs": round(duration_ms, 3)}
        self._telemetry.emit("platform.initReport", {**record, "metrics": metrics})

    async def _initialise_again(self, running: _Running) -> None:
        """What failed in Init, or broke since, is repeated as part of the invocation, in the function's time."""
        self._lost = self._reset = False
        self._resetting = None
        left = running.began + self.spec.timeout_s - self._clock.monotonic()
        ending, duration_ms = await self._initialise(left, "invoke")
        if ending.reason == "ready":
            self._tell_of_start(running.invocation)
            self._deliver()
            return
        self._log.write(self._init_report(duration_ms, "invoke", ending))
        self._tell_of_start(running.invocation)
        running.delivered = True
        self._settle(ending)

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
        if spec.file_system is not None:
            await self._mount(slot, spec.file_system)

    async def _mount(self, slot: Slot, wanted: FileSystemMount) -> None:
        mountpoint = slot.tree.mnt / wanted.mount_path.removeprefix("/mnt/")
        try:
            mountpoint.mkdir()
        except OSError as error:
            raise SandboxFailure(f"{self.spec.function_arn}: {error}") from error
        self._mounts += 1
        mount_id = f"{self.id}-{self._mounts}"
        attributes: Attributes = {
            "aws.efs.file_system.id": wanted.volume,
            "lambay.mount.id": mount_id,
            "lambay.mount.path": wanted.mount_path,
            "lambay.mount.root": wanted.root,
            "lambay.mount.read_only": wanted.read_only or wanted.permissions.read_only,
        }
        with span(self._tracer, "mount", attributes):
            if wanted.targets is not None:
                hold = MountHold(self._file_server, mount_id, self.lose_file_system)
                await slot.open_lifeline(wanted.targets, hold, self.spec.timeout_s)
            self.mount_id = mount_id
            await completed(mount_file_system(self._file_server, mount_id, mountpoint, wanted))
        if self.ended:
            # The end came while the mount was on its way, and found nothing to unmount.
            await self._unmount(mount_id)

    def _init_report(self, duration_ms: float, phase: str, ending: _Ending) -> str | None:
        error_type = None if ending.reason == "timeout" else ending.error_type
        return self._words.init_report(self._log.now_ms, duration_ms, phase, error_type)

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
                self._init.set_result(_Ending("ready"))
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
        if self._settle(_Ending("error", error_object(kind, f"RequestId: {request_id} Error: {kind}"), kind)):
            self.draining = True

    def respond(self, request_id: str, payload: bytes) -> bool:
        return self._settle(_Ending("response", payload))

    def respond_too_large(self, request_id: str, size: int) -> bool:
        return self._settle(_Ending("too-large", error_type="Function.ResponseSizeTooLarge"))

    def fail(self, request_id: str, payload: bytes, error_type: str) -> bool:
        return self._settle(_Ending("error", payload, error_type))

    def fail_init(self, payload: bytes, error_type: str) -> bool:
        if self._init is None or self._init.done():
            return False
        self._init.set_result(_Ending("error", payload, error_type))
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
        ending = _Ending("error", error_object(kind, f"RequestId: {request_id} Error: {kind}"), kind)
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
        trace_id = invocation.trace_id or _trace_id()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.invoked_arn,
            "Lambda-Runtime-Trace-Id": trace_id,
        }
        if invocation.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context.translate(_ONE_LINE)
        if invocation.cognito_identity is not None:
            headers["Lambda-Runtime-Cognito-Identity"] = invocation.cognito_identity.translate(_ONE_LINE)
        door.answer(HTTPStatus.OK, invocation.event, headers)
        self._extensions.invoke(invocation, deadline_ms, trace_id)

    def _settle(self, ending: _Ending) -> bool:
        running = self._running
        if running is None or running.ending.done():
            return False
        running.ending.set_result(ending)
        return True

    def _exited(self, slot: Slot) -> None:
        if slot is not self._slot or self._reset:
            return
        self._ended_by = "failure"
        ending = _Ending("exit", status=slot.exited.result())
        if self._init is not None and not self._init.done():
            self._init.set_result(ending)
        elif not self._settle(ending):
            self._gone(self)

    def _conclude(self, running: _Running, ending: _Ending) -> Outcome:
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
        self._log.write(self._words.end(request_id))
        self._log.write(self._words.report(now_ms, report))
        if self._telemetry.wanted:
            told = replace(report, status=status)
            self._tell_of_end(
                running, told, stream.size if stream is not None and stream.streaming else len(payload)
            )
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

    def _failure(self, running: _Running, ending: _Ending) -> tuple[bytes, Status, str]:
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
            self._log.write(self._words.timed_out(self._log.now_ms, request_id, spec.timeout_s))
            message = f"RequestId: {request_id} Error: Task timed out after {spec.timeout_s:.2f} seconds"
            return error_object(error_type, message), "timeout", error_type
        if ending.reason == "file-system-lost":
            return b"", "error", error_type
        reason = exit_reason(ending.status)
        self._log.write(self._words.exited(request_id, reason, error_type))
        return error_object(error_type, f"RequestId: {request_id} Error: {reason}"), "error", error_type

    def _error_type(self, ending: _Ending) -> str:
        if ending.error_type is not None:
            return ending.error_type
        if ending.reason == "timeout":
            return "Sandbox.Timedout"
        if ending.reason == "file-system-lost":
            return "EFSIOException"
        killed = ending.status in (-9, 128 + 9)
        if killed and self._slot is not None and self._slot.group.out_of_memory():
            return "Runtime.OutOfMemory"
        return "Runtime.ExitError"

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
        self._telemetry.hold(True)
        self._slot.group.freeze()
        self._frozen = True

    def _thaw(self) -> None:
        if self._frozen and self._slot is not None:
            self._slot.group.thaw()
            self._frozen = False
            self._telemetry.hold(False)

    async def _clear_away(self) -> None:
        """After a timeout or a crash: what ran here ends, extensions with their Shutdown phase."""
        await self._shut_extensions_down()
        await self._leave_slot()
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
        flushed = asyncio.create_task(self._telemetry.flush(), name="last telemetry")
        # Extensions, too, go by the machine's own time.
        self._extensions.shut_down(self._ended_by, int((time.time() + SHUTDOWN_SECONDS) * 1000))
        await slot.ended(programs, SHUTDOWN_SECONDS)
        flushed.cancel()
        self._log.read(flush=True)

    async def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        self._frozen = False
        self._door = None
        slot.kill()
        self._telemetry.stop()
        self._log.stop_listening()
        if self._extensions_output >= 0:
            os.close(self._extensions_output)
            self._extensions_output = -1
        if self.mount_id is not None:
            mount_id, self.mount_id = self.mount_id, None
            await self._unmount(mount_id)
        await self._end_slot(slot)

    async def _unmount(self, mount_id: str) -> None:
        try:
            await self._file_server.unmount(mount_id)
        except FsdError as error:
            _log.warning("environment %s: unmount: %s", self.id, error)


async def _nowhere(port: int) -> Post:
    raise ConnectionRefusedError(f"nothing listens on port {port}")


def _tracing(invocation: Invocation) -> dict[str, object]:
    if invocation.trace_id is None:
        return {}
    return {"tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}}


def _trace_id() -> str:
    """An unsampled X-Ray trace header."""
    root = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return f"Root={root};Parent={secrets.token_hex(8)};Sampled=0"
