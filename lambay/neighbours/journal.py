"""The journal: every successful change of a neighbour's state, durable before it is acknowledged.

An entry holds what a replay needs: the request, the time and seed it ran under, and its tape. A birth is the
hour at which a service first came to be in an account and Region (with its default VPC, say). One snapshot
may stand for all entries up to its `seq`; those stay as the history that another version of moto replays
instead.
"""

from __future__ import annotations

import functools
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lambay.neighbours.bodies import Content
from lambay.store import Database


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """A request as it is replayed. `url` is absolute; `body` is inline, or on disk as `content`.

    `host` is where moto looks for the route; the URL's own host is what a client sees in an answer's URLs.
    """

    method: str
    host: str
    url: str
    headers: dict[str, str]
    body: bytes
    content: tuple[tuple[str, int], ...]


class Entry(msgspec.Struct, frozen=True):
    """One change. `time` is in seconds since the epoch; `module` is moto's name of the service.

    `subject` names what the change made where a later entry may refer to it: a multipart upload's id.
    """

    seq: int
    time: float
    seed: bytes
    account: str
    region: str
    module: str
    operation: str
    request: Recorded
    tape: list[bytes]
    subject: str = ""


class Birth(msgspec.Struct, frozen=True):
    """When `module` came to be in `account` and `region` (`aws` for a global service)."""

    module: str
    account: str
    region: str
    time: float


class SnapshotMark(msgspec.Struct, frozen=True):
    """A snapshot: the entry it goes up to, its files' names and digests, and the version that reads it.

    `state` is for this `version` only; `messages` (of the queues) for every one.
    """

    seq: int
    state: str
    state_sha256: str
    messages: str
    messages_sha256: str
    version: str


_MAX_SEQ = 2**63 - 1

_MIGRATIONS = (
    """
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        time REAL NOT NULL,
        seed BLOB NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        module TEXT NOT NULL,
        operation TEXT NOT NULL,
        request BLOB NOT NULL,
        tape BLOB NOT NULL,
        subject TEXT NOT NULL
    );
    CREATE TABLE bodies (
        digest TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (digest, seq)
    ) WITHOUT ROWID;
    CREATE TABLE births (
        module TEXT NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        time REAL NOT NULL,
        PRIMARY KEY (module, account, region)
    ) WITHOUT ROWID;
    CREATE TABLE marks (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID
    """,
    "INSERT OR IGNORE INTO marks SELECT 'last', CAST(max(seq) AS BLOB) FROM entries HAVING max(seq) IS NOT NULL",
)


_MARK = "INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class OutOfOrder(Exception):
    """An entry whose predecessor is not in the journal: what it changed stood on something that is lost."""


