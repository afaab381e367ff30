"""Following what is written."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import timedelta

import pytest

from lambay.aws import AWSError
from lambay.http import Request

from .conftest import ACCOUNT, REGION, call

HERE = (ACCOUNT, REGION, "/g")


async def taken(tail, count):
    """The next `count` messages."""
    found = []
    async for events in tail:
        found += [event.message for event in events]
        if len(found) >= count:
            return found
    return found


async def test_written_events_come_at_once_and_before_they_are_stored(client, logs):
    async with aclosing(logs.tail(*HERE)) as tail:
        following = asyncio.create_task(taken(tail, 2))
        await asyncio.sleep(0)
        await client.write("/g", "s", "one")
        await client.write("/other", "s", "no")
        await client.write("/g", "t", "two")
        assert await asyncio.wait_for(following, 5) == ["one", "two"]


async def test_stored_events_come_first_and_none_twice(client, logs):
    for number in range(50):
        await client.write("/g", "s", str(number))
    tail = logs.tail(*HERE, since_ms=0)
    async with aclosing(tail):
        first = await anext(tail)
        for number in range(50, 100):
            await client.write("/g", "s", str(number))
        found = [event.message for event in first] + await asyncio.wait_for(taken(tail, 50), 5)
    assert found == [str(number) for number in range(100)]


async def test_nothing_is_lost_or_doubled_while_many_write(client, logs):
    await client.create_log_group(logGroupName="/g")
    await client.create_log_stream(logGroupName="/g", logStreamName="put")

    async def write(stream):
        for number in range(100):
            await client.write("/g", stream, f"{stream} {number}")
            await asyncio.sleep(0)

    async def put():
        for number in range(50):
            events = [{"timestamp": client.now, "message": f"put {number}"}]
            await client.put_log_events(logGroupName="/g", logStreamName="put", logEvents=events)

    writers = asyncio.gather(write("a"), write("b"), put())
    await asyncio.sleep(0)
    async with aclosing(logs.tail(*HERE, since_ms=0)) as tail:
        found = await asyncio.wait_for(taken(tail, 250), 10)
    await writers
    expected = [f"{s} {n}" for s in "ab" for n in range(100)] + [f"put {n}" for n in range(50)]
    assert sorted(found) == sorted(expected)
    for stream in ("a", "b", "put"):
        numbers = [int(message.split()[1]) for message in found if message.startswith(stream + " ")]
        assert numbers == sorted(numbers)


async def test_only_matching_events_of_the_streams_come(client, logs):
    async with aclosing(logs.tail(*HERE, streams=["s"], pattern="yes", since_ms=0)) as tail:
        await client.write("/g", "s", "yes 1", "no")
        await client.write("/g", "t", "yes elsewhere")
        following = asyncio.create_task(taken(tail, 2))
        await asyncio.sleep(0)
        await client.write("/g", "t", "yes elsewhere")
        await client.write("/g", "s", "no", "yes 2")
        assert await asyncio.wait_for(following, 5) == ["yes 1", "yes 2"]


async def test_following_ends_when_the_logs_close(client, logs):
    following = asyncio.create_task(taken(logs.tail(*HERE), 1))
    await asyncio.sleep(0)
    logs._store._tails.end()
    assert await asyncio.wait_for(following, 5) == []


async def test_closing_a_tail_forgets_it(client, logs):
    tail = logs.tail(*HERE, since_ms=0)
    await client.write("/g", "s", "x")
    await anext(tail)
    assert logs._store._tails._watching
    await tail.aclose()
    assert not logs._store._tails._watching


async def test_an_unreadable_pattern_is_refused(logs):
    with pytest.raises(AWSError, match="must end with"):
        await anext(logs.tail(*HERE, pattern="{ $.a"))


async def test_the_handler_answers_with_json_lines(client, logs, settings):
    await logs.write(settings.account, settings.region, "/g", "s", [(1_700_000_000_000, "hi\nthere")])
    response = await logs.tail_handler(Request("GET", "/_lambay/logs/tail", "group=%2Fg&since=0", {}))
    async with aclosing(response.body) as lines:
        line = json.loads(await anext(lines))
    assert line.pop("ingestionTime") > 0
    assert line == {"group": "/g", "stream": "s", "timestamp": 1_700_000_000_000, "message": "hi\nthere"}


@pytest.mark.parametrize(
    ("query", "complaint"),
    [("", "group: "), ("group=g&since=1h", "since: '1h'"), ("group=g&filter=%7B", "must end with")],
)
async def test_the_handler_names_the_wrong_parameter(logs, query, complaint):
    with pytest.raises(AWSError, match=complaint):
        await logs.tail_handler(Request("GET", "/_lambay/logs/tail", query, {}))


async def test_a_live_tail_session_starts_and_updates(client, logs):
    await client.create_log_group(logGroupName="/g")
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/g"
    output = await logs.start_live_tail(
        call(), {"logGroupIdentifiers": [group], "logEventFilterPattern": "yes"}
    )
    async with aclosing(output["responseStream"]) as session:
        start = (await anext(session))["sessionStart"]
        assert start["logGroupIdentifiers"] == [group]
        assert start["logEventFilterPattern"] == "yes"
        await client.write("/g", "s", "no", "yes", at=1_700_000_000_000)
        update = (await anext(session))["sessionUpdate"]
    (result,) = update["sessionResults"]
    assert result.pop("ingestionTime") > 0
    assert result == {
        "logGroupIdentifier": f"{ACCOUNT}:/g",
        "logStreamName": "s",
        "timestamp": 1_700_000_000_001,
        "message": "yes",
    }


async def test_a_live_tail_session_ends_after_three_hours(client, logs, clock):
    await client.create_log_group(logGroupName="/g")
    output = await logs.start_live_tail(call(), {"logGroupIdentifiers": ["/g"]})
    session = output["responseStream"]
    await anext(session)
    ending = asyncio.create_task(anext(session))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(timedelta(hours=3))
    with pytest.raises(AWSError, match="SessionTimeoutException"):
        await asyncio.wait_for(ending, 5)


async def test_a_live_tail_of_no_group_is_refused(client):
    error = await client.refused("start_live_tail", logGroupIdentifiers=["/gone"])
    assert error.code == "ResourceNotFoundException"
