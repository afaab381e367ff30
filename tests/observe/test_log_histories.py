"""Random histories of groups, streams and events, compared with a model that is a dictionary of lists."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lambay.clock import Clock
from lambay.observe import Logs
from lambay.settings import Settings

from .conftest import ACCOUNT, REGION, Client, call

DAY = 86_400_000
GROUPS = st.sampled_from(["/a", "/b"])
STREAMS = st.sampled_from(["s", "t"])
# Milliseconds before now; few values, so that many events share a timestamp.
AGES = st.lists(st.sampled_from([0, 1, 2, 5, 3_600_000, 2 * DAY]), min_size=1, max_size=6)

STEPS = st.one_of(
    st.tuples(st.just("write"), GROUPS, STREAMS, AGES),
    st.tuples(st.just("put"), GROUPS, STREAMS, AGES),
    st.tuples(st.just("delete_group"), GROUPS),
    st.tuples(st.just("delete_stream"), GROUPS, STREAMS),
    st.tuples(st.just("retain"), GROUPS, st.sampled_from([1, 3, None])),
    st.tuples(st.just("advance"), st.sampled_from([1, 2])),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("restart")),
)


@dataclass
class Model:
    """Groups with their retention in days, and their streams with (timestamp, arrival) and message."""

    retention: dict[str, int | None] = field(default_factory=dict)
    streams: dict[str, dict[str, list[tuple[int, int]]]] = field(default_factory=dict)
    arrivals: int = 0

    def append(self, group: str, stream: str, timestamps: list[int]) -> list[str]:
        self.retention.setdefault(group, None)
        kept = self.streams.setdefault(group, {}).setdefault(stream, [])
        first = self.arrivals
        self.arrivals += len(timestamps)
        kept += [(timestamp, first + number) for number, timestamp in enumerate(timestamps)]
        return [f"m{first + number}" for number in range(len(timestamps))]

    def events(self, group: str, streams: list[str], now: int) -> list[str]:
        days = self.retention[group]
        oldest = 0 if days is None else now - days * DAY
        found = [event for stream in streams for event in self.streams[group][stream] if event[0] >= oldest]
        return [f"m{arrival}" for _, arrival in sorted(found)]


class History:
    """The real logs and the model, step by step."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "logs.db"
        self.clock = Clock()
        self.model = Model()

    async def run(self, steps: list[tuple[Any, ...]]) -> None:
        await self.open()
        for name, *arguments in steps:
            await getattr(self, name)(*arguments)
        await self.compare()
        await self.logs.close()

    async def open(self) -> None:
        self.logs = Logs(self.path, self.clock, Settings())
        self.client = Client(self.logs, self.clock)

    async def write(self, group: str, stream: str, ages: list[int]) -> None:
        timestamps = [self.client.now - age for age in ages]
        messages = self.model.append(group, stream, timestamps)
        await self.logs.write(ACCOUNT, REGION, group, stream, list(zip(timestamps, messages, strict=True)))

    async def put(self, group: str, stream: str, ages: list[int]) -> None:
        now = self.client.now
        timestamps = sorted(now - age for age in ages)
        here = {"logGroupName": group, "logStreamName": stream}
        if stream not in self.model.streams.get(group, {}):
            events = [{"timestamp": timestamp, "message": "x"} for timestamp in timestamps]
            error = await self.client.refused("put_log_events", **here, logEvents=events)
            assert error.code == "ResourceNotFoundException"
            return
        days = self.model.retention[group]
        # The clock runs on meanwhile, so events right at the border are left out.
        oldest = now - (14 if days is None else days) * DAY + 60_000
        timestamps = [timestamp for timestamp in timestamps if timestamp > oldest]
        if not timestamps or timestamps[-1] - timestamps[0] > DAY:
            return
        messages = self.model.append(group, stream, timestamps)
        events = [{"timestamp": t, "message": m} for t, m in zip(timestamps, messages, strict=True)]
        assert "rejectedLogEventsInfo" not in await self.client.put_log_events(**here, logEvents=events)

    async def delete_group(self, group: str) -> None:
        if self.model.streams.pop(group, None) is None:
            assert (await self.client.refused("delete_log_group", logGroupName=group)).code
            return
        del self.model.retention[group]
        await self.client.delete_log_group(logGroupName=group)

    async def delete_stream(self, group: str, stream: str) -> None:
        here = {"logGroupName": group, "logStreamName": stream}
        if self.model.streams.get(group, {}).pop(stream, None) is None:
            assert (await self.client.refused("delete_log_stream", **here)).code
            return
        await self.client.delete_log_stream(**here)

    async def retain(self, group: str, days: int | None) -> None:
        if group not in self.model.streams:
            return
        # What has expired is gone for good, also when retention grows.
        await self.sweep()
        self.model.retention[group] = days
        if days is None:
            await self.client.delete_retention_policy(logGroupName=group)
        else:
            await self.client.put_retention_policy(logGroupName=group, retentionInDays=days)

    async def advance(self, days: int) -> None:
        self.clock.advance(timedelta(days=days, minutes=1))

    async def sweep(self) -> None:
        await self.logs._store.flush()
        await self.logs._store._expire()
        now = self.client.now
        for group, days in self.model.retention.items():
            if days is not None:
                for events in self.model.streams[group].values():
                    events[:] = [event for event in events if event[0] >= now - days * DAY]

    async def restart(self) -> None:
        await self.logs.close()
        await self.open()

    async def compare(self) -> None:
        await self.sweep()
        described = (await self.client.describe_log_groups())["logGroups"]
        assert {group["logGroupName"]: group["storedBytes"] for group in described} == {
            group: sum(len(f"m{arrival}") + 26 for kept in streams.values() for _, arrival in kept)
            for group, streams in self.model.streams.items()
        }
        for group, streams in self.model.streams.items():
            now = self.client.now
            listed = (await self.client.describe_log_streams(logGroupName=group))["logStreams"]
            assert [stream["logStreamName"] for stream in listed] == sorted(streams)
            expected = self.model.events(group, list(streams), now)
            assert await self.filtered(group, ascending=True) == expected
            assert await self.filtered(group, ascending=False) == expected[::-1]
            for stream in streams:
                expected = self.model.events(group, [stream], now)
                assert await self.paged(group, stream, forward=True) == expected
                assert await self.paged(group, stream, forward=False) == expected

    async def filtered(self, group: str, *, ascending: bool) -> list[str]:
        input: dict[str, Any] = {
            "logGroupName": group,
            "limit": 3,
            "startFromHead": ascending,
            "startTime": 1_704_067_200_000,
        }
        found: list[str] = []
        while True:
            page = await self.logs.filter_log_events(call(), input)
            found += [event["message"] for event in page["events"]]
            if "nextToken" not in page:
                return found
            input["nextToken"] = page["nextToken"]

    async def paged(self, group: str, stream: str, *, forward: bool) -> list[str]:
        here = {"logGroupName": group, "logStreamName": stream, "limit": 2, "startFromHead": forward}
        name = "nextForwardToken" if forward else "nextBackwardToken"
        found: list[str] = []
        token = None
        while True:
            page = await self.client.get_log_events(**here, **({"nextToken": token} if token else {}))
            messages = [event["message"] for event in page["events"]]
            found = [*found, *messages] if forward else [*messages, *found]
            if page[name] == token:
                return found
            token = page[name]


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_logs_are_what_their_history_says(steps):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(History(Path(directory)).run(steps))
