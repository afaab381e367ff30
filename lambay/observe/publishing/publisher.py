"""Looks at fsd every five seconds and puts each minute's metrics when it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from lambay.clock import Clock
from lambay.fsd import FsdError
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.metrics.service import Metrics
from lambay.observe.publishing.file_systems import NAMESPACE, FileSystemTraffic
from lambay.observe.publishing.functions import FunctionActivity
from lambay.observe.publishing.ports import FileServer, FileSystems, Stats

SAMPLE_SECONDS = 5.0
STORAGE_SECONDS = 900
_DATA_A_TURN = 200

Further = Callable[[int, float], Awaitable[list[Datum]]]
"""More data, of the minute that began then and counts so many seconds. Raises nothing."""

_log = logging.getLogger("lambay.observe")


class Publisher:
    """`stats` is what fsd told last, for whoever shows it."""

    def __init__(
        self,
        metrics: Metrics,
        activity: FunctionActivity,
        file_server: FileServer,
        file_systems: FileSystems,
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._activity = activity
        self._file_server = file_server
        self._file_systems = file_systems
        self._clock = clock
        self._traffic = FileSystemTraffic()
        self._minute = int(clock.time()) // 60
        self._storage_due = 0.0
        self._published = clock.time()
        self._sampling: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self.stats: Stats | None = None
        self.sampled = asyncio.Event()
        """Set at the next look, and replaced by another one then."""
        self._listeners: list[Callable[[], None]] = []
        self._further: list[Further] = []

    def also(self, further: Further) -> None:
        """Put what `further` gives as well."""
        self._further.append(further)

    def on_sample(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each look at fsd."""
        self._listeners.append(listener)

    async def start(self) -> None:
        self._minute = int(self._clock.time()) // 60
        self._sampling = asyncio.create_task(self._run(), name="metric publishing")

    async def stop(self) -> None:
        """Put what was counted since the last minute as well."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
            self._sampling = None
        await self.publish()

    async def publish(self) -> None:
        """Put everything counted so far, the minute that runs included; more of it adds up later."""
        await self._look(all_of_it=True)

    async def catch_up(self) -> None:
        """Return once the metrics of every minute that is over are put."""
        await self._look()

    def forget(self) -> None:
        """Forget what was counted and is not put yet."""
        self._activity.forget()
        self._traffic.forget()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                _log.exception("metrics could not be published; trying again")
            await self._clock.sleep(SAMPLE_SECONDS)

    async def _look(self, *, all_of_it: bool = False) -> None:
        async with self._one_at_a_time:
            now = self._clock.time()
            minute = int(now) // 60
            over = minute > self._minute or all_of_it
            volumes = await self._volumes(now, tell_time=over)
            if over:
                # What was counted lies in its minute, what is so now in the one just over: the clock may have
                # jumped between them.
                state_at = (minute if all_of_it else minute - 1) * 60
                watched = {each.id: each for each in self._file_systems.watched()}
                data = self._traffic.take(self._minute * 60, state_at, volumes, watched)
                async for some in in_turns(self._activity.take(before=None if all_of_it else minute)):
                    data += some
                data += await self._storage(now, state_at)
                for further in self._further:
                    data += await further(state_at, min(60.0, max(0.0, now - self._published)))
                self._published = now
                self._minute = minute
                await self._metrics.put(data)
            for listener in self._listeners:
                listener()
            sampled, self.sampled = self.sampled, asyncio.Event()
            sampled.set()

    async def _volumes(self, now: float, *, tell_time: bool) -> Mapping[str, Mapping[str, Any]]:
        try:
            if tell_time:
                # Credits are told as they are at this clock's time.
                await self._file_server.set_clock(int(now * 1e9))
            self.stats = await self._file_server.stats()
        except FsdError as error:
            _log.debug("the file server tells no counters: %s", error)
            return {}
        self._traffic.sample(self.stats.volumes)
        return self.stats.volumes

    async def _storage(self, now: float, at: int) -> list[Datum]:
        """StorageBytes, each quarter of an hour."""
        if now < self._storage_due:
            return []
        self._storage_due = now + STORAGE_SECONDS
        found: list[Datum] = []
        for file_system in self._file_systems.watched():
            sizes = await self._file_systems.stored_bytes(file_system.id)
            if sizes is None:
                continue
            for name, size in {"Total": sum(sizes.values()), **sizes}.items():
                metric = Metric(
                    file_system.account,
                    file_system.region,
                    NAMESPACE,
                    "StorageBytes",
                    dimensions({"FileSystemId": file_system.id, "StorageClass": name}),
                )
                found.append(Datum(metric, at, Point.of(float(size)), "Bytes"))
        return found


async def in_turns(parts: Iterable[list[Datum]]) -> AsyncIterator[list[Datum]]:
    """`parts`, with a turn for others every now and then: no invocation waits for a thousand functions' metrics."""
    ready = 0
    for part in parts:
        yield part
        ready += len(part)
        if ready >= _DATA_A_TURN:
            ready = 0
            await asyncio.sleep(0)