class Journal:
    """The journal in one SQLite file. Blocking methods are for the neighbours' own thread."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)

    def origin(self) -> bytes:
        """The 32 secret bytes from which default resources draw their identifiers; new after `clear`."""

        def find(connection: sqlite3.Connection) -> bytes:
            row = connection.execute("SELECT value FROM marks WHERE name = 'origin'").fetchone()
            if row is not None:
                return bytes(row[0])
            origin = secrets.token_bytes(32)
            connection.execute("INSERT INTO marks VALUES ('origin', ?)", (origin,))
            return origin

        return self._database.run_blocking(find)

    async def append(self, entry: Entry | None, births: Sequence[Birth]) -> None:
        """Make them durable together. Raises OutOfOrder where the entry before is missing."""
        packed = () if entry is None else _pack(entry)

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR IGNORE INTO births VALUES (?, ?, ?, ?)",
                [(birth.module, birth.account, birth.region, birth.time) for birth in births],
            )
            if entry is not None:
                if entry.seq != _last(connection) + 1:
                    raise OutOfOrder(f"entry {entry.seq} builds on one that was not written")
                connection.execute(_MARK, ("last", str(entry.seq).encode()))
                connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", packed)
                connection.executemany(
                    "INSERT OR IGNORE INTO bodies VALUES (?, ?)",
                    [(digest, entry.seq) for digest, _ in entry.request.content],
                )

        await self._database.run(write)

    def births(self) -> list[Birth]:
        rows = self._database.run_blocking(
            lambda connection: connection.execute(
                "SELECT module, account, region, time FROM births"
            ).fetchall()
        )
        return [Birth(*row) for row in rows]

    def last(self) -> int:
        """The newest entry's `seq`, whether it is still kept or not; 0 in an empty journal."""
        return self._database.run_blocking(_last)

    def length(self) -> int:
        (count,) = self._database.run_blocking(
            lambda connection: connection.execute("SELECT count(*) FROM entries").fetchone()
        )
        return int(count)

    def empty(self) -> bool:
        """Whether there is nothing that a load would bring back."""
        row = self._database.run_blocking(
            lambda connection: connection.execute(
                "SELECT 1 FROM births UNION ALL SELECT 1 FROM entries"
            ).fetchone()
        )
        return row is None

    def entries(self, after: int, up_to: int | None = None) -> Iterator[Entry]:
        """The entries whose `seq` is greater than `after` and at most `up_to`, in order, read in batches."""
        last = _MAX_SEQ if up_to is None else up_to
        while rows := self._database.run_blocking(functools.partial(_batch, after=after, last=last)):
            for row in rows:
                yield _unpack(row)
            after = rows[-1][0]

    def snapshot(self) -> SnapshotMark | None:
        row = self._database.run_blocking(
            lambda connection: connection.execute(
                "SELECT value FROM marks WHERE name = 'snapshot'"
            ).fetchone()
        )
        return None if row is None else msgspec.json.decode(row[0], type=SnapshotMark)

    def mark(self, snapshot: SnapshotMark, dropped: Sequence[str]) -> None:
        """`snapshot` is durable: name it, and drop the entries it covers of SQS's operations `dropped`."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_MARK, ("snapshot", msgspec.json.encode(snapshot)))
            places = ", ".join("?" * len(dropped))
            connection.execute(
                f"DELETE FROM entries WHERE module = 'sqs' AND seq <= ? AND operation IN ({places})",
                (snapshot.seq, *dropped),
            )
            _drop_loose_bodies(connection)

        self._database.run_blocking(write)

    def drop(self, superseded: Sequence[int]) -> None:
        """Forget these entries; a snapshot covers them."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM entries WHERE seq = ?", [(seq,) for seq in superseded])
            _drop_loose_bodies(connection)

        self._database.run_blocking(write)

    def referenced(self) -> set[str]:
        """The digests of all bodies that entries refer to."""
        rows = self._database.run_blocking(
            lambda connection: connection.execute("SELECT DISTINCT digest FROM bodies").fetchall()
        )
        return {digest for (digest,) in rows}

    def clear(self) -> None:
        def write(connection: sqlite3.Connection) -> None:
            for table in ("entries", "bodies", "births", "marks"):
                connection.execute(f"DELETE FROM {table}")

        self._database.run_blocking(write)

    def close(self) -> None:
        self._database.close()


def _last(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM marks WHERE name = 'last'").fetchone()
    return 0 if row is None else int(row[0])


def _drop_loose_bodies(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM bodies WHERE seq NOT IN (SELECT seq FROM entries)")


def _batch(connection: sqlite3.Connection, after: int, last: int) -> list[Any]:
    return connection.execute(
        "SELECT * FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 500", (after, last)
    ).fetchall()


def _pack(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.seq,
        entry.time,
        entry.seed,
        entry.account,
        entry.region,
        entry.module,
        entry.operation,
        zlib.compress(msgspec.msgpack.encode(entry.request), 1),
        msgspec.msgpack.encode(entry.tape),
        entry.subject,
    )


def _unpack(row: Sequence[Any]) -> Entry:
    seq, time, seed, account, region, module, operation, request, tape, subject = row
    recorded = msgspec.msgpack.decode(zlib.decompress(request), type=Recorded)
    values = msgspec.msgpack.decode(tape, type=list[bytes])
    return Entry(seq, time, seed, account, region, module, operation, recorded, values, subject)


def content_of(request: Recorded) -> Content:
    return Content(request.content)
