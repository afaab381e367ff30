"""Logs and signatures: what each operation takes, beside the least it could take here.

    .venv/bin/python -m bench.logs [--events 1000000] [--json FILE]

Beside ingestion stands SQLite alone inserting the same rows with the same durability, beside a page the
bare query on the same file, beside a signature check the hashes that it is made of.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambay.aws import Call, Principal
from lambay.clock import Clock
from lambay.http import Request
from lambay.identity import Identity
from lambay.observe import Logs
from lambay.settings import Settings
from lambay.store import Store

ACCOUNT, REGION, GROUP = "000000000000", "us-east-1", "/bench"
STREAMS = 20
BATCH = 500
CALL = Call("bench", ACCOUNT, REGION, Principal("root", ACCOUNT, "", ACCOUNT))

Rows = list[tuple[str, str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the group")
    parser.add_argument(
        "--directory", default="/var/tmp", help="a directory on the file system to measure on"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lambay-bench-", dir=options.directory) as directory:
        rows = asyncio.run(measure(Path(directory), options.events))
    print(f"{'':44} {'Lambay':>16} {'least':>16}")
    for name, own, least in rows:
        print(f"{name:44} {own:>16} {least:>16}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))


async def measure(directory: Path, count: int) -> Rows:
    clock = Clock()
    logs = Logs(directory / "logs.db", clock, Settings())
    await logs.start()
    begin = int(clock.time() * 1000) - count
    line = '{"level":"%s","ms":%d,"path":"/api/items","request":"5f0c1d0e-6a0e-4d6b-9c1f-1f2e3d4c5b6a"}'
    batches = [
        [
            (begin + number, line % ("ERROR" if number % 100_000 == 0 else "INFO", number % 100))
            for number in range(first, first + BATCH)
        ]
        for first in range(0, count, BATCH)
    ]
    rows = [await ingest(logs, directory, batches, count)]
    rows += [await acknowledged(logs, clock, 1), await acknowledged(logs, clock, 8)]
    rows += [await page(logs, directory), await search(logs, '"ERROR"', count, "a term")]
    rows += [await search(logs, "{ $.ms = 1000 }", count, "a JSON condition")]
    rows += [await written(logs, clock)]
    await logs.close()
    rows += [await signature(directory)]
    return rows


async def ingest(
    logs: Logs, directory: Path, batches: list[list[tuple[int, str]]], count: int
) -> tuple[str, str, str]:
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        await logs.write(ACCOUNT, REGION, GROUP, f"stream-{number % STREAMS}", batch)
        await asyncio.sleep(0)
    await logs.flush()
    own = count / (time.perf_counter() - begun)

    plain = sqlite3.connect(directory / "plain.db", isolation_level=None)
    plain.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
    plain.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, stream INTEGER, timestamp INTEGER, message TEXT)"
    )
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        plain.execute("BEGIN")
        plain.executemany(
            "INSERT INTO events (stream, timestamp, message) VALUES (?, ?, ?)",
            [(number % STREAMS, timestamp, message) for timestamp, message in batch],
        )
        plain.execute("COMMIT")
    least = count / (time.perf_counter() - begun)
    plain.close()
    return f"function log lines, {BATCH} at a time", f"{own:,.0f}/s", f"{least:,.0f}/s"


async def acknowledged(logs: Logs, clock: Clock, writers: int) -> tuple[str, str, str]:
    async def put(number: int) -> None:
        for _ in range(200):
            events = [{"timestamp": int(clock.time() * 1000), "message": "acknowledged"}]
            stream = f"stream-{number}"
            await logs.put_log_events(
                CALL, {"logGroupName": GROUP, "logStreamName": stream, "logEvents": events}
            )

    begun = time.perf_counter()
    await asyncio.gather(*(put(number) for number in range(writers)))
    rate = 200 * writers / (time.perf_counter() - begun)
    return f"PutLogEvents of one event, {writers} at once", f"{rate:,.0f}/s", ""


async def page(logs: Logs, directory: Path) -> tuple[str, str, str]:
    here = {"logGroupName": GROUP, "logStreamName": "stream-7", "limit": 100}
    token = (await logs.get_log_events(CALL, here))["nextBackwardToken"]

    async def one() -> None:
        nonlocal token
        token = (await logs.get_log_events(CALL, {**here, "nextToken": token}))["nextBackwardToken"]

    bare = sqlite3.connect(directory / "logs.db")
    query = "SELECT timestamp, message FROM log_events WHERE stream_id = 8 ORDER BY timestamp DESC LIMIT 100"

    async def least() -> None:
        bare.execute(query).fetchall()

    name = "GetLogEvents, a page of 100 (p50, p99)"
    return name, shown(await times(one, 200)), shown(await times(least, 200))


async def search(logs: Logs, pattern: str, count: int, what: str) -> tuple[str, str, str]:
    input: dict[str, Any] = {"logGroupName": GROUP, "filterPattern": pattern}
    begun = time.perf_counter()
    while True:
        answer = await logs.filter_log_events(CALL, input)
        if "nextToken" not in answer:
            break
        input["nextToken"] = answer["nextToken"]
    seconds = time.perf_counter() - begun
    return f"FilterLogEvents for {what}, all events", f"{seconds:.2f} s", ""


async def written(logs: Logs, clock: Clock) -> tuple[str, str, str]:
    now = int(clock.time() * 1000)
    lines = [(now, "START"), (now, "END"), (now, "REPORT")]

    async def one() -> None:
        await logs.write(ACCOUNT, REGION, GROUP, "invocations", lines)

    return "an invocation's log, as it waits for it (p50, p99)", shown(await times(one, 5000)), ""


async def signature(directory: Path) -> tuple[str, str, str]:
    class NoRecords:
        async def access_key(self, access_key_id: str) -> None:
            return None

        async def role(self, role_arn: str) -> None:
            return None

    store = Store(directory / "lambay.db")
    identity = Identity(store, NoRecords(), Settings(), Clock())
    path, body = "/2015-03-31/functions/f/invocations", b"{}" * 100
    given = AWSRequest("POST", f"http://localhost:4566{path}", {"Host": "localhost:4566"}, body)
    SigV4Auth(Credentials("test", "test"), "lambda", REGION).add_auth(given)
    headers = {name.lower(): value for name, value in given.headers.items()}
    request = Request("POST", path, "", headers, body)

    async def one() -> None:
        await identity.authenticate(request, "lambda")

    async def least() -> None:
        sha256(body).hexdigest()
        sha256(body).hexdigest()
        hmac.digest(b"k" * 32, body, "sha256")

    name = "the signature of an invocation (p50, p99)"
    row = name, shown(await times(one, 5000)), shown(await times(least, 5000))
    store.close()
    return row


async def times(work: Callable[[], Awaitable[None]], count: int) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await work()
        found.append(time.perf_counter() - begun)
    return found


def shown(seconds: list[float]) -> str:
    p50, p99 = statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.99)]
    unit, scale = ("ms", 1e3) if p50 > 1e-3 else ("us", 1e6)
    return f"{p50 * scale:.1f}, {p99 * scale:.1f} {unit}"


if __name__ == "__main__":
    main()
