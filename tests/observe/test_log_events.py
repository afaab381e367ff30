"""Putting and getting log events."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lambay.clock import Clock
from lambay.observe import Logs
from lambay.settings import Settings

from .conftest import ACCOUNT, REGION, Client, messages

DAY = 86_400_000
HERE = {"logGroupName": "/g", "logStreamName": "s"}


@pytest.fixture
async def stream(client):
    await client.create_log_group(logGroupName="/g")
    await client.create_log_stream(**HERE)


async def put(client, *events):
    return await client.put_log_events(
        **HERE, logEvents=[{"timestamp": timestamp, "message": message} for timestamp, message in events]
    )


async def test_events_come_back_in_the_order_of_time(client, stream):
    now = client.now
    await put(client, (now, "second"), (now, "third"))
    await put(client, (now - 1, "first"))
    output = await client.get_log_events(**HERE, startFromHead=True)
    assert messages(output) == ["first", "second", "third"]
    assert output["events"][0]["ingestionTime"] >= now


async def test_pages_forward_end_with_the_same_token(client, stream):
    now = client.now
    await put(client, *((now + number, str(number)) for number in range(5)))
    first = await client.get_log_events(**HERE, startFromHead=True, limit=3)
    assert messages(first) == ["0", "1", "2"]
    second = await client.get_log_events(**HERE, nextToken=first["nextForwardToken"], limit=3)
    assert messages(second) == ["3", "4"]
    end = await client.get_log_events(**HERE, nextToken=second["nextForwardToken"], limit=3)
    assert (messages(end), end["nextForwardToken"]) == ([], second["nextForwardToken"])
    await put(client, (now + 9, "later"))
    assert messages(await client.get_log_events(**HERE, nextToken=end["nextForwardToken"])) == ["later"]


async def test_pages_backward_begin_with_the_latest(client, stream):
    now = client.now
    await put(client, *((now + number, str(number)) for number in range(5)))
    last = await client.get_log_events(**HERE, limit=3)
    assert messages(last) == ["2", "3", "4"]
    before = await client.get_log_events(**HERE, nextToken=last["nextBackwardToken"], limit=3)
    assert messages(before) == ["0", "1"]
    end = await client.get_log_events(**HERE, nextToken=before["nextBackwardToken"])
    assert (messages(end), end["nextBackwardToken"]) == ([], before["nextBackwardToken"])
    forward = await client.get_log_events(**HERE, nextToken=before["nextForwardToken"])
    assert messages(forward) == ["2", "3", "4"]


async def test_an_empty_stream_can_be_followed_by_its_token(client, stream):
    empty = await client.get_log_events(**HERE)
    assert messages(empty) == []
    await put(client, (client.now, "hello"))
    assert messages(await client.get_log_events(**HERE, nextToken=empty["nextForwardToken"])) == ["hello"]


async def test_a_page_holds_a_mebibyte(client, stream):
    for _ in range(3):
        await put(client, (client.now, "x" * 600_000))
    first = await client.get_log_events(**HERE, startFromHead=True)
    assert len(first["events"]) == 1
    second = await client.get_log_events(**HERE, nextToken=first["nextForwardToken"])
    assert len(second["events"]) == 1


async def test_the_time_range_excludes_its_end(client, stream):
    now = client.now
    await put(client, *((now + number, str(number)) for number in range(4)))
    output = await client.get_log_events(**HERE, startTime=now + 1, endTime=now + 3, startFromHead=True)
    assert messages(output) == ["1", "2"]


async def test_a_foreign_token_is_refused(client, stream):
    error = await client.refused("get_log_events", **HERE, nextToken="f/123/s")
    assert (error.code, error.message) == (
        "InvalidParameterException",
        "The specified nextToken is invalid.",
    )


async def test_too_old_expired_and_too_new_events_are_rejected_alone(client, stream):
    now = client.now
    output = await put(
        client, (now - 15 * DAY, "too old"), (now - 1, "good"), (now + 3 * 3_600_000, "too new")
    )
    assert output["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
    await client.put_retention_policy(logGroupName="/g", retentionInDays=1)
    output = await put(client, (now - 2 * DAY, "expired"), (now, "good"))
    assert output["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    assert messages(await client.get_log_events(**HERE, startFromHead=True)) == ["good", "good"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            [(10, "b"), (9, "a")],
            "Log events in a single PutLogEvents request must be in chronological order.",
        ),
        ([(10, "x" * 1_048_576)], "Log event too large: 1048602 bytes exceeds limit of 1048576"),
        ([(10, "x" * 600_000)] * 2, "Upload too large: 1200052 bytes exceeds limit of 1048576"),
    ],
)
async def test_a_batch_out_of_bounds_is_refused(client, stream, events, message):
    error = await refused_put(client, events)
    assert (error.code, error.message) == ("InvalidParameterException", message)


async def test_a_batch_of_more_than_a_day_is_refused(client, stream):
    error = await refused_put(client, [(client.now - DAY - 1, "a"), (client.now, "b")])
    assert "cannot span more than 24 hours" in error.message


async def refused_put(client, events):
    return await client.refused(
        "put_log_events", **HERE, logEvents=[{"timestamp": time, "message": text} for time, text in events]
    )


async def test_missing_groups_and_streams_are_named(client):
    error = await refused_put(client, [(client.now, "x")])
    assert (error.code, error.message) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )
    await client.create_log_group(logGroupName="/g")
    error = await refused_put(client, [(client.now, "x")])
    assert error.message == "The specified log stream does not exist."


async def test_written_events_are_readable_at_once_with_group_and_stream_made(client):
    await client.write("/aws/lambda/f", "2026/01/01/[$LATEST]abc", "START", "END\0\u00e9\U0001f600")
    output = await client.get_log_events(
        logGroupName="/aws/lambda/f", logStreamName="2026/01/01/[$LATEST]abc", startFromHead=True
    )
    assert messages(output) == ["START", "END\0\u00e9\U0001f600"]


async def test_writes_keep_their_order_and_lose_nothing(client):
    for number in range(2000):
        await client.write("/g", f"s{number % 3}", str(number), at=1_700_000_000_000)
    for stream in range(3):
        output = await client.get_log_events(
            logGroupName="/g", logStreamName=f"s{stream}", startFromHead=True
        )
        assert messages(output) == [str(number) for number in range(stream, 2000, 3)]


async def test_a_write_after_a_deletion_makes_the_group_anew(client):
    await client.write("/g", "s", "before")
    await client.delete_log_group(logGroupName="/g")
    await client.write("/g", "s", "after")
    assert messages(await client.get_log_events(**HERE)) == ["after"]


async def test_events_outlive_a_restart(tmp_path, clock):
    first = Logs(tmp_path / "logs.db", clock, Settings())
    await first.write(ACCOUNT, REGION, "/g", "s", [(client_now(clock), "kept")])
    await first.close()
    second = Logs(tmp_path / "logs.db", clock, Settings())
    client = Client(second, clock)
    await client.write("/g", "s", "new", at=client_now(clock))
    assert messages(await client.get_log_events(**HERE, startFromHead=True)) == ["kept", "new"]
    await second.close()


def client_now(clock: Clock) -> int:
    return int(clock.time() * 1000)


async def test_acknowledged_events_outlive_kill_9(tmp_path, clock):
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from lambay.aws import Call, Principal
        from lambay.clock import Clock
        from lambay.observe import Logs
        from lambay.settings import Settings

        async def main():
            clock = Clock()
            logs = Logs(Path(sys.argv[1]), clock, Settings())
            call = Call("r", "123456789012", "eu-west-1", Principal("root", "123456789012", "", ""))
            await logs.create_log_group(call, {"logGroupName": "/g"})
            await logs.create_log_stream(call, {"logGroupName": "/g", "logStreamName": "s"})
            for number in range(100_000):
                event = {"timestamp": int(clock.time() * 1000), "message": str(number)}
                where = {"logGroupName": "/g", "logStreamName": "s"}
                await logs.put_log_events(call, {**where, "logEvents": [event]})
                print(number, flush=True)

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "logs.db"), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    acknowledged = -1
    while acknowledged < 50:
        acknowledged = int(await process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = (await process.stdout.read()).decode().split()
    await process.wait()
    acknowledged = int(rest[-1]) if rest else acknowledged
    logs = Logs(tmp_path / "logs.db", clock, Settings())
    found = messages(await Client(logs, clock).get_log_events(**HERE, startFromHead=True))
    assert found[: acknowledged + 1] == [str(number) for number in range(acknowledged + 1)]
    await logs.close()


async def test_ingest_is_quick(client):
    line = "2026-01-01T00:00:00Z INFO request handled in 12.3 ms by worker 7 with some more text"
    begun = time.perf_counter()
    for number in range(100):
        await client.write("/g", f"s{number % 10}", *[line] * 500)
    await client.logs.flush()
    rate = 50_000 / (time.perf_counter() - begun)
    print(f"ingest: {rate:,.0f} events/s")
    assert rate > 15_000, "aim: 50,000 events/s on an idle machine"
