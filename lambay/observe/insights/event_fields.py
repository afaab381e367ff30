"""What names stand for in an event: its own fields, those of functions' platform events, properties of its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lambay.observe.insights.sql import Parameters, Sql

COLUMNS = ("id", "at", "ingested_ms", "message", "json_at", "stream", "log")
"""Of the rows that hold events."""

# Events of functions may have a time and a request before their JSON.
_DOCUMENT = "CASE json_at WHEN 1 THEN message ELSE substr(message, json_at) END"
_REPORT = "(substr(message, 1, 7) = 'REPORT ')"
_PLATFORM = "(instr(message, '\"platform.report\"') > 0)"
_REQUEST = r"(?:RequestId: |^\S+Z\t|\"requestId\": ?\")([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
_TYPE = (
    "(CASE WHEN substr(message, 1, 16) = 'REPORT RequestId' THEN 'REPORT' "
    "WHEN substr(message, 1, 15) = 'START RequestId' THEN 'START' "
    "WHEN substr(message, 1, 13) = 'END RequestId' THEN 'END' "
    f"WHEN {_PLATFORM} THEN 'REPORT' WHEN instr(message, '\"platform.start\"') > 0 THEN 'START' END)"
)
_LAMBDA_NUMBERS = {
    "@duration": (r"\tDuration: ([0-9.]+) ms", "durationMs", 1),
    "@billedDuration": (r"\tBilled Duration: ([0-9.]+) ms", "billedDurationMs", 1),
    "@initDuration": (r"\tInit Duration: ([0-9.]+) ms", "initDurationMs", 1),
    "@memorySize": (r"\tMemory Size: ([0-9]+) MB", "memorySizeMB", 1_000_000),
    "@maxMemoryUsed": (r"\tMax Memory Used: ([0-9]+) MB", "maxMemoryUsedMB", 1_000_000),
}
_PLAIN = {
    "@timestamp": Sql("at", "time"),
    "@ingestionTime": Sql("ingested_ms", "time"),
    "@message": Sql("message", "text"),
    "@logStream": Sql("stream", "text"),
    "@log": Sql("log", "text"),
    "@ptr": Sql("CAST(id AS TEXT)", "text"),
}
_MATCHED = {"@requestId": _REQUEST, "@xrayTraceId": r"XRAY TraceId: (\S+)"}


class EventFields:
    """`drawn` are the expressions so far that take something out of a message, which costs; the same field is always
    the same expression."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._known: dict[tuple[str, ...], Sql] = {}

    @property
    def drawn(self) -> list[str]:
        return [sql.text for sql in self._known.values()]

    def of(self, name: str, path: tuple[str, ...]) -> Sql:
        if name in _PLAIN:
            return _PLAIN[name]
        key = (name,) if name == "@type" or name in _MATCHED or name in _LAMBDA_NUMBERS else path
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._draw(name, path)
        return found

    def _draw(self, name: str, path: Sequence[str]) -> Sql:
        if name == "@type":
            return Sql(_TYPE, "text")
        if name in _MATCHED:
            return Sql(f"matched_group({self._parameters.add(_MATCHED[name])}, 0, message)", "text")
        if name in _LAMBDA_NUMBERS:
            return self._lambda_number(name)
        return self._property(path)

    def _lambda_number(self, name: str) -> Sql:
        text, member, factor = _LAMBDA_NUMBERS[name]
        pattern = self._parameters.add(text)
        times = f" * {factor}" if factor != 1 else ""
        return Sql(
            f"(CASE WHEN {_REPORT} THEN CAST(matched_group({pattern}, 0, message) AS REAL){times} "
            f"WHEN {_PLATFORM} THEN {self._property(('record', 'metrics', member)).text}{times} END)",
            "number",
        )

    def _property(self, path: Sequence[str]) -> Sql:
        where = self._parameters.add(json_path(path))
        return Sql(f"(CASE WHEN json_at THEN json_extract({_DOCUMENT}, {where}) END)")


def json_path(path: Sequence[str]) -> str:
    steps = (f"[{step}]" if step.isdigit() else "." + json.dumps(step, ensure_ascii=False) for step in path)
    return "$" + "".join(steps)
