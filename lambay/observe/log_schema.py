"""The tables of logs.db and the statements that write them. Each function runs inside one transaction."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence

from lambay.observe.log_filters import MIGRATION as FILTERS
from lambay.observe.log_records import DAY_MS, Batch, Group, GroupKey, Stream, event_bytes

MIGRATIONS = (
    """
    CREATE TABLE log_groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        log_class TEXT NOT NULL,
        retention_days INTEGER,
        kms_key_id TEXT,
        protected INTEGER NOT NULL,
        tags TEXT NOT NULL,
        stored_bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE (account, region, name)
    );
    CREATE TABLE log_streams (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        first_ms INTEGER,
        last_ms INTEGER,
        last_ingestion_ms INTEGER,
        stored_bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE (group_id, name)
    );
    CREATE INDEX log_streams_by_last_event ON log_streams (group_id, ifnull(last_ms, 0), name);
    CREATE TABLE log_events (
        id INTEGER PRIMARY KEY,
        group_id INTEGER NOT NULL,
        stream_id INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        ingested_ms INTEGER NOT NULL,
        message TEXT NOT NULL
    );
    CREATE INDEX log_events_of_stream ON log_events (stream_id, timestamp, id);
    CREATE INDEX log_events_of_group ON log_events (group_id, timestamp, id);
    CREATE TABLE doomed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL,
        stream_id INTEGER
    )
    """,
    FILTERS,
    # Where the JSON of a message begins, found out once instead of by every query; NULL where there is none.
    """
    ALTER TABLE log_events ADD COLUMN json_at INTEGER;
    UPDATE log_events SET json_at = instr(message, '{')
        WHERE instr(message, '{') > 0 AND json_valid(substr(message, instr(message, '{')))
    """,
)

# One statement holds the interpreter's lock once, however many rows it has: a busy event loop would else slow
# row-by-row insertion a hundredfold.
_ROWS_A_STATEMENT = 1000

_LAST_CHARACTER = "\U0010ffff"

_GROUP = (
    "SELECT id, account, region, name, created_ms, log_class, retention_days, kms_key_id, protected, tags, "
    "stored_bytes, (SELECT count(*) FROM log_filters WHERE group_id = log_groups.id AND kind = 'metric') "
    "FROM log_groups "
)
_STREAM = (
    "SELECT id, group_id, name, created_ms, first_ms, last_ms, last_ingestion_ms, "
    "stored_bytes FROM log_streams "
)


def find_group(connection: sqlite3.Connection, key: GroupKey) -> Group | None:
    """The group called `key`."""
    query = _GROUP + "WHERE account = ? AND region = ? AND name = ?"
    row = connection.execute(query, (key.account, key.region, key.name)).fetchone()
    return None if row is None else _group(row)


def groups_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Group]:
    """Those of the groups that are still there, as they are now."""
    query = _GROUP + "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
    return [_group(row) for row in connection.execute(query, (json.dumps(ids),))]


def groups_with_retention(connection: sqlite3.Connection) -> list[Group]:
    """Every group whose events expire."""
    return [_group(row) for row in connection.execute(_GROUP + "WHERE retention_days IS NOT NULL")]


def groups_of(
    connection: sqlite3.Connection, account: str, region: str, prefix: str, after: str
) -> Iterator[Group]:
    """The groups whose names start with `prefix` and follow `after`, in order of their names."""
    query = _GROUP + "WHERE account = ? AND region = ? AND name >= ? AND name > ? ORDER BY name"
    for row in connection.execute(query, (account, region, prefix, after)):
        group = _group(row)
        if not group.key.name.startswith(prefix):
            return
        yield group


def _group(row: Sequence[object]) -> Group:
    (
        number,
        account,
        region,
        name,
        created,
        log_class,
        retention,
        kms_key,
        protected,
        tags,
        stored,
        filters,
    ) = row
    return Group(
        id=number,  # type: ignore[arg-type]
        key=GroupKey(account, region, name),  # type: ignore[arg-type]
        created_ms=created,  # type: ignore[arg-type]
        log_class=log_class,  # type: ignore[arg-type]
        retention_days=retention,  # type: ignore[arg-type]
        kms_key_id=kms_key,  # type: ignore[arg-type]
        protected=bool(protected),
        tags=json.loads(tags),  # type: ignore[arg-type]
        stored_bytes=stored,  # type: ignore[arg-type]
        metric_filters=filters,  # type: ignore[arg-type]
    )


def insert_group(
    connection: sqlite3.Connection,
    key: GroupKey,
    created_ms: int,
    *,
    log_class: str = "STANDARD",
    kms_key_id: str | None = None,
    protected: bool = False,
    tags: dict[str, str] | None = None,
) -> int | None:
    """The new group's id, None where its name is taken."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO log_groups "
        "(account, region, name, created_ms, log_class, kms_key_id, protected, tags) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.account,
            key.region,
            key.name,
            created_ms,
            log_class,
            kms_key_id,
            protected,
            json.dumps(tags or {}),
        ),
    )
    return cursor.lastrowid if cursor.rowcount else None


