"""Durable state: what is committed here is on disk before anybody is told.

`Database` runs SQL on one thread of its own and groups the commits that wait; `Store` keeps typed records in
collections on top of it. Both speak through a handful of statements, so that another SQL database can take
SQLite's place. Nothing here knows what a record means.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[sqlite3.Connection], Any]


class SchemaError(Exception):
    """The file was written by a newer Lambay than this one."""


class Database:
    """One SQLite file in WAL mode with its own thread.

    `migrations[n]` is the SQL script that brings schema version n to n + 1; versions are kept in the file.
    Work that is submitted while a commit runs shares the next commit, so that many waiting callers cost
    one fsync.
    """

    def __init__(self, path: Path, migrations: Sequence[str], *, synchronous: str = "FULL") -> None:
        self._path = path
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._migrate(migrations)
        self._thread = threading.Thread(target=self._serve, name=f"database {path.name}", daemon=True)
        self._thread.start()

    def _migrate(self, migrations: Sequence[str]) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise SchemaError(
                f"{self._path}: schema version {version} is newer than this Lambay's {len(migrations)}; "
                "start the Lambay that wrote it, or choose another --data-dir"
            )
        for number, script in enumerate(migrations[version:], start=version + 1):
            self._connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")

    async def run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """What `work` returns, once everything it wrote is durable.

        An exception of `work` undoes its own writes only and is raised here.
        """
        future: Future[R] = Future()
        self._queue.put((work, future))
        return await asyncio.wrap_future(future)

    def run_blocking(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """`run` for callers on a thread of their own."""
        future: Future[R] = Future()
        self._queue.put((work, future))
        return future.result()

    def close(self) -> None:
        """Finish the work that waits, then close the file."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        closing = False
        while not closing:
            batch: list[tuple[Work, Future[Any]]] = []
            item = self._queue.get()
            while True:
                if item is None:
                    closing = True
                else:
                    batch.append(item)
                if closing or self._queue.empty():
                    break
                item = self._queue.get()
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[tuple[Work, Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                self._connection.execute("SAVEPOINT work")
                try:
                    done.append((future, work(self._connection)))
                except Exception as error:
                    self._connection.execute("ROLLBACK TO work")
                    failed.append((future, error))
                self._connection.execute("RELEASE work")
            self._connection.execute("COMMIT")
        except Exception as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            done, failed = [], [(future, error) for _, future in batch]
        # A caller that gave up has cancelled its future; the work is done all the same.
        for future, value in done:
            if future.set_running_or_notify_cancel():
                future.set_result(value)
        for future, reason in failed:
            if future.set_running_or_notify_cancel():
                future.set_exception(reason)


@dataclass(frozen=True, slots=True)
class Change:
    """One record to write (`after`) or to remove (`after` is None)."""

    collection: Collection[Any]
    key: str
    after: Any


class Collection(Generic[T]):
    """Records of one kind by key: read from memory, written through `Store.commit`.

    Keys are text; rooms compose them as `ACCOUNT/REGION/ID`. Records are immutable (`msgspec.Struct` with
    `frozen=True`): change one with `msgspec.structs.replace`. Iteration is in key order of insertion.
    """

    def __init__(self, name: str, kind: type[T], rows: dict[str, T]) -> None:
        self.name = name
        self.kind = kind
        self._rows = rows

    def get(self, key: str) -> T | None:
        return self._rows.get(key)

    def __getitem__(self, key: str) -> T:
        return self._rows[key]

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._rows.values()))

    def items(self) -> list[tuple[str, T]]:
        return list(self._rows.items())

    def under(self, prefix: str) -> list[T]:
        """The records whose key starts with `prefix`, in key order."""
        return [self._rows[key] for key in sorted(self._rows) if key.startswith(prefix)]

    def put(self, key: str, record: T) -> Change:
        return Change(self, key, record)

    def remove(self, key: str) -> Change:
        return Change(self, key, None)


_MIGRATIONS = (
    """
    CREATE TABLE records (
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (collection, key)
    ) WITHOUT ROWID
    """,
)


class Store:
    """The resources' records, in memory for reading and in the database for keeping."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)
        self._collections: dict[str, Collection[Any]] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def collection(self, name: str, kind: type[T]) -> Collection[T]:
        """The collection called `name` (`efs.file-systems`), loaded; every name is opened once."""
        if name in self._collections:
            raise ValueError(f"collection {name!r} is open already")

        def load(connection: sqlite3.Connection) -> dict[str, T]:
            decode = msgspec.json.Decoder(kind).decode
            rows = connection.execute(
                "SELECT key, body FROM records WHERE collection = ? ORDER BY key", (name,)
            )
            return {key: decode(body) for key, body in rows}

        opened = Collection(name, kind, self._database.run_blocking(load))
        self._collections[name] = opened
        return opened

    async def commit(self, *changes: Change) -> None:
        """Make all of `changes` true together; durable when this returns.

        Other coroutines see them at once. When writing fails (a full disk), they are undone and the error
        is raised.
        """
        before = [(change, change.collection._rows.get(change.key)) for change in changes]
        for change in changes:
            _apply(change.collection._rows, change.key, change.after)
        rows = [
            (
                change.collection.name,
                change.key,
                None if change.after is None else msgspec.json.encode(change.after),
            )
            for change in changes
        ]
        try:
            await asyncio.shield(self._database.run(lambda connection: _write(connection, rows)))
        except asyncio.CancelledError:
            self._wake()
            raise
        except Exception:
            for change, earlier in reversed(before):
                _apply(change.collection._rows, change.key, earlier)
            raise
        self._wake()

    async def next_commit(self) -> None:
        """Returns when something has been committed after this began; what it was is for the caller to look at."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def clear(self) -> None:
        """Forget every record of every collection, durably."""
        for collection in self._collections.values():
            collection._rows.clear()
        await self._database.run(lambda connection: connection.execute("DELETE FROM records").rowcount)

    def close(self) -> None:
        self._database.close()


def _apply(rows: dict[str, Any], key: str, record: Any) -> None:
    if record is None:
        rows.pop(key, None)
    else:
        rows[key] = record


def _write(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, bytes | None]]) -> None:
    for collection, key, body in rows:
        if body is None:
            connection.execute("DELETE FROM records WHERE collection = ? AND key = ?", (collection, key))
        else:
            connection.execute(
                "INSERT INTO records (collection, key, body) VALUES (?, ?, ?) "
                "ON CONFLICT (collection, key) DO UPDATE SET body = excluded.body",
                (collection, key, body),
            )
