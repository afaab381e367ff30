"""Log events to those who watch, the moment they are written."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from lambay.observe.log_records import Batch, Event, GroupKey

_EVENTS_KEPT = 10_000

News = tuple[GroupKey, Event]


class Subscription:
    """The events of some groups as they come, none of an id under `floor`.

    A reader that falls 10,000 events behind loses the oldest; `lost` counts them.
    """

    def __init__(self, tails: Tails, groups: Sequence[GroupKey], floor: int) -> None:
        self.floor = floor
        self.lost = 0
        self._tails = tails
        self._groups = groups
        self._news: deque[News] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    async def next(self) -> list[News] | None:
        """Everything that has come since, at least one event; None once the subscription has ended."""
        await self._arrived.wait()
        if not self._news:
            return None
        news = list(self._news)
        self._news.clear()
        if not self._ended:
            self._arrived.clear()
        return news

    def end(self) -> None:
        """Watch no longer: `next` gives what has come, then None."""
        self._ended = True
        self._arrived.set()
        self._tails.forget(self._groups, self)

    def deliver(self, group: GroupKey, events: Sequence[Event]) -> None:
        self._news.extend((group, event) for event in events)
        while len(self._news) > _EVENTS_KEPT:
            self._news.popleft()
            self.lost += 1
        self._arrived.set()


class Tails:
    """Who watches which group."""

    def __init__(self) -> None:
        self._watching: dict[GroupKey, list[Subscription]] = {}

    def subscribe(self, groups: Sequence[GroupKey], floor: int) -> Subscription:
        subscription = Subscription(self, groups, floor)
        for group in groups:
            self._watching.setdefault(group, []).append(subscription)
        return subscription

    def forget(self, groups: Sequence[GroupKey], subscription: Subscription) -> None:
        for group in groups:
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
            subscription.deliver(batch.group, events)

    def end(self) -> None:
        """End every subscription."""
        for watching in list(self._watching.values()):
            for subscription in list(watching):
                subscription.end()
