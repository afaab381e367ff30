"""Asynchronous invocations: a durable queue with retries, kept in a database of its own.

An event is on disk before it is accepted and is removed once its outcome was handled, so a crash repeats an
invocation rather than losing one, as Lambda's "at least once". See "How Lambda handles errors and retries
with asynchronous invocation".
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.functions import lineage
from lambay.functions.delivery import Delivery, Ended
from lambay.functions.invoking import Invoker
from lambay.functions.names import FunctionName, function_of
from lambay.functions.ports import Activity, Uncounted
from lambay.functions.records import LATEST, EventInvoke
from lambay.functions.resources import Resources
from lambay.runtime import Invocation, Outcome
from lambay.store import Database

_log = logging.getLogger(__name__)

MAXIMUM_AGE_S = 21_600
MAXIMUM_RETRIES = 2
_RETRY_AFTER_S = 60
_FIRST_BACKOFF_S = 1
_LONGEST_BACKOFF_S = 300
# How many events of one function are under way at once.
_PACE = 10

_MIGRATIONS = (
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        function TEXT NOT NULL,
        qualifier TEXT NOT NULL,
        request_id TEXT NOT NULL,
        event BLOB NOT NULL,
        client_context TEXT,
        accepted REAL NOT NULL,
        due REAL NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0
    )
    """,
    "ALTER TABLE events ADD COLUMN trace_id TEXT",
)


class Queued(msgspec.Struct, frozen=True):
    """An event that waits; its payload stays on disk. `failures` are the function's, `refusals` ours."""

    id: int
    account: str
    region: str
    function: str
    qualifier: str
    request_id: str
    client_context: str | None
    accepted: float
    due: float
    failures: int = 0
    refusals: int = 0
    trace_id: str | None = None

    @property
    def name(self) -> FunctionName:
        return FunctionName(self.account, self.region, self.function, self.qualifier or None)

    @property
    def settings_key(self) -> str:
        return f"{self.name.key}/{self.qualifier or LATEST}"


