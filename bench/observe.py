"""Observing: what watching costs, beside the same without it.

    .venv/bin/python -m bench.observe [--seconds 5] [--events 1000000] [--no-server]

Warm invocations are timed in turns, with nothing else going on and while another process writes 5,000 log lines a
second and puts the metrics of 1,000 functions. Then a million log events are queried with Insights, beside the bare
SQL on the same file; and data are put to metrics and asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import math
import multiprocessing
import multiprocessing.synchronize
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from lambay.aws import Call, Principal
from lambay.clock import Clock
from lambay.observe import Logs, Metrics
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric
from lambay.observe.publishing.functions import FunctionActivity
from lambay.observe.publishing.publisher import in_turns
from lambay.runtime import EnvironmentSpec, Outcome
from lambay.settings import Settings

LINES_A_SECOND = 5000
FUNCTIONS = 1000
MONTH_DAYS = 30
MONTH_METRICS = 20
"""As many stand for five times as many: a month takes its time."""
GROUP = "/bench"
CALL = Call("bench", "000000000000", "us-east-1", Principal("root", "000000000000", "", "000000000000"))
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


SPEC = EnvironmentSpec(
    key="f",
    account=CALL.account,
    region=CALL.region,
    function_name="f",
    version="1",
    function_arn="arn:aws:lambda:us-east-1:000000000000:function:f",
    handler="app.handler",
    runtime="python3.11",
    memory_mb=512,
    timeout_s=3,
    code=Path("/"),
    role_arn="arn:aws:iam::000000000000:role/r",
)


@dataclass(frozen=True)
class Named:
    """A function as its caller named it."""

    name: str
    qualifier: str | None = None
    account: str = CALL.account
    region: str = CALL.region


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5, help="of each turn of warm invocations")
    parser.add_argument("--events", type=int, default=1_000_000, help="events that Insights queries")
    parser.add_argument("--no-server", action="store_true", help="leave the invocations out")
    options = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="lambay-bench-", dir="/var/tmp") as directory:
        if not options.no_server:
            rows += invocations(Path(directory) / "server", options.seconds)
        rows += asyncio.run(queries(Path(directory), options.events))
        rows += asyncio.run(metrics(Path(directory)))
        rows += asyncio.run(month(Path(directory)))
        rows += asyncio.run(minute())
    print(f"{'':52} {'Lambay':>16} {'beside':>16}")
    for name, own, beside in rows:
        print(f"{name:52} {own:>16} {beside:>16}")


def client(endpoint: str, service: str) -> Any:
    config = Config(retries={"total_max_attempts": 1})
    return boto3.Session("test", "test", region_name="us-east-1").client(
        service, endpoint_url=endpoint, config=config
    )


def invocations(data_dir: Path, seconds: float) -> list[tuple[str, str, str]]:
    """Median and 99th percentile of warm invocations, under load and without."""
    data_dir.mkdir(mode=0o711)
    command = [
        str(Path(sys.executable).with_name("lambay")),
        "up",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        endpoint = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        function = client(endpoint, "lambda")
        role = client(endpoint, "iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.writestr("app.py", "def handler(event, context):\n    return 1\n")
        function.create_function(
            FunctionName="f",
            Runtime=f"python3.{sys.version_info.minor}",
            Handler="app.handler",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": archive.getvalue()},
        )
        function.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.1})
        for _ in range(50):
            function.invoke(FunctionName="f")
        quiet: list[float] = []
        loaded: list[float] = []
        for _ in range(2):
            quiet += timed(lambda: function.invoke(FunctionName="f"), seconds)
            stop = multiprocessing.Event()
            writer = multiprocessing.Process(target=write, args=(endpoint, stop))
            writer.start()
            loaded += timed(lambda: function.invoke(FunctionName="f"), seconds)
            stop.set()
            writer.join()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    return [
        (
            f"warm invoke {name}, loaded / quiet",
            f"{at(loaded) * 1000:.2f} ms",
            f"{at(quiet) * 1000:.2f} ms",
        )
        for name, at in (
            ("p50", statistics.median),
            ("p99", lambda values: statistics.quantiles(values, n=100)[98]),
        )
    ]


def timed(work: Callable[[], object], seconds: float) -> list[float]:
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        work()
        taken.append(time.perf_counter() - began)
    return taken


def write(endpoint: str, stop: multiprocessing.synchronize.Event) -> None:
    """5,000 lines a second in batches of 1,000, and a datum of each of 1,000 functions every ten seconds."""
    logs, cloudwatch = client(endpoint, "logs"), client(endpoint, "cloudwatch")
    try:
        logs.create_log_group(logGroupName=GROUP)
        logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    except logs.exceptions.ResourceAlreadyExistsException:
        pass
    data = [
        {
            "MetricName": "Duration",
            "Dimensions": [{"Name": "FunctionName", "Value": f"f{number}"}],
            "Value": 1.0,
        }
        for number in range(FUNCTIONS)
    ]
    turn = 0
    while not stop.wait(1000 / LINES_A_SECOND):
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": f"line {number} of a function"} for number in range(1000)]
        logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
        if turn % (10 * LINES_A_SECOND // 1000) == 0:
            cloudwatch.put_metric_data(Namespace="Bench", MetricData=data)
        turn += 1


async def queries(directory: Path, count: int) -> list[tuple[str, str, str]]:
    """Insights over `count` events, beside SQL that does the least of it."""
    clock = Clock()
    logs = Logs(directory / "logs.db", clock, Settings())
    await logs.start()
    base = int(clock.time() * 1000) - 86_400_000
    for first in range(0, count, 1000):
        events = [
            (
                base + (first + number) * 80,
                f'{{"event_type":"{"efs_mount" if number % 3 else "efs_error"}","duration_ms":{number}}}',
            )
            for number in range(1000)
        ]
        await logs.write(CALL.account, CALL.region, GROUP, f"s{first // 1000 % 20}", events)
    await logs.flush()
    bare = sqlite3.connect(f"file:{directory / 'logs.db'}?mode=ro", uri=True)
    rows = []
    for name, query, sql in (
        (
            "count by 5 minutes",
            "stats count(*) by bin(5m)",
            "SELECT timestamp / 300000, count(*) FROM log_events GROUP BY 1",
        ),
        (
            "average of a JSON property by 5 minutes",
            'filter event_type = "efs_mount" | stats avg(duration_ms) by bin(5m)',
            "SELECT timestamp / 300000, avg(json_extract(message, '$.duration_ms')) FROM log_events "
            "WHERE json_extract(message, '$.event_type') = 'efs_mount' GROUP BY 1",
        ),
    ):
        began = time.perf_counter()
        asked = {"logGroupName": GROUP, "startTime": 0, "endTime": 4_000_000_000, "queryString": query}
        started = await logs.start_query(CALL, asked)
        status = "Running"
        while status in ("Scheduled", "Running"):
            await asyncio.sleep(0.01)
            status = (await logs.get_query_results(CALL, {"queryId": started["queryId"]}))["status"]
        taken = time.perf_counter() - began
        began = time.perf_counter()
        bare.execute(sql).fetchall()
        rows.append(
            (f"{count:,} events: {name}", f"{taken:.2f} s", f"{time.perf_counter() - began:.2f} s bare SQL")
        )
    bare.close()
    await logs.close()
    return rows


async def metrics(directory: Path) -> list[tuple[str, str, str]]:
    """Data a second, and a question over a fortnight."""
    clock = Clock()
    kept = Metrics(directory / "metrics.db", clock)
    now = int(clock.time())
    data = [
        Datum(Metric("1", "r", "App", f"m{number % 100}"), now - number, Point.of(float(number)))
        for number in range(1000)
    ]
    began = time.perf_counter()
    for _ in range(20):
        await kept.put(data)
    a_second = 20_000 / (time.perf_counter() - began)
    fortnight = [
        Datum(Metric("1", "r", "App", "long"), now - 60 * minute, Point.of(float(minute % 50)))
        for minute in range(14 * 1440)
    ]
    await kept.put(fortnight)
    await kept.store.sweep()
    began = time.perf_counter()
    await kept.statistic(
        "1", "r", "App", "long", {}, "Average", period=3600, start=now - 14 * 86_400, end=now
    )
    taken = time.perf_counter() - began
    await kept.close()
    return [
        ("data put, in requests of 1,000", f"{a_second:,.0f}/s", "10,000/s wanted"),
        ("a metric by the hour over 14 days", f"{taken * 1000:.0f} ms", "50 ms wanted"),
    ]


async def month(directory: Path) -> list[tuple[str, str, str]]:
    """What a month of metrics takes on disk, of kinds as functions and file systems have them, and questions to it."""
    clock = Clock(ahead=-MONTH_DAYS * 86_400.0)
    path = directory / "month.db"
    kept = Metrics(path, clock)
    at = int(clock.time()) // 3600 * 3600
    seed = random.Random(8)
    largest = log = 0
    for hour in range(24 * MONTH_DAYS):
        busy = 1.2 + math.sin(hour / 24 * 2 * math.pi)
        for minute in range(60):
            await kept.put(
                [
                    Datum(
                        Metric("1", "r", "Month", f"m{number}"), at + 60 * minute, _value(seed, number, busy)
                    )
                    for number in range(MONTH_METRICS)
                ]
            )
        at += 3600
        clock.advance(timedelta(hours=1))
        await kept.store.sweep()
        size, its_log = _sizes(path)
        largest, log = max(largest, size), max(log, its_log)
    taken = {}
    for statistic in ("Average", "p99"):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            found = await kept.statistic(
                "1", "r", "Month", "m0", {}, statistic, period=3600, start=at - 14 * 86_400, end=at
            )
            times.append(time.perf_counter() - began)
            assert len(found) >= 14 * 24
        taken[statistic] = statistics.median(times)
    await kept.close()
    # The log is of one size however many there are.
    of_100 = largest / MONTH_METRICS * 100 + log
    return [
        ("100 metrics, a month by the minute, on disk", f"{of_100 / 1e6:.0f} MB", "100 MB wanted"),
        *(
            (f"{name} of durations by the hour over 14 days", f"{each * 1000:.0f} ms", "50 ms wanted")
            for name, each in taken.items()
        ),
    ]


def _sizes(database: Path) -> tuple[int, int]:
    """Of the file and of the log beside it."""
    return database.stat().st_size, database.with_name(f"{database.name}-wal").stat().st_size


def _value(seed: random.Random, number: int, busy: float) -> Point:
    """A minute of one metric: of ten one has durations, one concurrency, two are shares, three counts, three gauges."""
    count = max(1, int(seed.gauss(30 * busy, 5)))
    match number % 10:
        case 0:
            return Point.of_values((seed.lognormvariate(3, 0.5), 1.0) for _ in range(count))
        case 1:
            return Point.of_values((float(seed.randint(1, 8)), 1.0) for _ in range(count))
        case 2 | 3:
            errors = sum(seed.random() < 0.01 for _ in range(count))
            shares = ((0.0, float(count - errors)), (1.0, float(errors)))
            return Point.of_values((value, times) for value, times in shares if times)
        case 4 | 5 | 6:
            return Point.of(1.0, float(count))
        case _:
            return Point.of(seed.gauss(1e9, 1e8) * busy)


async def minute() -> list[tuple[str, str, str]]:
    """What 1,000 functions did in a minute, made into metrics: how long nobody else has a turn."""
    activity = FunctionActivity(Clock())
    for number in range(FUNCTIONS * 10):
        name = Named(f"f{number % FUNCTIONS}")
        activity.began(name, unreserved=True)
        outcome = Outcome(payload=b"", duration_ms=random.expovariate(0.1), billed_ms=10)
        activity.ended(name, SPEC, outcome, unreserved=True, provisioned=0, spilled=False)
    turns: list[float] = []

    async def others() -> None:
        while True:
            turns.append(time.thread_time())
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    await asyncio.sleep(0)
    count, began = 0, time.thread_time()
    async for some in in_turns(activity.take()):
        count += len(some)
    await asyncio.sleep(0)
    whole = time.thread_time() - began
    waiting.cancel()
    longest = max(later - earlier for earlier, later in itertools.pairwise(turns))
    return [
        (f"the {count:,} data of 1,000 functions' minute", f"{whole * 1000:.0f} ms", "a minute"),
        ("the longest of them without a turn for others", f"{longest * 1000:.1f} ms", ""),
    ]


if __name__ == "__main__":
    main()
