"""CloudWatch Logs: the service `logs`, and how the other rooms write and follow function logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lambay.clock import Clock
from lambay.observe.log_events import LogEvents
from lambay.observe.log_groups import LogGroups
from lambay.observe.log_records import GroupKey
from lambay.observe.log_store import LogStore
from lambay.observe.log_streams import LogStreams


class Logs(LogGroups, LogStreams, LogEvents):
    """Follows the Amazon CloudWatch Logs API Reference; `path` is logs.db."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(LogStore(path, clock))

    async def start(self) -> None:
        """Begin to remove events that expire."""
        await self._store.start()

    async def stop(self) -> None:
        """Make what was written durable, end those who follow, close the file."""
        await self._store.stop()

    async def write(
        self, account: str, region: str, group: str, stream: str, events: Sequence[tuple[int, str]]
    ) -> None:
        """Enqueue `events` (milliseconds since the epoch, message) in order and return at once.

        Group and stream are created when missing. The events are readable from now on, and durable within
        a fraction of a second or at the next `flush`.
        """
        await self._store.write(GroupKey(account, region, group), stream, events)

    async def flush(self) -> None:
        """Until everything written so far is durable."""
        await self._store.flush()

    async def clear(self) -> None:
        """Forget every group, stream and event."""
        await self._store.clear()
