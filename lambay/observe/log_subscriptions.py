"""Log events to functions, as subscription filters want them.

CloudWatch Logs User Guide, "Subscription filters with AWS Lambda". Events go out half a second after the first of them.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lambay.observe import log_reading
from lambay.observe.filter_pattern import FilterPattern, parse
from lambay.observe.log_filters import LogFilter
from lambay.observe.log_records import Batch, Event, GroupKey, event_bytes

_LINGER_SECONDS = 0.5
_MOST_BYTES = 600_000
"""Of messages in one delivery, before it is compressed: an event of a function has at most 1 MiB."""

_log = logging.getLogger("lambay.observe")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a function gets, as the functions' room takes it."""

    function_arn: str
    event: Any
    source_arn: str
    source_account: str
    principal: str = "logs.amazonaws.com"
    trace_id: str = ""


Deliver = Callable[[Delivery], Awaitable[None]]


class LogSubscriptions:
    """Told of every batch of events. `deliver` queues a function's event durably."""

    def __init__(self) -> None:
        self.deliver: Deliver | None = None
        self._filters: dict[GroupKey, list[tuple[LogFilter, FilterPattern]]] = {}
        self._pending: dict[tuple[GroupKey, str, str], tuple[LogFilter, list[Event]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def use(self, filters: Sequence[LogFilter]) -> None:
        """The subscription filters that there are from now on."""
        self._filters = {}
        for kept in filters:
            self._filters.setdefault(kept.group, []).append((kept, parse(kept.pattern)))

    async def flush(self) -> None:
        """Return once everything that waits is queued for its function."""
        self._send()
        while self._sending:
            await asyncio.wait(set(self._sending))

    def take(self, batch: Batch) -> None:
        """Called in the event loop for every batch of events that is written."""
        filters = self._filters.get(batch.group)
        if not filters:
            return
        events = batch.numbered()
        for kept, pattern in filters:
            chosen = [event for event in events if pattern.matches(event.message)]
            if chosen:
                key = (batch.group, kept.name, batch.stream)
                self._pending.setdefault(key, (kept, []))[1].extend(chosen)
        if self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, {}
        for (_, _, stream), (kept, events) in pending.items():
            for part in _parts(events):
                task = asyncio.create_task(self._send_one(kept, stream, part))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def _send_one(self, kept: LogFilter, stream: str, events: Sequence[Event]) -> None:
        if self.deliver is None:
            return
        delivery = Delivery(
            kept.destination, _event(kept, stream, events), f"{kept.group.arn}:*", kept.group.account
        )
        try:
            await self.deliver(delivery)
        except Exception:
            _log.exception(
                "%d log events of %s are lost to %s", len(events), kept.group.name, kept.destination
            )


def _parts(events: Sequence[Event]) -> list[list[Event]]:
    parts: list[list[Event]] = [[]]
    size = 0
    for event in events:
        size += event_bytes(event.message)
        if parts[-1] and size > _MOST_BYTES:
            parts.append([])
            size = event_bytes(event.message)
        parts[-1].append(event)
    return parts


def _event(kept: LogFilter, stream: str, events: Sequence[Event]) -> dict[str, Any]:
    told = {
        "messageType": "DATA_MESSAGE",
        "owner": kept.group.account,
        "logGroup": kept.group.name,
        "logStream": stream,
        "subscriptionFilters": [kept.name],
        "logEvents": [
            {"id": log_reading.event_id(event), "timestamp": event.timestamp, "message": event.message}
            for event in events
        ],
    }
    return {"awslogs": {"data": base64.b64encode(gzip.compress(msgspec.json.encode(told), 1)).decode()}}
