"""Threads that read a database file, each over a connection of its own, beside the one that writes it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

R = TypeVar("R")


class Readers:
    """`prepare` is done once on every connection: functions of ours that queries call."""

    def __init__(
        self,
        path: Path,
        threads: int,
        name: str,
        prepare: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._local = threading.local()
        self._prepare = prepare
        self._connections: list[sqlite3.Connection] = []

    async def run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """What `work`, which only reads, returns: all its statements see the file as it was at the first."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._at_one_moment, work)

    def _at_one_moment(self, work: Callable[[sqlite3.Connection], R]) -> R:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.rollback()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
            if self._prepare is not None:
                self._prepare(connection)
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
