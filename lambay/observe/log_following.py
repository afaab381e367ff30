"""Following log groups: for the rooms and the command line, and as StartLiveTail."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from lambay.aws import AWSError, Call
from lambay.observe import log_reading
from lambay.observe import log_schema as schema
from lambay.observe.filter_pattern import FilterPattern
from lambay.observe.log_errors import invalid, required_group
from lambay.observe.log_events import SEARCH_SECONDS, read_pattern
from lambay.observe.log_records import END, Event, GroupKey, Place
from lambay.observe.log_requests import Input, LogsOperations, Output, identified_group
from lambay.observe.log_store import LogStore
from lambay.observe.log_tail import Subscription

LIVE_TAIL_SECONDS = 3 * 3600
"""How long a Live Tail session lasts at most."""

UPDATE_SECONDS = 1.0
"""A session's updates come at least this often, empty ones where nothing was written, as AWS's do."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events of a group somebody follows: of these streams (all where none is named), and matching."""

    pattern: FilterPattern
    streams: Sequence[str] = ()
    prefixes: Sequence[str] = ()

    def wants(self, event: Event) -> bool:
        if (self.streams or self.prefixes) and not (
            event.stream in self.streams or event.stream.startswith(tuple(self.prefixes))
        ):
            return False
        return self.pattern.matches(event.message)


async def follow(
    store: LogStore, group: GroupKey, interest: Interest, since_ms: int | None
) -> AsyncGenerator[list[Event], None]:
    """Stored events from `since_ms` on (none where it is None), then new ones the moment they are written.

    Each event comes once, in the order in which it was stored or written. The group need not exist yet.
    """
    subscription = store.subscribe(group)
    try:
        given: set[int] = set()
        if since_ms is not None:
            async with aclosing(_stored(store, group, interest, since_ms)) as stored:
                async for events in stored:
                    given.update(event.id for event in events if event.id >= subscription.floor)
                    yield events
        while (news := await subscription.next()) is not None:
            events = [event for _, event in news if event.id not in given and interest.wants(event)]
            if events:
                yield events
    finally:
        subscription.end()


async def _stored(
    store: LogStore, key: GroupKey, interest: Interest, since_ms: int
) -> AsyncGenerator[list[Event], None]:
    place: Place | None = None

    def read(connection: sqlite3.Connection) -> log_reading.Found:
        group = schema.find_group(connection, key)
        if group is None:
            return log_reading.Found((), None)
        return log_reading.search(
            connection,
            group.id,
            None,
            interest.pattern.matches,
            interest.pattern.literals,
            place,
            descending=False,
            start_ms=max(since_ms, group.oldest_kept_ms(store.now_ms())),
            end_ms=END.timestamp,
            limit=log_reading.PAGE_EVENTS,
            enough=store.budget(SEARCH_SECONDS),
        )

    while True:
        found = await store.read(read)
        events = [event for event in found.events if interest.wants(event)]
        if events:
            yield events
        place = found.next
        if place is None:
            return


class LiveTail(LogsOperations):
    """StartLiveTail."""

    async def start_live_tail(self, call: Call, input: Input) -> Output:
        """Event stream: the session's start, then what was written, at least one update a second."""
        groups = [identified_group(call, identifier) for identifier in input["logGroupIdentifiers"]]
        streams, prefixes = input.get("logStreamNames"), input.get("logStreamNamePrefixes")
        if (streams or prefixes) and len(groups) > 1:
            raise invalid("Log streams can be specified only with one log group in logGroupIdentifiers.")
        if streams and prefixes:
            raise invalid("logStreamNames and logStreamNamePrefixes are mutually exclusive parameters.")
        pattern = read_pattern(input.get("logEventFilterPattern", ""))
        interest = Interest(pattern, streams or (), prefixes or ())
        await self._store.read(lambda connection: [required_group(connection, group) for group in groups])
        subscription = self._store.subscribe(*groups)
        identifiers = {group: f"{group.account}:{group.name}" for group in groups}
        start = {
            "requestId": call.request_id,
            "sessionId": str(uuid.uuid4()),
            **{name: value for name, value in input.items() if value},
        }
        return {"responseStream": self._session(subscription, interest, identifiers, start)}

    async def _session(
        self,
        subscription: Subscription,
        interest: Interest,
        identifiers: Mapping[GroupKey, str],
        start: Output,
    ) -> AsyncIterator[Output]:
        limit = asyncio.create_task(self._store.sleep(LIVE_TAIL_SECONDS))
        limit.add_done_callback(lambda _: subscription.end())
        try:
            yield {"sessionStart": start}
            lost = 0
            while True:
                try:
                    news = await asyncio.wait_for(subscription.next(), UPDATE_SECONDS)
                except TimeoutError:
                    news = []
                if news is None:
                    break
                results = [
                    {
                        "logGroupIdentifier": identifiers[group],
                        "logStreamName": event.stream,
                        "timestamp": event.timestamp,
                        "ingestionTime": event.ingested_ms,
                        "message": event.message,
                    }
                    for group, event in news
                    if interest.wants(event)
                ]
                sampled, lost = subscription.lost > lost, subscription.lost
                yield {"sessionUpdate": {"sessionMetadata": {"sampled": sampled}, "sessionResults": results}}
            if limit.done():
                raise AWSError("SessionTimeoutException", "The Live Tail session has lasted three hours.")
        finally:
            limit.cancel()
            subscription.end()
