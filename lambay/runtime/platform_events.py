"""What Lambda itself tells of an environment: lines in its log, and `platform.*` events of the Telemetry API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from lambay.clock import Clock
from lambay.runtime.ending import Ending, Running
from lambay.runtime.environment_log import EnvironmentLog
from lambay.runtime.report import Report, Words
from lambay.runtime.spec import EnvironmentSpec, Invocation
from lambay.runtime.telemetry import Telemetry, stamp
from lambay.runtime.telemetry_delivery import Post


class PlatformEvents:
    """`telemetry` is that of the environment's present sandbox."""

    def __init__(self, spec: EnvironmentSpec, clock: Clock, log: EnvironmentLog) -> None:
        self.telemetry = Telemetry(clock, _nowhere)
        self._spec = spec
        self._clock = clock
        self._log = log
        self._words = Words(spec)

    # Init

    def environment_starts(self) -> None:
        self._log.write(self._words.init_start(self._log.now_ms))

    def init_starts(self, phase: str) -> None:
        self.telemetry.emit("platform.initStart", self._words.init_record(phase))

    def init_ended(self, phase: str, ending: Ending, error_type: str, duration_ms: float) -> None:
        record: dict[str, object] = {
            "initializationType": self._spec.initialization_type,
            "phase": phase,
            "status": {"ready": "success", "timeout": "timeout"}.get(ending.reason, "error"),
        }
        if ending.reason not in ("ready", "timeout"):
            record["errorType"] = error_type
        self.telemetry.emit("platform.initRuntimeDone", record)
        metrics = {"durationMs": round(duration_ms, 3)}
        self.telemetry.emit("platform.initReport", {**record, "metrics": metrics})

    def init_failed(self, phase: str, ending: Ending, duration_ms: float) -> None:
        error_type = None if ending.reason == "timeout" else ending.error_type
        self._log.write(self._words.init_report(self._log.now_ms, duration_ms, phase, error_type))

    def extensions_ready(self, described: Iterable[tuple[str, Sequence[str]]]) -> None:
        """Names and the events that they want."""
        for name, events in described:
            self._log.write(self._words.extension(self._log.now_ms, name, events))
            self.telemetry.emit(
                "platform.extension", {"name": name, "state": "Ready", "events": list(events)}
            )

    # Invocations

    def invocation_starts(self, invocation: Invocation) -> None:
        self._log.write(self._words.start(self._log.now_ms, invocation.request_id))
        if self.telemetry.wanted:
            record = {"requestId": invocation.request_id, "version": self._spec.version}
            self.telemetry.emit("platform.start", {**record, **_tracing(invocation)})

    def timed_out(self, request_id: str) -> None:
        self._log.write(self._words.timed_out(self._log.now_ms, request_id, self._spec.timeout_s))

    def exited(self, request_id: str, reason: str, error_type: str) -> None:
        self._log.write(self._words.exited(request_id, reason, error_type))

    def invocation_ended(self, now_ms: int, report: Report) -> None:
        self._log.write(self._words.end(report.request_id))
        self._log.write(self._words.report(now_ms, report))

    def report(self, running: Running, report: Report, produced: int) -> None:
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
        self.telemetry.emit("platform.runtimeDone", {**record, "metrics": done, "spans": spans})
        self.telemetry.emit("platform.end", {"requestId": report.request_id})
        self.telemetry.emit("platform.report", {**record, "metrics": report.metrics})


async def _nowhere(port: int) -> Post:
    raise ConnectionRefusedError(f"nothing listens on port {port}")


def _tracing(invocation: Invocation) -> dict[str, object]:
    if invocation.trace_id is None:
        return {}
    return {"tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}}
