"""Queries that run, or have run lately."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lambay.observe import log_schema as schema
from lambay.observe.insights import functions
from lambay.observe.insights.language import Command
from lambay.observe.insights.sql import Kind
from lambay.observe.insights.translation import Statement, translate
from lambay.observe.log_records import Group
from lambay.observe.readers import Readers

Status = Literal["Scheduled", "Running", "Complete", "Failed", "Cancelled", "Timeout"]

LONGEST_SECONDS = 900.0
_KEPT_QUERIES = 1000
_THREADS = 2
_STEPS_BETWEEN_LOOKS = 100_000

_log = logging.getLogger("lambay.observe")

Row = list[dict[str, str]]
"""Field and value of each column that has one."""


@dataclass(slots=True)
class Query:
    """`began_ms` is by Lambay's clock, `seconds` what it took. `matched` and `scanned` count events."""

    id: str
    account: str
    region: str
    text: str
    groups: Sequence[Group]
    commands: Sequence[Command]
    start_ms: int
    end_ms: int
    limit: int
    began_ms: int
    status: Status = "Scheduled"
    rows: list[Row] = field(default_factory=list)
    matched: int = 0
    scanned: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cancelled: bool = False
    task: asyncio.Task[None] | None = None


class Insights:
    """Runs queries over the file `path` beside everything else."""

    def __init__(self, path: Path) -> None:
        self._readers = Readers(path, _THREADS, "insights", functions.prepare)
        self._queries: dict[str, Query] = {}

    def begin(
        self,
        *,
        account: str,
        region: str,
        text: str,
        groups: Sequence[Group],
        commands: Sequence[Command],
        start_ms: int,
        end_ms: int,
        limit: int,
        now_ms: int,
    ) -> Query:
        """Start a query; `end_ms` is included. Raises InvalidQuery where it cannot be run."""
        query = Query(
            str(uuid.uuid4()), account, region, text, groups, commands, start_ms, end_ms, limit, now_ms
        )
        translate(commands, limit, "nowhere")
        self._queries[query.id] = query
        while len(self._queries) > _KEPT_QUERIES:
            self.stop(self._queries.pop(next(iter(self._queries))))
        query.task = asyncio.create_task(self._run(query, now_ms), name=f"query {query.id}")
        return query

    def find(self, account: str, region: str, identifier: str) -> Query | None:
        found = self._queries.get(identifier)
        return found if found is not None and (found.account, found.region) == (account, region) else None

    def all(self, account: str, region: str) -> list[Query]:
        """The latest first."""
        found = [each for each in self._queries.values() if (each.account, each.region) == (account, region)]
        return found[::-1]

    def stop(self, query: Query) -> bool:
        """Whether there was something to stop."""
        if query.status not in ("Scheduled", "Running"):
            return False
        query.cancelled = True
        query.status = "Cancelled"
        return True

    async def close(self) -> None:
        """Stop every query."""
        for query in self._queries.values():
            self.stop(query)
        tasks = [query.task for query in self._queries.values() if query.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._readers.close)

    def clear(self) -> None:
        """Forget every query."""
        for query in self._queries.values():
            self.stop(query)
        self._queries.clear()

    async def _run(self, query: Query, now_ms: int) -> None:
        began = time.monotonic()
        try:
            await self._readers.run(lambda connection: _execute(connection, query, now_ms))
            query.status = "Cancelled" if query.cancelled else "Complete"
        except sqlite3.OperationalError as error:
            if query.cancelled:
                query.status = "Cancelled"
            elif "interrupt" in str(error):
                query.status = "Timeout"
            else:
                _log.exception("query %s failed: %s", query.id, query.text)
                query.status = "Failed"
        except Exception:
            _log.exception("query %s failed: %s", query.id, query.text)
            query.status = "Failed"
        query.seconds = time.monotonic() - began


