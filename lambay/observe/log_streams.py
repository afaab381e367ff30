"""The operations on log streams."""

from __future__ import annotations

import itertools
import sqlite3

from lambay.aws import Call
from lambay.observe import log_schema as schema
from lambay.observe.log_errors import invalid, required_group, required_stream, stream_exists
from lambay.observe.log_records import GroupKey, Stream
from lambay.observe.log_requests import (
    PAGE_ITEMS,
    Input,
    LogsOperations,
    Output,
    continuation,
    continued,
    named_group,
)


class LogStreams(LogsOperations):
    """Log streams. Their own `storedBytes` is always 0, as AWS's is since 2019."""

    async def create_log_stream(self, call: Call, input: Input) -> Output:
        key, name = GroupKey(call.account, call.region, input["logGroupName"]), input["logStreamName"]

        def create(connection: sqlite3.Connection) -> None:
            group = required_group(connection, key)
            if schema.insert_stream(connection, group.id, name, self._store.now_ms()) is None:
                raise stream_exists()

        await self._store.change(create)
        return {}

    async def delete_log_stream(self, call: Call, input: Input) -> Output:
        key, name = GroupKey(call.account, call.region, input["logGroupName"]), input["logStreamName"]

        def delete(connection: sqlite3.Connection) -> None:
            group = required_group(connection, key)
            schema.doom_stream(connection, required_stream(connection, group, name))

        await self._store.remove(delete)
        return {}

    async def describe_log_streams(self, call: Call, input: Input) -> Output:
        key = named_group(call, input)
        prefix = input.get("logStreamNamePrefix")
        by_last_event = input.get("orderBy") == "LastEventTime"
        if by_last_event and prefix is not None:
            raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        limit = input.get("limit", PAGE_ITEMS)
        place = continued(input.get("nextToken"), int, str)

        def read(connection: sqlite3.Connection) -> list[Stream]:
            group = required_group(connection, key)
            streams = schema.streams_of(
                connection,
                group.id,
                prefix=prefix or "",
                by_last_event=by_last_event,
                descending=input.get("descending", False),
                after=(place[0], place[1]) if place else None,
            )
            return list(itertools.islice(streams, limit + 1))

        streams = await self._store.read(read)
        output: Output = {"logStreams": [_described(key, stream) for stream in streams[:limit]]}
        if len(streams) > limit:
            last = streams[limit - 1]
            output["nextToken"] = continuation(last.last_ms or 0, last.name)
        return output


def sequence_token(stream_id: int) -> str:
    """A token of AWS's form; none is ever asked for again."""
    return f"{stream_id:056d}"


def _described(key: GroupKey, stream: Stream) -> Output:
    described: Output = {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "uploadSequenceToken": sequence_token(stream.id),
        "arn": f"{key.arn}:log-stream:{stream.name}",
        "storedBytes": 0,
    }
    times = {
        "firstEventTimestamp": stream.first_ms,
        "lastEventTimestamp": stream.last_ms,
        "lastIngestionTime": stream.last_ingestion_ms,
    }
    described.update((name, time) for name, time in times.items() if time is not None)
    return described
