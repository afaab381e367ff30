"""Filters of log groups: metric filters and subscription filters, kept and found."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from lambay.observe.log_records import Group, GroupKey

Kind = Literal["metric", "subscription"]

MIGRATION = """
    CREATE TABLE log_filters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (group_id, kind, name)
    );
    CREATE TABLE query_definitions (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    )
"""


class Transformation(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric filter puts: `value` is a number or where one stands in the event (`$.ms`, `$ms`)."""

    name: str
    namespace: str
    value: str
    default: float | None = None
    dimensions: dict[str, str] = {}
    unit: str = "None"


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A metric filter has a `transformation`, a subscription filter a `destination`."""

    group: GroupKey
    name: str
    pattern: str
    created_ms: int
    transformation: Transformation | None = None
    destination: str = ""
    role: str = ""
    distribution: str = "ByLogStream"


def put(connection: sqlite3.Connection, group: Group, kind: Kind, log_filter: LogFilter) -> None:
    """Make the filter, or change the one of its name."""
    connection.execute(
        "INSERT INTO log_filters (group_id, kind, name, created_ms, body) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (group_id, kind, name) DO UPDATE SET body = excluded.body",
        (group.id, kind, log_filter.name, log_filter.created_ms, msgspec.json.encode(log_filter)),
    )


def remove(connection: sqlite3.Connection, group: Group, kind: Kind, name: str) -> bool:
    """Whether there was one."""
    done = connection.execute(
        "DELETE FROM log_filters WHERE group_id = ? AND kind = ? AND name = ?", (group.id, kind, name)
    )
    return done.rowcount > 0


def of_group(connection: sqlite3.Connection, group: Group, kind: Kind) -> list[LogFilter]:
    rows = connection.execute(
        "SELECT body FROM log_filters WHERE group_id = ? AND kind = ? ORDER BY name", (group.id, kind)
    )
    return [_decode(body) for (body,) in rows]


def of_account(connection: sqlite3.Connection, account: str, region: str, kind: Kind) -> list[LogFilter]:
    """Of all groups of an account in a Region, in the order of their groups and names."""
    rows = connection.execute(
        "SELECT body FROM log_filters JOIN log_groups ON log_groups.id = group_id "
        "WHERE account = ? AND region = ? AND kind = ? ORDER BY log_groups.name, log_filters.name",
        (account, region, kind),
    )
    return [_decode(body) for (body,) in rows]


def everything(connection: sqlite3.Connection) -> Sequence[tuple[Kind, LogFilter]]:
    """Every filter of every group that there is."""
    rows = connection.execute(
        "SELECT kind, body FROM log_filters JOIN log_groups ON log_groups.id = group_id ORDER BY log_filters.id"
    )
    return [(kind, _decode(body)) for kind, body in rows]


def _decode(body: bytes) -> LogFilter:
    decoded: Any = msgspec.json.decode(body, type=LogFilter)
    found: LogFilter = decoded
    return found