class EventQueue:
    """Accepts events and invokes with them until each has succeeded or ended in a failure."""

    def __init__(
        self,
        path: Path,
        resources: Resources,
        invoker: Invoker,
        delivery: Delivery,
        clock: Clock,
        activity: Activity | None = None,
    ) -> None:
        self._activity = activity or Uncounted()
        self._database = Database(path, _MIGRATIONS)
        self._resources = resources
        self._invoker = invoker
        self._delivery = delivery
        self._clock = clock
        self._waiting: dict[str, list[tuple[float, int, Queued]]] = {}
        self._at_work: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what an earlier run left, and begin."""
        for queued in await self._database.run(_load):
            self._push(queued)
        self._server = asyncio.get_running_loop().create_task(self._serve(), name="lambda: event queue")
        self._server.add_done_callback(_told)

    async def stop(self) -> None:
        """Stop; events under way stay on disk for the next start."""
        tasks = [*self._tasks, *([self._server] if self._server else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = None
        self._waiting.clear()

    def close(self) -> None:
        self._database.close()

    async def reset(self) -> None:
        """Forget every event."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiting.clear()
        await self._database.run(lambda connection: connection.execute("DELETE FROM events").rowcount)

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._waiting.values()) + sum(self._at_work.values())

    async def enqueue(
        self,
        name: FunctionName,
        event: bytes,
        *,
        request_id: str,
        client_context: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Accept an event: it is durable when this returns."""
        now = self._clock.time()
        queued = Queued(
            0,
            name.account,
            name.region,
            name.name,
            name.qualifier or "",
            request_id,
            client_context,
            now,
            now,
            trace_id=trace_id,
        )
        # A caller who gives up must not leave an event on disk that nobody knows of.
        await asyncio.shield(self._accept(queued, event))

    async def _accept(self, queued: Queued, event: bytes) -> None:
        number = await self._database.run(lambda connection: _insert(connection, queued, event))
        self._activity.event_received(queued.name)
        self._push(msgspec.structs.replace(queued, id=number))

    async def forget(self, function_key: str) -> None:
        """Drop the waiting events of a function that was deleted."""
        heap = self._waiting.pop(function_key, [])
        numbers = [(number,) for _, number, _ in heap]
        await self._database.run(
            lambda connection: connection.executemany("DELETE FROM events WHERE id = ?", numbers).rowcount
        )

    def _push(self, queued: Queued) -> None:
        heapq.heappush(self._waiting.setdefault(queued.name.key, []), (queued.due, queued.id, queued))
        self._changed.set()

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            next_due = self._dispatch(self._clock.time())
            changed = asyncio.ensure_future(self._changed.wait())
            waits: set[asyncio.Future[Any]] = {changed}
            if next_due is not None:
                waits.add(asyncio.ensure_future(self._clock.sleep(next_due - self._clock.time())))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _dispatch(self, now: float) -> float | None:
        """Begin what is due and may begin; when the next event of an unhurried function is due."""
        following: list[float] = []
        for function_key, heap in list(self._waiting.items()):
            while heap and heap[0][0] <= now and self._at_work[function_key] < _PACE:
                self._begin(function_key, heapq.heappop(heap)[2])
            if not heap:
                del self._waiting[function_key]
            elif self._at_work[function_key] < _PACE:
                following.append(heap[0][0])
        return min(following, default=None)

    def _begin(self, function_key: str, queued: Queued) -> None:
        self._at_work[function_key] += 1
        task = asyncio.get_running_loop().create_task(
            self._process(queued), name=f"lambda: event {queued.request_id}"
        )
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._at_work[function_key] -= 1
            if not self._at_work[function_key]:
                del self._at_work[function_key]
            self._changed.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("event %s of %s failed", queued.request_id, function_key, exc_info=error)

        task.add_done_callback(ended)

    async def _process(self, queued: Queued) -> None:
        event = await self._database.run(lambda connection: _event(connection, queued.id))
        if event is None:
            return
        settings = self._resources.event_invokes.get(queued.settings_key)
        if self._clock.time() - queued.accepted > _maximum_age(settings):
            await self._end(queued, event, "EventAgeExceeded", settings, None, None)
            return
        try:
            target = await self._invoker.target_of(queued.name)
            if target.reserved == 0:
                await self._end(queued, event, "ZeroReservedConcurrency", settings, None, None)
                return
            invocation = Invocation(
                request_id=queued.request_id,
                event=event,
                invoked_arn=queued.name.given_arn,
                client_context=queued.client_context,
                trace_id=queued.trace_id,
            )
            self._activity.event_aged(queued.name, self._clock.time() - queued.accepted)
            invoked = await self._invoker.run(target, invocation)
        except AWSError as error:
            await self._refused(queued, event, settings, error)
            return
        if invoked.outcome.error is None:
            await self._end(queued, event, "Success", settings, invoked.outcome, invoked.version)
        else:
            await self._failed(queued, event, settings, invoked.outcome, invoked.version)

    async def _refused(
        self, queued: Queued, event: bytes, settings: EventInvoke | None, error: AWSError
    ) -> None:
        """The function was not run: throttled, not ready or broken. Try later until the event is too old."""
        if error.code == "ResourceNotFoundException":
            _log.info("event %s: %s: dropped", queued.request_id, error.message)
            await self._remove(queued)
        elif error.code == "RecursiveInvocationException":
            _log.warning("event %s: %s: %s", queued.request_id, queued.name.arn, error.message)
            await self._end(queued, event, "RecursiveInvocation", settings, _as_outcome(error), None)
        elif error.code.startswith("EFS"):
            await self._failed(queued, event, settings, _as_outcome(error), None)
        else:
            delay = min(_FIRST_BACKOFF_S * 2**queued.refusals, _LONGEST_BACKOFF_S)
            await self._again(queued, delay, refusals=queued.refusals + 1)

    async def _failed(
        self,
        queued: Queued,
        event: bytes,
        settings: EventInvoke | None,
        outcome: Outcome,
        version: str | None,
    ) -> None:
        """The function failed: it is run again after one and two minutes, as often as its settings say."""
        failures = queued.failures + 1
        queued = msgspec.structs.replace(queued, failures=failures)
        if failures > _maximum_retries(settings):
            await self._end(queued, event, "RetriesExhausted", settings, outcome, version)
        else:
            await self._again(queued, _RETRY_AFTER_S * failures, failures=failures)

    async def _again(self, queued: Queued, delay: float, **changes: int) -> None:
        later = msgspec.structs.replace(queued, due=self._clock.time() + delay, **changes)
        await self._database.run(
            lambda connection: (
                connection.execute(
                    "UPDATE events SET due = ?, failures = ?, refusals = ? WHERE id = ?",
                    (later.due, later.failures, later.refusals, later.id),
                ).rowcount
            )
        )
        self._push(later)

    async def _end(
        self,
        queued: Queued,
        event: bytes,
        condition: str,
        settings: EventInvoke | None,
        outcome: Outcome | None,
        version: str | None,
    ) -> None:
        """Hand the result to its destination, then forget the event."""
        invocations = queued.failures + (1 if condition == "Success" else 0)
        if condition != "Success":
            self._activity.event_dropped(queued.name)
        ended = Ended(
            name=queued.name,
            request_id=queued.request_id,
            event=event,
            condition=condition,
            invocations=invocations,
            outcome=outcome,
            version=version,
        )
        for target, record in self._delivery.destinations(ended, settings):
            if target.split(":")[2] == "lambda":
                if not await self._delivery.permitted(ended, target, record):
                    continue
                name = function_of(target)
                await self.enqueue(
                    name,
                    msgspec.json.encode(record),
                    request_id=self._delivery.request_id(),
                    trace_id=_chain(queued),
                )
            else:
                await self._delivery.send(ended, target, record)
        await self._remove(queued)

    async def _remove(self, queued: Queued) -> None:
        await self._database.run(
            lambda connection: connection.execute("DELETE FROM events WHERE id = ?", (queued.id,)).rowcount
        )


def _told(server: asyncio.Task[None]) -> None:
    if not server.cancelled() and (error := server.exception()) is not None:
        _log.critical("the event queue ended", exc_info=error)


def _maximum_age(settings: EventInvoke | None) -> int:
    return MAXIMUM_AGE_S if settings is None or settings.maximum_age is None else settings.maximum_age


def _maximum_retries(settings: EventInvoke | None) -> int:
    return (
        MAXIMUM_RETRIES if settings is None or settings.maximum_retries is None else settings.maximum_retries
    )


def _chain(queued: Queued) -> str:
    """The trace header that the event's own invocation had, for what follows from it."""
    return lineage.continued(queued.trace_id, queued.name.arn)[0]


def _as_outcome(error: AWSError) -> Outcome:
    return Outcome(
        payload=msgspec.json.encode({"errorType": error.code, "errorMessage": error.message}),
        error="Unhandled",
        error_type=error.code,
    )


_COLUMNS = (
    "id, account, region, function, qualifier, request_id, client_context, accepted, due, failures, "
    "refusals, trace_id"
)


def _load(connection: sqlite3.Connection) -> list[Queued]:
    return [Queued(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY id")]


def _event(connection: sqlite3.Connection, number: int) -> bytes | None:
    row = connection.execute("SELECT event FROM events WHERE id = ?", (number,)).fetchone()
    return None if row is None else bytes(row[0])


def _insert(connection: sqlite3.Connection, queued: Queued, event: bytes) -> int:
    inserted = connection.execute(
        "INSERT INTO events (account, region, function, qualifier, request_id, event, client_context, "
        "accepted, due, trace_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            queued.account,
            queued.region,
            queued.function,
            queued.qualifier,
            queued.request_id,
            event,
            queued.client_context,
            queued.accepted,
            queued.due,
            queued.trace_id,
        ),
    )
    number: Any = inserted.lastrowid
    return int(number)
