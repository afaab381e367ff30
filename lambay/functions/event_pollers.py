"""One poller for each enabled event source mapping, of a queue or of a stream."""

from __future__ import annotations

import asyncio
import logging

from lambay.aws import Arn, Neighbours
from lambay.clock import Clock
from lambay.functions.delivery import Delivery
from lambay.functions.invoking import Invoker
from lambay.functions.queue_pollers import QueuePoller
from lambay.functions.records import EventSourceMapping
from lambay.functions.resources import Resources
from lambay.functions.stream_pollers import StreamPoller

_log = logging.getLogger(__name__)


class EventPollers:
    """Starts and stops them; `changed` wakes those of a stream's service."""

    def __init__(
        self,
        resources: Resources,
        invoker: Invoker,
        neighbours: Neighbours,
        delivery: Delivery,
        clock: Clock,
    ) -> None:
        self._resources = resources
        self._invoker = invoker
        self._neighbours = neighbours
        self._delivery = delivery
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._streams: dict[str, StreamPoller] = {}

    async def prepare(self, mapping: EventSourceMapping) -> None:
        """What has to be settled before a new mapping is acknowledged: where a stream is read from."""
        if Arn.parse(mapping.source_arn).service != "sqs":
            await self._stream(mapping).prepare()

    def start(self, mapping: EventSourceMapping) -> None:
        if mapping.key in self._tasks:
            return
        poller: QueuePoller | StreamPoller
        if Arn.parse(mapping.source_arn).service == "sqs":
            poller = QueuePoller(mapping, self._resources, self._invoker, self._neighbours, self._clock)
        else:
            poller = self._streams[mapping.key] = self._stream(mapping)
        task = asyncio.get_running_loop().create_task(poller.run(), name=f"lambda: mapping {mapping.uuid}")
        task.add_done_callback(_told)
        self._tasks[mapping.key] = task

    async def stop(self, mapping_key: str) -> None:
        """Return once the poller has ended; batches under way are abandoned and come back."""
        self._streams.pop(mapping_key, None)
        task = self._tasks.pop(mapping_key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        for key in list(self._tasks):
            await self.stop(key)

    def changed(self, account: str, region: str) -> None:
        """A service with streams has changed there."""
        for key, poller in self._streams.items():
            if key.startswith(f"{account}/{region}/"):
                poller.changed()

    def __len__(self) -> int:
        return len(self._tasks)

    def _stream(self, mapping: EventSourceMapping) -> StreamPoller:
        return StreamPoller(
            mapping, self._resources, self._invoker, self._neighbours, self._delivery, self._clock
        )


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended", task.get_name(), exc_info=error)