def _execute(connection: sqlite3.Connection, query: Query, now_ms: int) -> None:
    if query.cancelled:
        return
    query.status = "Running"
    ends = time.monotonic() + LONGEST_SECONDS
    connection.set_progress_handler(
        lambda: int(query.cancelled or time.monotonic() > ends), _STEPS_BETWEEN_LOOKS
    )
    try:
        # As they are at the moment that the query sees: what has expired or was deleted since it was asked for is
        # removed in pieces.
        groups = schema.groups_by_id(connection, [group.id for group in query.groups])
        if not groups:
            return
        alive = _alive(connection)
        source = _source(query, groups, alive, now_ms)
        statement = translate(query.commands, query.limit, source)
        rows = connection.execute(statement.text, statement.parameters).fetchall()
        query.rows = [_row(row, statement) for row in rows]
        query.scanned, query.bytes = _extent(connection, query, groups, alive, now_ms)
        if statement.grouped:
            query.matched = sum(row[-1] for row in rows)
        elif len(rows) < query.limit:
            query.matched = len(rows)
        else:
            (query.matched,) = connection.execute(
                statement.unlimited, statement.parameters[: _used(statement)]
            ).fetchone()
    finally:
        connection.set_progress_handler(None, 0)


def _used(statement: Statement) -> int:
    """How many parameters the counting statement has: SQLite counts up to the highest number that occurs."""
    number = len(statement.parameters)
    while number and f"?{number}" not in statement.unlimited:
        number -= 1
    return number


def _where(query: Query, group: Group, now_ms: int) -> str:
    start = max(query.start_ms, group.oldest_kept_ms(now_ms))
    return f"group_id = {group.id} AND timestamp >= {start} AND timestamp <= {query.end_ms}"


def _alive(connection: sqlite3.Connection) -> str:
    """What is not of a deleted stream, whose events go by and by."""
    (doomed,) = connection.execute("SELECT count(*) FROM doomed WHERE stream_id IS NOT NULL").fetchone()
    return (
        " AND stream_id NOT IN (SELECT stream_id FROM doomed WHERE stream_id IS NOT NULL)" if doomed else ""
    )


def _source(query: Query, groups: Sequence[Group], alive: str, now_ms: int) -> str:
    """The events of the groups in the query's time, as `translate` wants them."""
    starts = {max(query.start_ms, group.oldest_kept_ms(now_ms)) for group in groups}
    if len(starts) == 1:
        (start,) = starts
        numbers = ", ".join(str(group.id) for group in groups)
        where = f"group_id IN ({numbers}) AND timestamp >= {start} AND timestamp <= {query.end_ms}"
    else:
        where = " OR ".join(f"({_where(query, group, now_ms)})" for group in groups)
    logs = " ".join(f"WHEN {group.id} THEN '{group.key.account}:{group.key.name}'" for group in groups)
    return (
        "(SELECT id, timestamp AS at, ingested_ms, message, json_at, "
        "(SELECT name FROM log_streams WHERE log_streams.id = stream_id) AS stream, "
        f"CASE group_id {logs} END AS log FROM log_events WHERE ({where}){alive})"
    )


def _extent(
    connection: sqlite3.Connection, query: Query, groups: Sequence[Group], alive: str, now_ms: int
) -> tuple[int, int]:
    """Events and bytes that were looked at; the bytes by the group's mean size of an event."""
    scanned = size = 0
    for group in groups:
        where = _where(query, group, now_ms) + alive
        (count,) = connection.execute(f"SELECT count(*) FROM log_events WHERE {where}").fetchone()
        scanned += count
        if count:
            (mean,) = connection.execute(
                "SELECT avg(length(CAST(message AS BLOB))) FROM (SELECT message FROM log_events "
                f"WHERE {where} LIMIT 1000)"
            ).fetchone()
            size += int(count * mean)
    return scanned, size


def _row(row: Sequence[object], statement: Statement) -> Row:
    shown = [
        {"field": name, "value": _shown(value, kind)}
        for (name, kind), value in zip(statement.columns, row, strict=False)
        if value is not None
    ]
    if not statement.grouped:
        shown.append({"field": "@ptr", "value": pointer(int(row[-1]))})  # type: ignore[call-overload]
    return shown


def _shown(value: object, kind: Kind) -> str:
    if kind == "time" and isinstance(value, int | float):
        moment = datetime.fromtimestamp(value / 1000, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.4f}".rstrip("0")
    return str(value)


def pointer(identifier: int) -> str:
    """An event's `@ptr`."""
    return base64.b64encode(f"lambay:{identifier}".encode()).decode()


def pointed(text: str) -> int | None:
    """The event of a `@ptr`, None where it is none."""
    try:
        kind, _, number = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return int(number) if kind == "lambay" and number.isdigit() else None
