"""The lines that Lambda itself writes into a function's log, and the error objects it answers with.

Text format as in the Lambda Developer Guide, "Viewing CloudWatch logs for Lambda functions"; JSON system logs
("Working with Lambda function logs", LogFormat=JSON) carry the same records as `platform.*` events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from lambay.runtime.spec import EnvironmentSpec
from lambay.runtime.versions import runtime_version_arn

# As the Go runtime, in which Lambda's supervisor is written, names them.
_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    11: "segmentation fault",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
    31: "bad system call",
}

Status = Literal["success", "error", "timeout"]


@dataclass(frozen=True, slots=True)
class Report:
    """What the REPORT line says. Durations in milliseconds."""

    request_id: str
    duration_ms: float
    billed_ms: int
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None
    status: Status
    error_type: str | None
    trace_id: str | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "durationMs": round(self.duration_ms, 3),
            "billedDurationMs": self.billed_ms,
            "memorySizeMB": self.memory_mb,
            "maxMemoryUsedMB": self.max_memory_mb,
        }
        if self.init_ms is not None:
            metrics["initDurationMs"] = round(self.init_ms, 3)
        return metrics


class Words:
    """The lines in the function's log format; each is one event."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._json = spec.log_format == "JSON"
        # System logs below the chosen level are left out; see "Log-level filtering".
        level = spec.system_log_level or "INFO"
        self._quiet = self._json and level == "WARN"
        self._spec = spec

    def init_start(self, now_ms: int) -> str | None:
        spec = self._spec
        if not spec.runtime and not self._json:
            # A container image has no runtime version.
            return None
        version = f"{spec.runtime.replace('python', 'python:')}.v1"
        runtime_arn = runtime_version_arn(spec.region, spec.runtime)
        if not self._json:
            return f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {runtime_arn}\n"
        return self._event(now_ms, "platform.initStart", self.init_record("init"))

    def init_record(self, phase: str) -> dict[str, Any]:
        """What `platform.initStart` says."""
        spec = self._spec
        record: dict[str, Any] = {
            "initializationType": spec.initialization_type,
            "phase": phase,
            "functionName": spec.function_name,
            "functionVersion": spec.version,
        }
        if spec.runtime:
            record["runtimeVersion"] = f"{spec.runtime.replace('python', 'python:')}.v1"
            record["runtimeVersionArn"] = runtime_version_arn(spec.region, spec.runtime)
        return record

    def init_report(self, now_ms: int, duration_ms: float, phase: str, error_type: str | None) -> str | None:
        """Written for an Init phase that failed."""
        status = "timeout" if error_type is None else "error"
        if not self._json:
            cause = f"\tError Type: {error_type}" if error_type else ""
            return (
                f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}\tStatus: {status}{cause}\n"
            )
        record: dict[str, Any] = {
            "initializationType": self._spec.initialization_type,
            "phase": phase,
            "status": status,
            "metrics": {"durationMs": round(duration_ms, 3)},
        }
        if error_type:
            record["errorType"] = error_type
        return self._event(now_ms, "platform.initReport", record)

    def extension(self, now_ms: int, name: str, events: Sequence[str]) -> str | None:
        if not self._json:
            return f"EXTENSION\tName: {name}\tState: Ready\tEvents: [{', '.join(events)}]\n"
        return self._event(
            now_ms, "platform.extension", {"name": name, "state": "Ready", "events": list(events)}
        )

    def start(self, now_ms: int, request_id: str) -> str | None:
        if not self._json:
            return f"START RequestId: {request_id} Version: {self._spec.version}\n"
        record = {
            "requestId": request_id,
            "functionArn": self._spec.function_arn,
            "version": self._spec.version,
        }
        return self._event(now_ms, "platform.start", record)

    def end(self, request_id: str) -> str | None:
        return None if self._json else f"END RequestId: {request_id}\n"

    def report(self, now_ms: int, report: Report) -> str | None:
        return self._json_report(now_ms, report) if self._json else _text_report(report)

    def timed_out(self, now_ms: int, request_id: str, seconds: float) -> str | None:
        if self._json:
            # platform.report tells it.
            return None
        return f"{_stamp(now_ms)} {request_id} Task timed out after {seconds:.2f} seconds\n\n"

    def exited(self, request_id: str, reason: str, error_type: str) -> str | None:
        if self._json:
            return None
        return f"RequestId: {request_id} Error: {reason}\n{error_type}\n"

    def _json_report(self, now_ms: int, report: Report) -> str | None:
        record: dict[str, Any] = {
            "requestId": report.request_id,
            "metrics": report.metrics,
            "status": report.status,
        }
        if report.error_type and report.status == "error":
            record["errorType"] = report.error_type
        return self._event(now_ms, "platform.report", record, failed=report.status != "success")

    def _event(
        self, now_ms: int, kind: str, record: Mapping[str, Any], *, failed: bool = False
    ) -> str | None:
        if self._quiet and not failed:
            return None
        entry = {"time": _stamp(now_ms), "type": kind, "record": record}
        return msgspec.json.encode(entry).decode() + "\n"


def billed(duration_ms: float, init_ms: float | None) -> int:
    """Whole milliseconds, rounded up, Init included: as billed since August 2025."""
    return math.ceil(duration_ms + (init_ms or 0.0))


def error_object(error_type: str, message: str) -> bytes:
    return msgspec.json.encode({"errorType": error_type, "errorMessage": message})


def exit_reason(status: int) -> str:
    """How a process's end reads in an error; `status` as a shell gives it, or negative for a signal."""
    number = status - 128 if status > 128 else -status
    if number > 0:
        return f"Runtime exited with error: signal: {_SIGNALS.get(number, str(number))}"
    if status > 0:
        return f"Runtime exited with error: exit status {status}"
    return "Runtime exited without providing a reason"


def _text_report(report: Report) -> str:
    parts = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
        f"Max Memory Used: {report.max_memory_mb} MB",
    ]
    if report.init_ms is not None:
        parts.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.status != "success":
        parts.append(f"Status: {report.status}")
        if report.status == "error":
            parts.append(f"Error Type: {report.error_type}")
    if report.trace_id and "Sampled=1" in report.trace_id:
        root = report.trace_id.partition("Root=")[2].partition(";")[0]
        parts.append(f"\nXRAY TraceId: {root}")
    return "\t".join(parts) + "\t\n"


def _stamp(now_ms: int) -> str:
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}Z"