def set_retention(connection: sqlite3.Connection, group: Group, days: int | None) -> None:
    connection.execute("UPDATE log_groups SET retention_days = ? WHERE id = ?", (days, group.id))


def set_kms_key(connection: sqlite3.Connection, group: Group, key: str | None) -> None:
    connection.execute("UPDATE log_groups SET kms_key_id = ? WHERE id = ?", (key, group.id))


def set_protection(connection: sqlite3.Connection, group: Group, protected: bool) -> None:
    connection.execute("UPDATE log_groups SET protected = ? WHERE id = ?", (protected, group.id))


def set_tags(connection: sqlite3.Connection, group: Group, tags: dict[str, str]) -> None:
    connection.execute("UPDATE log_groups SET tags = ? WHERE id = ?", (json.dumps(tags), group.id))


def find_stream(connection: sqlite3.Connection, group_id: int, name: str) -> Stream | None:
    row = connection.execute(_STREAM + "WHERE group_id = ? AND name = ?", (group_id, name)).fetchone()
    return None if row is None else Stream(*row)


def streams_of(
    connection: sqlite3.Connection,
    group_id: int,
    *,
    prefix: str = "",
    by_last_event: bool = False,
    descending: bool = False,
    after: tuple[int, str] | None = None,
) -> Iterator[Stream]:
    """The streams of a group by name, or by last event and name, from behind `after` (last event, name)."""
    order = "DESC" if descending else "ASC"
    compare = "<" if descending else ">"
    query, given = _STREAM + "WHERE group_id = ? ", [group_id]
    parameters: list[object] = list(given)
    if by_last_event:
        if after is not None:
            query += f"AND (ifnull(last_ms, 0), name) {compare} (?, ?) "
            parameters += after
        query += f"ORDER BY ifnull(last_ms, 0) {order}, name {order}"
    else:
        if prefix:
            query += "AND name >= ? AND name < ? "
            parameters += (prefix, prefix + _LAST_CHARACTER)
        if after is not None:
            query += f"AND name {compare} ? "
            parameters.append(after[1])
        query += f"ORDER BY name {order}"
    return (Stream(*row) for row in connection.execute(query, parameters))


