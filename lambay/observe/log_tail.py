"""Log events to those who watch, the moment they are written."""

from __future__ import annotations

import asyncio
from collections import deque

from lambay.observe.log_records import Batch, Event, GroupKey

_EVENTS_KEPT = 10_000


class Subscription:
    """The events of one group as they come, none of an id under `floor`.

    A reader that falls 10,000 events behind loses the oldest; `lost` counts them.
    """

    def __init__(self, tails: Tails, group: GroupKey, floor: int) -> None:
        self.floor = floor
        self._tails = tails
        self._group = group
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self.lost = 0

    async def next(self) -> list[Event] | None:
        """Everything that has come since, at least one event; None once the store has stopped."""
        await self._news.wait()
        if not self._events:
            return None
        events = list(self._events)
        self._events.clear()
        if not self._closed:
            self._news.clear()
        return events

    def close(self) -> None:
        """Watch no longer."""
        self._tails.forget(self._group, self)

    def _deliver(self, events: list[Event]) -> None:
        self._events.extend(events)
        while len(self._events) > _EVENTS_KEPT:
            self._events.popleft()
            self.lost += 1
        self._news.set()

    def _end(self) -> None:
        self._closed = True
        self._news.set()


class Tails:
    """Who watches which group."""

    def __init__(self) -> None:
        self._watching: dict[GroupKey, list[Subscription]] = {}

    def subscribe(self, group: GroupKey, floor: int) -> Subscription:
        subscription = Subscription(self, group, floor)
        self._watching.setdefault(group, []).append(subscription)
        return subscription

    def forget(self, group: GroupKey, subscription: Subscription) -> None:
        watching = self._watching.get(group, [])
        if subscription in watching:
            watching.remove(subscription)
        if not watching:
            self._watching.pop(group, None)

    def publish(self, batch: Batch) -> None:
        """Costs nothing where nobody watches."""
        watching = self._watching.get(batch.group)
        if not watching or not batch.events:
            return
        events = batch.numbered()
        for subscription in watching:
            subscription._deliver(events)

    def close(self) -> None:
        """End every subscription once it has been read."""
        for watching in self._watching.values():
            for subscription in watching:
                subscription._end()
