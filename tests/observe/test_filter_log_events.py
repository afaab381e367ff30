"""Searching a group."""

from __future__ import annotations

import time

import pytest

from .conftest import messages

GROUP = {"logGroupName": "/g"}


async def test_events_of_all_streams_are_interleaved_by_time(client):
    now = client.now
    await client.write("/g", "a", "1", "3", at=now)
    await client.write("/g", "b", "2", at=now)
    output = await client.filter_log_events(**GROUP)
    assert messages(output) == ["1", "2", "3"]
    assert [event["logStreamName"] for event in output["events"]] == ["a", "b", "a"]
    assert output["searchedLogStreams"] == []
    assert len({event["eventId"] for event in output["events"]}) == 3


async def test_only_matching_events_are_found(client):
    await client.write("/g", "s", '{"level": "ERROR", "ms": 3}', '{"level": "INFO", "ms": 30}', "ERROR plain")
    assert messages(await client.filter_log_events(**GROUP, filterPattern="ERROR plain")) == ["ERROR plain"]
    found = await client.filter_log_events(**GROUP, filterPattern="{ $.ms > 3 }")
    assert messages(found) == ['{"level": "INFO", "ms": 30}']


async def test_an_unreadable_pattern_is_refused(client):
    await client.create_log_group(**GROUP)
    error = await client.refused("filter_log_events", **GROUP, filterPattern="{ $.a = 1")
    assert (error.code, error.message) == (
        "InvalidParameterException",
        "If a filter pattern starts with '{' it must end with '}'",
    )


async def test_streams_are_chosen_by_name_or_prefix(client):
    for stream in ("one", "two", "three"):
        await client.write("/g", stream, stream, at=1_700_000_000_000)
    assert messages(await client.filter_log_events(**GROUP, logStreamNames=["two"])) == ["two"]
    assert messages(await client.filter_log_events(**GROUP, logStreamNames=["two", "one"])) == ["one", "two"]
    assert messages(await client.filter_log_events(**GROUP, logStreamNamePrefix="t")) == ["two", "three"]
    assert messages(await client.filter_log_events(**GROUP, logStreamNamePrefix="x")) == []
    error = await client.refused("filter_log_events", **GROUP, logStreamNames=["gone"])
    assert error.message == "The specified log stream does not exist."
    error = await client.refused(
        "filter_log_events", **GROUP, logStreamNames=["one"], logStreamNamePrefix="t"
    )
    assert error.code == "InvalidParameterException"


async def test_the_time_range_includes_its_end(client):
    await client.write("/g", "s", *"01234", at=1_700_000_000_000)
    output = await client.filter_log_events(**GROUP, startTime=1_700_000_000_001, endTime=1_700_000_000_003)
    assert messages(output) == ["1", "2", "3"]


@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_cover_everything_once(client, ascending):
    for number in range(10):
        await client.write(
            "/g", f"s{number % 3}", f"odd {number}" if number % 2 else str(number), at=1_800_000_000_000
        )
    found = []
    page: dict = {}
    while True:
        page = await client.filter_log_events(
            **GROUP,
            filterPattern="odd",
            limit=2,
            startTime=1_704_067_200_000,
            startFromHead=ascending,
            **({"nextToken": page["nextToken"]} if page else {}),
        )
        found += messages(page)
        if "nextToken" not in page:
            break
    expected = [f"odd {number}" for number in range(1, 10, 2)]
    assert found == (expected if ascending else expected[::-1])


async def test_the_latest_first_needs_a_start_time_since_2024(client):
    await client.create_log_group(**GROUP)
    error = await client.refused("filter_log_events", **GROUP, startFromHead=False)
    assert error.code == "InvalidParameterException"


async def test_a_metric_filter_is_tried_on_messages(client):
    output = await client.test_metric_filter(
        filterPattern="[ip, ..., status = 4*]", logEventMessages=["1.1.1.1 x 200", "1.1.1.2 x 404"]
    )
    assert output["matches"] == [
        {
            "eventNumber": 2,
            "eventMessage": "1.1.1.2 x 404",
            "extractedValues": {"$ip": "1.1.1.2", "$status": "404"},
        }
    ]


async def test_pages_of_a_large_group_are_quick(client):
    now = client.now
    for number in range(40):
        await client.write("/g", f"s{number % 4}", *[f"line {number}"] * 5000, at=now + number * 5000)
    await client.logs.flush()
    here = {"logGroupName": "/g", "logStreamName": "s1"}
    begun = time.perf_counter()
    page = await client.get_log_events(**here, limit=100)
    for _ in range(20):
        page = await client.get_log_events(**here, limit=100, nextToken=page["nextBackwardToken"])
    each = (time.perf_counter() - begun) / 21
    assert len(page["events"]) == 100
    print(f"page of 100 among 200,000 events: {each * 1000:.2f} ms")
    assert each < 0.05
    found = await client.filter_log_events(**GROUP, filterPattern='"line 39"', limit=10)
    assert messages(found) == ["line 39"] * 10
