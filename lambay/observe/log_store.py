"""Log groups, streams and events in a database of their own.

Function logs are enqueued and written a few at a time, so that no invocation waits for a disk; what
PutLogEvents acknowledges is on disk first. Readers have connections of their own and always see everything
that was written before them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lambay.clock import Clock
from lambay.observe import log_schema as schema
from lambay.observe.log_errors import required_group, required_stream
from lambay.observe.log_records import Batch, Group, GroupKey, event_bytes
from lambay.observe.log_tail import Subscription, Tails
from lambay.observe.readers import Readers
from lambay.store import Database

R = TypeVar("R")

_LINGER_SECONDS = 0.05
_PENDING_BYTES = 32 << 20
_PURGE_EVENTS = 5000
_READERS = 2
_SWEEP_MIN_SECONDS = 60.0
_SWEEP_MAX_SECONDS = 3600.0

_log = logging.getLogger("lambay.observe")


class LogStore:
    """The file `path`. Between `start` and `stop` it also removes what has expired or was deleted."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._database = Database(path, schema.MIGRATIONS)
        self._readers = Readers(path, _READERS, "log reader")
        self._tails = Tails()
        self._listeners: list[Callable[[Batch], None]] = []
        self._next_id = self._database.run_blocking(schema.last_event_id) + 1
        self._pending: deque[Batch] = deque()
        self._pending_bytes = 0
        self._linger: asyncio.TimerHandle | None = None
        self._putting: set[int] = set()
        self._committing: set[asyncio.Task[None]] = set()
        # Touched on the database's thread only.
        self._ids: dict[tuple[GroupKey, str], tuple[int, int]] = {}
        self._sweep_wanted = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to remove expired and deleted events, also those of an earlier run."""
        self._sweeper = asyncio.create_task(self._sweep(), name="log retention")

    async def close(self) -> None:
        """Write everything that waits, end those who watch, close the file."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self._tails.end()
        await self.flush()
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._database.close)

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def budget(self, seconds: float) -> Callable[[], bool]:
        """Whether `seconds` of work have passed since now."""
        ends = self._clock.monotonic() + seconds
        return lambda: self._clock.monotonic() > ends

    async def write(self, group: GroupKey, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Enqueue `events` (milliseconds, message) in order; group and stream are created when missing.

        Returns at once, except where more than 32 MiB wait for the disk: then the writer waits too.
        """
        kept = [event for event in events if event[1]]
        if not kept:
            return
        batch = self._number(group, stream, kept)
        self._pending.append(batch)
        self._pending_bytes += sum(event_bytes(message) for _, message in kept)
        self._publish(batch)
        if self._pending_bytes > _PENDING_BYTES:
            await self.flush()
        elif self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._submit)

    async def put(
        self,
        key: GroupKey,
        stream: str,
        events: Sequence[tuple[int, str]],
        admit: Callable[[Group], slice],
    ) -> slice:
        """Write those of `events` that `admit` lets into the group; durable on return.

        Raises AWSError ResourceNotFoundException where there is no such group or stream.
        """
        batch = self._number(key, stream, events)

        def work(connection: sqlite3.Connection) -> slice:
            group = required_group(connection, key)
            owner = required_stream(connection, group, stream)
            admitted = admit(group)
            schema.insert_events(connection, [(batch.part(admitted), group.id, owner.id)])
            return admitted

        self._putting.add(batch.first_id)
        try:
            admitted = await self.change(work)
        finally:
            self._putting.discard(batch.first_id)
        self._publish(batch.part(admitted))
        return admitted

    async def change(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run `work` in a transaction behind everything written so far; durable on return."""
        self._submit()
        # A task of its own, so that it queues behind the one that `_submit` has just made.
        return await asyncio.create_task(self._database.run(work))

    async def remove(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """`change` for work that deletes groups or streams."""

        def forgetting(connection: sqlite3.Connection) -> R:
            self._ids.clear()
            return work(connection)

        removed = await self.change(forgetting)
        self._sweep_wanted.set()
        return removed

    async def read(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run `work`, which only reads, over everything written so far."""
        await self.flush()
        return await self._readers.run(work)

    async def flush(self) -> None:
        """Until everything written so far is durable."""
        self._submit()
        if self._committing:
            await asyncio.wait(set(self._committing))

    def subscribe(self, *groups: GroupKey) -> Subscription:
        """The events that are written to `groups` from now on; `read` gives all those of lower ids."""
        return self._tails.subscribe(groups, min(self._putting, default=self._next_id))

    def retention_changed(self) -> None:
        """A group's retention is another; what it makes expire is removed soon."""
        self._sweep_wanted.set()

    async def clear(self) -> None:
        """Forget everything."""
        await self.remove(schema.clear)

    def on_batch(self, listener: Callable[[Batch], None]) -> None:
        """Have `listener` called in the event loop with all events that are written from now on."""
        self._listeners.append(listener)

    def _publish(self, batch: Batch) -> None:
        self._tails.publish(batch)
        for listener in self._listeners:
            try:
                listener(batch)
            except Exception:
                _log.exception("a listener failed on events of %s", batch.group.name)

    def _number(self, group: GroupKey, stream: str, events: Sequence[tuple[int, str]]) -> Batch:
        batch = Batch(group, stream, self.now_ms(), self._next_id, events)
        self._next_id += len(events)
        return batch

    def _submit(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self._pending:
            return
        self._pending_bytes = 0
        task = asyncio.create_task(self._commit())
        self._committing.add(task)
        task.add_done_callback(self._committing.discard)

    async def _commit(self) -> None:
        batches: list[Batch] = []
        try:
            await self._database.run(lambda connection: self._append(connection, batches))
        except Exception:
            events = sum(len(batch.events) for batch in batches)
            _log.exception("%d log events of functions could not be written and are lost", events)

    def _append(self, connection: sqlite3.Connection, batches: list[Batch]) -> None:
        """Write all that waits, noting in `batches` what it was."""
        try:
            while self._pending:
                batches.append(self._pending.popleft())
            owned = [(batch, *self._stream_ids(connection, batch)) for batch in batches]
            schema.insert_events(connection, owned)
        except BaseException:
            self._ids.clear()
            raise

    def _stream_ids(self, connection: sqlite3.Connection, batch: Batch) -> tuple[int, int]:
        ids = self._ids.get((batch.group, batch.stream))
        if ids is None:
            group = schema.find_group(connection, batch.group)
            group_id = group.id if group else schema.insert_group(connection, batch.group, batch.ingested_ms)
            assert group_id is not None
            stream = schema.find_stream(connection, group_id, batch.stream)
            stream_id = (
                stream.id
                if stream
                else schema.insert_stream(connection, group_id, batch.stream, batch.ingested_ms)
            )
            assert stream_id is not None
            ids = self._ids[(batch.group, batch.stream)] = (group_id, stream_id)
        return ids

    async def _sweep(self) -> None:
        while True:
            self._sweep_wanted.clear()
            due_ms = None
            try:
                while await self._database.run(lambda connection: schema.purge(connection, _PURGE_EVENTS)):
                    pass
                due_ms = await self._expire()
            except sqlite3.Error:
                _log.exception("expired and deleted log events could not be removed; trying again later")
            await self._wait_for_expiry(due_ms)

    async def _expire(self) -> int | None:
        """Remove expired events, a few thousand a transaction; when the next ones expire."""
        for group in await self._readers.run(schema.groups_with_retention):
            while await self._expire_some(group.id) == _PURGE_EVENTS:
                pass
        return await self._readers.run(schema.next_expiry_ms)

    async def _expire_some(self, group_id: int) -> int:
        now_ms = self.now_ms()
        return await self._database.run(
            lambda connection: schema.expire(connection, group_id, now_ms, _PURGE_EVENTS)
        )

    async def _wait_for_expiry(self, due_ms: int | None) -> None:
        seconds = _SWEEP_MAX_SECONDS if due_ms is None else due_ms / 1000 - self._clock.time()
        seconds = min(max(seconds, _SWEEP_MIN_SECONDS), _SWEEP_MAX_SECONDS)
        waits: list[asyncio.Task[object]] = [
            asyncio.create_task(_done(self._sweep_wanted.wait())),
            asyncio.create_task(_done(self._clock.sleep(seconds))),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _done(awaited: Awaitable[object]) -> object:
    return await awaited