def insert_stream(connection: sqlite3.Connection, group_id: int, name: str, created_ms: int) -> int | None:
    """The new stream's id, None where its name is taken."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO log_streams (group_id, name, created_ms) VALUES (?, ?, ?)",
        (group_id, name, created_ms),
    )
    return cursor.lastrowid if cursor.rowcount else None


def insert_events(connection: sqlite3.Connection, owned: Sequence[tuple[Batch, int, int]]) -> None:
    """Write batches' events, each with the ids of its group and stream, and what they change about those.

    The fewer statements, the better: around each of them this thread hands the interpreter over and waits for it.
    """
    rows = [
        (number, group_id, stream_id, timestamp, batch.ingested_ms, message)
        for batch, group_id, stream_id in owned
        for number, (timestamp, message) in enumerate(batch.events, batch.first_id)
    ]
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        some = rows[start : start + _ROWS_A_STATEMENT]
        connection.execute(
            "INSERT INTO log_events (id, group_id, stream_id, timestamp, ingested_ms, message, json_at) "
            "SELECT *, CASE WHEN instr(column6, '{') > 0 AND json_valid(substr(column6, instr(column6, '{'))) "
            "THEN instr(column6, '{') END FROM (VALUES "
            + ",".join(itertools.repeat("(?,?,?,?,?,?)", len(some)))
            + ")",
            list(itertools.chain.from_iterable(some)),
        )
    groups: Counter[int] = Counter()
    streams: dict[int, tuple[int, int, int, int]] = {}
    for _, group_id, stream_id, timestamp, ingested_ms, message in rows:
        size = event_bytes(message)
        groups[group_id] += size
        first, last, _, stored = streams.get(stream_id, (timestamp, timestamp, ingested_ms, 0))
        streams[stream_id] = (
            min(first, timestamp),
            max(last, timestamp),
            ingested_ms,
            stored + size,
        )
    for stream_id, changes in streams.items():
        connection.execute(
            "UPDATE log_streams SET first_ms = min(ifnull(first_ms, ?1), ?1), "
            "last_ms = max(ifnull(last_ms, 0), ?2), last_ingestion_ms = ?3, "
            "stored_bytes = stored_bytes + ?4 WHERE id = ?5",
            (*changes, stream_id),
        )
    for group_id, size in groups.items():
        connection.execute(
            "UPDATE log_groups SET stored_bytes = stored_bytes + ? WHERE id = ?", (size, group_id)
        )


def last_event_id(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT ifnull(max(id), 0) FROM log_events").fetchone()
    return int(number)


def doom_group(connection: sqlite3.Connection, group: Group) -> None:
    """The group is gone at once; `purge` removes what it held."""
    connection.execute("INSERT INTO doomed (group_id) VALUES (?)", (group.id,))
    connection.execute("DELETE FROM log_filters WHERE group_id = ?", (group.id,))
    connection.execute("DELETE FROM log_groups WHERE id = ?", (group.id,))


def doom_stream(connection: sqlite3.Connection, stream: Stream) -> None:
    """The stream is gone at once; `purge` removes its events."""
    connection.execute(
        "UPDATE log_groups SET stored_bytes = stored_bytes - ? WHERE id = ?",
        (stream.stored_bytes, stream.group_id),
    )
    connection.execute("INSERT INTO doomed (group_id, stream_id) VALUES (?, ?)", (stream.group_id, stream.id))
    connection.execute("DELETE FROM log_streams WHERE id = ?", (stream.id,))


def purge(connection: sqlite3.Connection, limit: int) -> bool:
    """Remove up to `limit` events of deleted groups and streams; whether there may be more."""
    row = connection.execute("SELECT id, group_id, stream_id FROM doomed LIMIT 1").fetchone()
    if row is None:
        return False
    number, group_id, stream_id = row
    column, owner = ("group_id", group_id) if stream_id is None else ("stream_id", stream_id)
    removed = connection.execute(
        f"DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE {column} = ? LIMIT ?)",
        (owner, limit),
    ).rowcount
    if removed < limit:
        if stream_id is None:
            connection.execute("DELETE FROM log_streams WHERE group_id = ?", (group_id,))
        connection.execute("DELETE FROM doomed WHERE id = ?", (number,))
    return True


def expire(connection: sqlite3.Connection, group_id: int, now_ms: int, limit: int) -> int:
    """Remove up to `limit` events of a group past the retention that it has by now; how many were removed."""
    group = next(iter(groups_by_id(connection, [group_id])), None)
    if group is None:
        return 0
    before_ms = group.oldest_kept_ms(now_ms)
    rows = connection.execute(
        "SELECT id, stream_id, length(CAST(message AS BLOB)) FROM log_events "
        "WHERE group_id = ? AND timestamp < ? ORDER BY timestamp, id LIMIT ?",
        (group.id, before_ms, limit),
    ).fetchall()
    if not rows:
        return 0
    sizes: dict[int, int] = {}
    for _, stream_id, size in rows:
        sizes[stream_id] = sizes.get(stream_id, 0) + size + event_bytes("")
    connection.execute(
        "DELETE FROM log_events WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([number for number, _, _ in rows]),),
    )
    expired = 0
    for stream_id, size in sizes.items():
        updated = connection.execute(
            "UPDATE log_streams SET stored_bytes = stored_bytes - ?1, "
            "first_ms = (SELECT min(timestamp) FROM log_events WHERE stream_id = ?2) WHERE id = ?2",
            (size, stream_id),
        )
        # A deleted stream's bytes have left the group's count already.
        expired += size if updated.rowcount else 0
    connection.execute(
        "UPDATE log_groups SET stored_bytes = stored_bytes - ? WHERE id = ?", (expired, group.id)
    )
    return len(rows)


def next_expiry_ms(connection: sqlite3.Connection) -> int | None:
    """When the oldest event of any group with retention expires, None where there is no such event."""
    due: list[int] = []
    for group in groups_with_retention(connection):
        (oldest,) = connection.execute(
            "SELECT min(timestamp) FROM log_events WHERE group_id = ?", (group.id,)
        ).fetchone()
        if oldest is not None and group.retention_days is not None:
            due.append(oldest + group.retention_days * DAY_MS)
    return min(due, default=None)


def clear(connection: sqlite3.Connection) -> None:
    """Forget every group, stream and event."""
    for table in ("log_events", "log_streams", "log_groups", "doomed", "log_filters", "query_definitions"):
        connection.execute(f"DELETE FROM {table}")
