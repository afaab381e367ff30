"""Takes environments' log events to CloudWatch Logs without keeping an invocation waiting.

While one batch is written the next gathers, so that a busy fleet writes rarely and much, an idle one at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

Event = tuple[int, str]
"""Milliseconds since the epoch, and the message."""

WriteLog = Callable[[str, str, str, str, Sequence[Event]], Awaitable[None]]
"""Account, Region, log group, log stream, events."""

Stream = tuple[str, str, str, str]

_log = logging.getLogger("lambay.runtime")


_MOST_WAITING = 20_000


class LogShipping:
    def __init__(self, write: WriteLog) -> None:
        self._write = write
        self._count = 0
        self._drained: list[Callable[[], None]] = []
        self._waiting: dict[Stream, list[Event]] = {}
        self._shipping: asyncio.Task[None] | None = None

    def put(self, stream: Stream, events: list[Event]) -> None:
        waiting = self._waiting.setdefault(stream, events)
        if waiting is not events:
            waiting += events
        self._count += len(events)
        if self._shipping is None:
            self._shipping = asyncio.create_task(self._ship(), name="function logs")

    @property
    def full(self) -> bool:
        """Whether so many events wait that no more should come for now."""
        return self._count > _MOST_WAITING

    def when_drained(self, call: Callable[[], None]) -> None:
        """Have `call` called once what waits now is written."""
        self._drained.append(call)

    async def flush(self) -> None:
        """Return once all that was put is written."""
        while self._shipping is not None:
            await asyncio.shield(self._shipping)

    async def _ship(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                for stream, events in batch.items():
                    await self._one(stream, events)
                    self._count -= len(events)
                drained, self._drained = self._drained, []
                for call in drained:
                    call()
        finally:
            self._shipping = None

    async def _one(self, stream: Stream, events: list[Event]) -> None:
        try:
            await self._write(*stream, events)
        except Exception:
            _log.exception("%d log events of %s are lost", len(events), "/".join(stream[2:]))
