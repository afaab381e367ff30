"""The store: what is committed survives, what fails is undone."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lambay.store import Database, SchemaError, Store


class Record(msgspec.Struct, frozen=True):
    name: str
    size: int = 0


def reopened(path: Path) -> dict[str, Record]:
    store = Store(path)
    try:
        return dict(store.collection("records", Record).items())
    finally:
        store.close()


async def test_committed_records_survive_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    records = store.collection("records", Record)
    await store.commit(records.put("a", Record("first", 1)), records.put("b", Record("second")))
    await store.commit(records.remove("b"))
    store.close()

    assert reopened(tmp_path / "store.db") == {"a": Record("first", 1)}


async def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    records = store.collection("records", Record)
    await store.commit(records.put("a", Record("kept")))
    await store._database.run(
        lambda c: (
            c.execute(
                "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            ).rowcount
        )
    )

    with pytest.raises(sqlite3.DatabaseError, match="disk full"):
        await store.commit(records.put("a", Record("lost")), records.put("b", Record("lost too")))

    assert dict(records.items()) == {"a": Record("kept")}
    store.close()


async def test_one_failing_piece_of_work_leaves_its_neighbours_in_the_batch(tmp_path: Path) -> None:
    database = Database(tmp_path / "file.db", ("CREATE TABLE t (x INTEGER PRIMARY KEY)",))

    def insert(value: int) -> asyncio.Future[int]:
        return asyncio.ensure_future(
            database.run(lambda c: c.execute("INSERT INTO t VALUES (?)", (value,)).rowcount)
        )

    outcomes = await asyncio.gather(insert(1), insert(1), insert(2), return_exceptions=True)

    assert [isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes] == [False, True, False]
    assert await database.run(lambda c: c.execute("SELECT x FROM t ORDER BY x").fetchall()) == [(1,), (2,)]
    database.close()


async def test_many_concurrent_commits_all_become_durable(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    records = store.collection("records", Record)
    await asyncio.gather(*(store.commit(records.put(str(n), Record("r", n))) for n in range(500)))
    store.close()

    assert sorted(record.size for record in reopened(tmp_path / "store.db").values()) == list(range(500))


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from tests.test_store import Record
from lambay.store import Store
async def main():
    store = Store(Path(sys.argv[1])); records = store.collection("records", Record)
    n = 0
    while True:
        await store.commit(records.put(str(n), Record("r", n))); print(n, flush=True); n += 1
asyncio.run(main())
"""
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "store.db")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()

    assert {str(n) for n in acknowledged} <= reopened(tmp_path / "store.db").keys()


def test_a_file_of_a_newer_lambay_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "file.db", ("CREATE TABLE a (x)", "CREATE TABLE b (x)")).close()

    with pytest.raises(SchemaError, match="schema version 2 is newer than this Lambay's 1"):
        Database(tmp_path / "file.db", ("CREATE TABLE a (x)",))


async def test_clear_forgets_everything_durably(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    records = store.collection("records", Record)
    await store.commit(records.put("a", Record("gone")))
    await store.clear()
    store.close()

    assert reopened(tmp_path / "store.db") == {}


async def test_under_returns_the_records_below_a_prefix_in_key_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    records = store.collection("records", Record)
    await store.commit(*(records.put(key, Record(key)) for key in ("1/b", "2/a", "1/a")))

    assert [record.name for record in records.under("1/")] == ["1/a", "1/b"]
    store.close()
