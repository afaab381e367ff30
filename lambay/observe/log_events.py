"""The operations on log events: put, get, filter."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from lambay.aws import Call
from lambay.observe import log_reading
from lambay.observe import log_schema as schema
from lambay.observe.filter_pattern import FilterPattern, InvalidPattern, parse
from lambay.observe.log_errors import invalid, required_group, required_stream, stream_not_found
from lambay.observe.log_reading import Found, Page
from lambay.observe.log_records import BEGINNING, DAY_MS, END, Group, GroupKey, Place, event_bytes
from lambay.observe.log_requests import (
    Input,
    LogsOperations,
    Output,
    continuation,
    continued,
    named_group,
)
from lambay.observe.log_streams import sequence_token

MAX_PUT_BYTES = 1_048_576
MAX_EVENT_BYTES = 1_048_576
MAX_SPAN_MS = DAY_MS
TOO_OLD_MS = 14 * DAY_MS
TOO_NEW_MS = 2 * 3_600_000
DESCENDING_FROM_MS = 1_704_067_200_000
"""2024-01-01: FilterLogEvents gives the latest first only from here on."""

SEARCH_SECONDS = 1.0
"""After this much work FilterLogEvents returns what it has, and where to go on."""


class LogEvents(LogsOperations):
    """Log events."""

    async def put_log_events(self, call: Call, input: Input) -> Output:
        key = GroupKey(call.account, call.region, input["logGroupName"])
        events = [(event["timestamp"], event["message"]) for event in input["logEvents"]]
        _check_put(events)
        rejected: dict[str, int] = {}

        def admit(group: Group) -> slice:
            rejected.clear()
            now_ms = self._store.now_ms()
            timestamps = [timestamp for timestamp, _ in events]
            too_old = bisect_left(timestamps, now_ms - TOO_OLD_MS)
            expired = bisect_left(timestamps, group.oldest_kept_ms(now_ms))
            too_new = bisect_right(timestamps, now_ms + TOO_NEW_MS)
            if too_old:
                rejected["tooOldLogEventEndIndex"] = too_old
            if expired:
                rejected["expiredLogEventEndIndex"] = expired
            if too_new < len(events):
                rejected["tooNewLogEventStartIndex"] = too_new
            admitted = timestamps[max(too_old, expired) : too_new]
            if admitted and admitted[-1] - admitted[0] > MAX_SPAN_MS:
                raise invalid(
                    "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
                )
            return slice(max(too_old, expired), too_new)

        await self._store.put(key, input["logStreamName"], events, admit)
        output: Output = {"nextSequenceToken": sequence_token(self._store.now_ms())}
        if rejected:
            output["rejectedLogEventsInfo"] = rejected
        return output

    async def get_log_events(self, call: Call, input: Input) -> Output:
        key, name = named_group(call, input), input["logStreamName"]
        start_ms, end_ms = _range(input)
        given = input.get("nextToken")
        if given is None:
            backward = not input.get("startFromHead", False)
            place = END if backward else BEGINNING
        else:
            parsed = log_reading.parse_token(given)
            if parsed is None:
                raise invalid("The specified nextToken is invalid.")
            backward, place = parsed[0] == "b", parsed[1]

        def read(connection: sqlite3.Connection) -> Page:
            group = required_group(connection, key)
            stream = required_stream(connection, group, name)
            return log_reading.stream_page(
                connection,
                stream.id,
                place,
                backward=backward,
                start_ms=max(start_ms, group.oldest_kept_ms(self._store.now_ms())),
                end_ms=end_ms,
                limit=input.get("limit", log_reading.PAGE_EVENTS),
            )

        page = await self._store.read(read)
        if not page.events and given is None:
            page = Page((), Place(start_ms, 0), Place(start_ms, 0))
        return {
            "events": [
                {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingested_ms}
                for event in page.events
            ],
            "nextForwardToken": log_reading.token("f", page.after),
            "nextBackwardToken": log_reading.token("b", page.before),
        }

    async def filter_log_events(self, call: Call, input: Input) -> Output:
        key = named_group(call, input)
        names, prefix = input.get("logStreamNames"), input.get("logStreamNamePrefix")
        if names is not None and prefix is not None:
            raise invalid("logStreamNamePrefix and logStreamNames are mutually exclusive parameters.")
        pattern = read_pattern(input.get("filterPattern", ""))
        start_ms, end_ms = _range(input)
        going_on = continued(input.get("nextToken"), bool, int, int)
        descending = going_on[0] if going_on else not input.get("startFromHead", True)
        if going_on is None and descending and start_ms < DESCENDING_FROM_MS:
            raise invalid(
                "startFromHead can be false only with a startTime on or after Jan 1, 2024 00:00:00 UTC."
            )

        def read(connection: sqlite3.Connection) -> Found:
            group = required_group(connection, key)
            return log_reading.search(
                connection,
                group.id,
                _searched(connection, group, names, prefix),
                pattern.matches,
                pattern.literals,
                Place(going_on[1], going_on[2]) if going_on else None,
                descending=descending,
                start_ms=max(start_ms, group.oldest_kept_ms(self._store.now_ms())),
                end_ms=min(end_ms, END.timestamp - 1) + 1,
                limit=input.get("limit", log_reading.PAGE_EVENTS),
                enough=self._store.budget(SEARCH_SECONDS),
            )

        found = await self._store.read(read)
        output: Output = {
            "events": [
                {
                    "logStreamName": event.stream,
                    "timestamp": event.timestamp,
                    "message": event.message,
                    "ingestionTime": event.ingested_ms,
                    "eventId": log_reading.event_id(event),
                }
                for event in found.events
            ],
            "searchedLogStreams": [],
        }
        if found.next is not None:
            output["nextToken"] = continuation(descending, found.next.timestamp, found.next.id)
        return output

    async def test_metric_filter(self, call: Call, input: Input) -> Output:
        pattern = read_pattern(input["filterPattern"])
        return {
            "matches": [
                {
                    "eventNumber": number,
                    "eventMessage": message,
                    "extractedValues": dict(pattern.extract(message)),
                }
                for number, message in enumerate(input["logEventMessages"], start=1)
                if pattern.matches(message)
            ]
        }


def _searched(
    connection: sqlite3.Connection, group: Group, names: Sequence[str] | None, prefix: str | None
) -> list[int] | None:
    """The streams to search, None for all of the group."""
    if names is not None:
        found = [schema.find_stream(connection, group.id, name) for name in names]
        if None in found:
            raise stream_not_found()
        return [stream.id for stream in found if stream is not None]
    if prefix is not None:
        return [stream.id for stream in schema.streams_of(connection, group.id, prefix=prefix)]
    return None


def read_pattern(text: str) -> FilterPattern:
    """The pattern, or InvalidParameterException saying what is wrong with it."""
    try:
        return parse(text)
    except InvalidPattern as error:
        raise invalid(str(error)) from None


def _check_put(events: Sequence[tuple[int, str]]) -> None:
    size = previous = 0
    for timestamp, message in events:
        if timestamp < previous:
            raise invalid("Log events in a single PutLogEvents request must be in chronological order.")
        previous = timestamp
        one = event_bytes(message)
        if one > MAX_EVENT_BYTES:
            raise invalid(f"Log event too large: {one} bytes exceeds limit of {MAX_EVENT_BYTES}")
        size += one
    if size > MAX_PUT_BYTES:
        raise invalid(f"Upload too large: {size} bytes exceeds limit of {MAX_PUT_BYTES}")


def _range(input: Input) -> tuple[int, int]:
    """`startTime` (inclusive) and `endTime` (exclusive), wide open where they are not given."""
    start_ms, end_ms = input.get("startTime", 0), input.get("endTime", END.timestamp)
    if start_ms > end_ms:
        raise invalid("startTime must be less than or equal to endTime.")
    return start_ms, end_ms
