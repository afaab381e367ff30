"""CloudWatch Logs: the service `logs`, and how the other rooms write and follow function logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qs

import msgspec

from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.observe.insights.operations import InsightsOperations
from lambay.observe.insights.running import Insights
from lambay.observe.log_errors import invalid
from lambay.observe.log_events import LogEvents, read_pattern
from lambay.observe.log_filter_operations import LogFilters
from lambay.observe.log_following import Interest, LiveTail, follow
from lambay.observe.log_groups import LogGroups
from lambay.observe.log_metrics import LogMetrics
from lambay.observe.log_records import Event, GroupKey
from lambay.observe.log_store import LogStore
from lambay.observe.log_streams import LogStreams
from lambay.observe.log_subscriptions import Deliver, LogSubscriptions
from lambay.observe.metrics.service import Metrics
from lambay.settings import Settings


class Logs(LogGroups, LogStreams, LogEvents, LogFilters, InsightsOperations, LiveTail):
    """Follows the Amazon CloudWatch Logs API Reference; `path` is logs.db.

    `metrics` get what metric filters and the embedded metric format make of events.
    """

    def __init__(self, path: Path, clock: Clock, settings: Settings, metrics: Metrics | None = None) -> None:
        super().__init__(LogStore(path, clock))
        self._settings = settings
        self._insights = Insights(path)
        self._subscriptions = LogSubscriptions()
        self._store.on_batch(self._subscriptions.take)
        self._log_metrics: LogMetrics | None = None
        if metrics is not None:
            self._log_metrics = LogMetrics(metrics, clock)
            self._store.on_batch(self._log_metrics.take)

    def deliver_to(self, deliver: Deliver | None) -> None:
        """Who queues events for functions that subscription filters send to; None: nobody any more."""
        self._subscriptions.deliver = deliver

    async def start(self) -> None:
        """Begin to remove events that expire."""
        await self._load_filters()
        if self._log_metrics is not None:
            self._log_metrics.start()
        await self._store.start()

    async def close(self) -> None:
        """Make what was written durable, end those who follow, close the file."""
        await self.settle()
        if self._log_metrics is not None:
            await self._log_metrics.stop()
        await self._insights.close()
        await self._store.close()

    async def settle(self) -> None:
        """Until what filters make of the events so far is with metrics and functions."""
        await self._subscriptions.flush()
        if self._log_metrics is not None:
            await self._log_metrics.flush()

    async def reset(self) -> None:
        """Forget every group, stream and event."""
        self._insights.clear()
        await self._store.clear()
        await self._load_filters()

    async def _filters_gone(self) -> None:
        await self._load_filters()

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

    async def tail(
        self,
        account: str,
        region: str,
        group: str,
        *,
        streams: Sequence[str] = (),
        pattern: str = "",
        since_ms: int | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        """The group's events from `since_ms` on, if given, then new ones as they are written, without end.

        `pattern` is a filter pattern; raises AWSError InvalidParameterException for an unreadable one. The
        group need not exist yet. Close the iterator (`aclose`) to follow no longer.
        """
        interest = Interest(read_pattern(pattern), streams)
        async with aclosing(
            follow(self._store, GroupKey(account, region, group), interest, since_ms)
        ) as batches:
            async for events in batches:
                yield events

    async def tail_handler(self, request: Request) -> Response:
        """`GET /_lambay/logs/tail?group=…`: `tail` as JSON lines, one event each, until the client leaves.

        Further parameters: `since` (milliseconds since the epoch), `filter` (a filter pattern), `stream` (may
        be repeated), `region`, `account`. A line has `group`, `stream`, `timestamp`, `ingestionTime` and
        `message`. Raises AWSError InvalidParameterException naming the parameter that is wrong.
        """
        given = parse_qs(request.query)
        group = given.get("group", [""])[0]
        if not group:
            raise invalid("group: the name of a log group is needed")
        since = given.get("since", [""])[0]
        if since and not (since.isascii() and since.isdigit()):
            raise invalid(f"since: {since!r} is not a number of milliseconds since the epoch")
        pattern = given.get("filter", [""])[0]
        read_pattern(pattern)
        events = self.tail(
            given.get("account", [self._settings.account])[0],
            given.get("region", [self._settings.region])[0],
            group,
            streams=given.get("stream", ()),
            pattern=pattern,
            since_ms=int(since) if since else None,
        )
        return Response(200, {"Content-Type": "application/x-ndjson"}, _lines(group, events))


async def _lines(group: str, batches: AsyncGenerator[list[Event], None]) -> AsyncIterator[bytes]:
    async with aclosing(batches):
        async for events in batches:
            yield b"".join(msgspec.json.encode(_line(group, event)) + b"\n" for event in events)


def _line(group: str, event: Event) -> dict[str, str | int]:
    return {
        "group": group,
        "stream": event.stream,
        "timestamp": event.timestamp,
        "ingestionTime": event.ingested_ms,
        "message": event.message,
    }
