"""The operations on log events: put, get, filter."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from lambay.aws import Call
from lambay.observe import log_reading
from lambay.observe.log_errors import invalid, required_group, required_stream
from lambay.observe.log_reading import Page
from lambay.observe.log_records import BEGINNING, DAY_MS, END, Group, GroupKey, Place, event_bytes
from lambay.observe.log_requests import Input, LogsOperations, Output, named_group
from lambay.observe.log_streams import sequence_token

MAX_PUT_BYTES = 1_048_576
MAX_EVENT_BYTES = 1_048_576
MAX_SPAN_MS = DAY_MS
TOO_OLD_MS = 14 * DAY_MS
TOO_NEW_MS = 2 * 3_600_000


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
