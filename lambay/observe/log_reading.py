"""Pages of log events, as GetLogEvents and FilterLogEvents turn them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lambay.observe.log_records import BEGINNING, END, Event, Place, event_bytes

PAGE_BYTES = 1 << 20
PAGE_EVENTS = 10_000

_TOKEN = re.compile(r"(?P<direction>[fb])/(?P<timestamp>[0-9]{20})(?P<id>[0-9]{36})/s")
_ROWS_A_FETCH = 256

Row = tuple[int, int, int, int, str]
"""Event id, stream id, timestamp, ingestion time, message."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order of time, and the gaps before the first and behind the last of them."""

    events: Sequence[Event]
    before: Place
    after: Place


def token(direction: str, place: Place) -> str:
    """A `nextForwardToken` (`f`) or `nextBackwardToken` (`b`): 56 digits, as AWS's."""
    return f"{direction}/{place.timestamp:020d}{place.id:036d}/s"


def parse_token(text: str) -> tuple[str, Place] | None:
    """Direction and place of a token, None where it is not one."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    place = Place(int(match["timestamp"]), int(match["id"]))
    return (match["direction"], place) if BEGINNING <= place <= END and place.id < 1 << 63 else None


def event_id(event: Event) -> str:
    """FilterLogEvents' `eventId`, which sorts as the events do."""
    return f"{event.timestamp:020d}{event.id:036d}"


def stream_page(
    connection: sqlite3.Connection,
    stream_id: int,
    place: Place,
    *,
    backward: bool,
    start_ms: int,
    end_ms: int,
    limit: int,
) -> Page:
    """Up to `limit` events of one stream and 1 MiB, from `place` on or, backward, before it."""
    low, high = max(BEGINNING, Place(start_ms, 0)), Place(end_ms, 0)
    if backward:
        high = min(high, place)
    else:
        low = max(low, place)
    rows = _rows(connection, "stream_id = ?", (stream_id,), low, high, descending=backward, limit=limit)
    events: list[Event] = []
    size = 0
    streams = _StreamNames(connection)
    for arrival, stream_id, timestamp, ingested_ms, message in rows:
        size += event_bytes(message)
        if events and size > PAGE_BYTES:
            break
        events.append(Event(arrival, streams[stream_id], timestamp, ingested_ms, message))
    if backward:
        events.reverse()
    if not events:
        return Page((), place, place)
    return Page(events, events[0].place, events[-1].place.after)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, and where it goes on (None at the end)."""

    events: Sequence[Event]
    next: Place | None


def search(
    connection: sqlite3.Connection,
    group_id: int,
    stream_ids: Sequence[int] | None,
    matches: Callable[[str], bool],
    literals: Sequence[str],
    place: Place | None,
    *,
    descending: bool,
    start_ms: int,
    end_ms: int,
    limit: int,
    enough: Callable[[], bool],
) -> Found:
    """Events of a group that match, from `place` on (or before it), until `limit`, 1 MiB or `enough`.

    `end_ms` is exclusive. Every matching message contains all `literals`: the database looks for those.
    `stream_ids` None searches all streams.
    """
    where, given = "group_id = ?", [group_id]
    parameters: list[object] = list(given)
    if stream_ids is None:
        where += " AND stream_id NOT IN (SELECT stream_id FROM doomed WHERE stream_id IS NOT NULL)"
    elif len(stream_ids) == 1:
        where, parameters = "stream_id = ?", [stream_ids[0]]
    else:
        where += " AND stream_id IN (SELECT value FROM json_each(?))"
        parameters.append(json.dumps(stream_ids))
    for literal in literals:
        where += " AND instr(message, ?)"
        parameters.append(literal)
    low, high = Place(start_ms, 0), Place(end_ms, 0)
    if place is not None:
        low, high = (low, min(high, place)) if descending else (max(low, place), high)
    streams = _StreamNames(connection)
    found: list[Event] = []
    size = 0
    rows = _rows(connection, where, parameters, low, high, descending=descending)
    for number, (arrival, stream_id, timestamp, ingested_ms, message) in enumerate(rows):
        spent = number > 0 and number % _ROWS_A_FETCH == 0 and enough()
        if not spent and not matches(message):
            continue
        size += event_bytes(message)
        event = Event(arrival, streams[stream_id], timestamp, ingested_ms, message)
        if spent or len(found) == limit or (found and size > PAGE_BYTES):
            return Found(found, event.place.after if descending else event.place)
        found.append(event)
    return Found(found, None)


class _StreamNames(dict[int, str]):
    """Names of streams by id, read when they are first asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, stream_id: int) -> str:
        query = "SELECT name FROM log_streams WHERE id = ?"
        (name,) = self._connection.execute(query, (stream_id,)).fetchone() or ("",)
        self[stream_id] = str(name)
        return self[stream_id]


def _rows(
    connection: sqlite3.Connection,
    where: str,
    parameters: Sequence[object],
    low: Place,
    high: Place,
    *,
    descending: bool,
    limit: int = -1,
) -> Iterator[Row]:
    order = "DESC" if descending else "ASC"
    cursor = connection.execute(
        "SELECT id, stream_id, timestamp, ingested_ms, message "
        f"FROM log_events WHERE {where} AND (timestamp, id) >= (?, ?) AND (timestamp, id) < (?, ?) "
        f"ORDER BY timestamp {order}, id {order} LIMIT ?",
        (*parameters, low.timestamp, low.id, high.timestamp, high.id, limit),
    )
    while rows := cursor.fetchmany(_ROWS_A_FETCH):
        yield from rows
