"""The operations of Logs Insights."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

import msgspec

from lambay.aws import AWSError, Call
from lambay.observe.insights import language
from lambay.observe.insights.language import InvalidQuery
from lambay.observe.insights.running import Insights, Query, pointed
from lambay.observe.insights.translation import MOST_RESULTS
from lambay.observe.log_errors import invalid, required_group
from lambay.observe.log_records import Group, GroupKey
from lambay.observe.log_requests import (
    Input,
    LogsOperations,
    Output,
    continuation,
    continued,
    identified_group,
    named_group,
)

_MOST_GROUPS = 50
_SAMPLED_EVENTS = 1000
_PAGE = 1000
# Times past this are milliseconds: it is the year 5138 in seconds.
_MILLISECONDS_FROM = 100_000_000_000


class InsightsOperations(LogsOperations):
    """See "Analyzing log data with CloudWatch Logs Insights" in the User Guide."""

    _insights: Insights

    async def start_query(self, call: Call, input: Input) -> Output:
        if input.get("queryLanguage", "CWLI") != "CWLI":
            raise invalid(f"queryLanguage: {input['queryLanguage']} is not supported, CWLI is.")
        keys = _asked_groups(call, input)
        start, end = _milliseconds(input["startTime"]), _milliseconds(input["endTime"])
        if start > end:
            raise invalid("End time should not be before start time.")
        text = input["queryString"]

        def read(connection: sqlite3.Connection) -> list[Group]:
            return [required_group(connection, key) for key in keys]

        groups = await self._store.read(read)
        try:
            query = self._insights.begin(
                account=call.account,
                region=call.region,
                text=text,
                groups=groups,
                commands=language.read(text),
                start_ms=start,
                # The second that it names is included.
                end_ms=end if input["endTime"] > _MILLISECONDS_FROM else end + 999,
                limit=min(input.get("limit", MOST_RESULTS), MOST_RESULTS),
                now_ms=self._store.now_ms(),
            )
        except InvalidQuery as error:
            raise _malformed(error) from None
        return {"queryId": query.id}

    async def get_query_results(self, call: Call, input: Input) -> Output:
        query = self._query(call, input["queryId"])
        place = continued(input.get("nextToken"), int)
        first = place[0] if place else 0
        most = input.get("maxItems") or MOST_RESULTS
        output: Output = {
            "queryLanguage": "CWLI",
            "results": query.rows[first : first + most],
            "status": query.status,
            "statistics": {
                "recordsMatched": float(query.matched),
                "recordsScanned": float(query.scanned),
                "bytesScanned": float(query.bytes),
                "estimatedRecordsSkipped": 0.0,
                "estimatedBytesSkipped": 0.0,
                "logGroupsScanned": float(len(query.groups)),
            },
        }
        if first + most < len(query.rows):
            output["nextToken"] = continuation(first + most)
        return output

    async def stop_query(self, call: Call, input: Input) -> Output:
        query = self._query(call, input["queryId"])
        if not self._insights.stop(query):
            raise invalid("Query is in terminal status; it can not be stopped.")
        return {"success": True}

    async def describe_queries(self, call: Call, input: Input) -> Output:
        name, status = input.get("logGroupName"), input.get("status")
        place = continued(input.get("nextToken"), int)
        first, most = (place[0] if place else 0), input.get("maxResults", _PAGE)
        found = [
            query
            for query in self._insights.all(call.account, call.region)
            if (name is None or any(group.key.name == name for group in query.groups))
            and status in (None, query.status)
        ]
        output: Output = {"queries": [_described(query) for query in found[first : first + most]]}
        if first + most < len(found):
            output["nextToken"] = continuation(first + most)
        return output

    async def get_log_record(self, call: Call, input: Input) -> Output:
        number = pointed(input["logRecordPointer"])
        if number is None:
            raise invalid("The specified logRecordPointer is not valid.")

        def read(connection: sqlite3.Connection) -> Any:
            return connection.execute(
                "SELECT timestamp, ingested_ms, message, log_streams.name, account, region, log_groups.name "
                "FROM log_events JOIN log_streams ON log_streams.id = stream_id "
                "JOIN log_groups ON log_groups.id = log_events.group_id WHERE log_events.id = ?",
                (number,),
            ).fetchone()

        row = await self._store.read(read)
        if row is None or (row[4], row[5]) != (call.account, call.region):
            raise AWSError("ResourceNotFoundException", "The log record does not exist.", status=400)
        record = {
            "@timestamp": str(row[0]),
            "@ingestionTime": str(row[1]),
            "@message": row[2],
            "@logStream": row[3],
            "@log": f"{row[4]}:{row[6]}",
            "@ptr": input["logRecordPointer"],
        }
        return {"logRecord": record | {name: str(value) for name, value in _properties(row[2]).items()}}

    async def get_log_group_fields(self, call: Call, input: Input) -> Output:
        """Of the latest thousand events."""
        key = named_group(call, input)

        def read(connection: sqlite3.Connection) -> list[str]:
            group = required_group(connection, key)
            rows = connection.execute(
                "SELECT message FROM log_events WHERE group_id = ? AND timestamp >= ? "
                "AND stream_id NOT IN (SELECT stream_id FROM doomed WHERE stream_id IS NOT NULL) "
                "ORDER BY timestamp DESC, id DESC LIMIT ?",
                (group.id, group.oldest_kept_ms(self._store.now_ms()), _SAMPLED_EVENTS),
            )
            return [message for (message,) in rows]

        messages = await self._store.read(read)
        counts: dict[str, int] = {}
        for message in messages:
            for name in _properties(message):
                counts[name] = counts.get(name, 0) + 1
        fields = [
            {"name": name, "percent": 100 * count // len(messages)}
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
        own = ("@ingestionTime", "@log", "@logStream", "@message", "@timestamp")
        return {"logGroupFields": [*({"name": name, "percent": 100} for name in own if messages), *fields]}

    async def put_query_definition(self, call: Call, input: Input) -> Output:
        if input.get("queryLanguage", "CWLI") != "CWLI":
            raise invalid(f"queryLanguage: {input['queryLanguage']} is not supported, CWLI is.")
        if input.get("parameters"):
            raise invalid("parameters: queries with parameters are not supported")
        identifier = input.get("queryDefinitionId") or str(uuid.uuid4())
        body = msgspec.json.encode(
            {"queryString": input["queryString"], "logGroupNames": list(input.get("logGroupNames") or ())}
        )
        row = (identifier, call.account, call.region, input["name"], self._store.now_ms(), body)

        def put(connection: sqlite3.Connection) -> None:
            owner = (identifier, call.account, call.region)
            there = connection.execute(
                "SELECT 1 FROM query_definitions WHERE id = ? AND account = ? AND region = ?", owner
            ).fetchone()
            if "queryDefinitionId" in input and there is None:
                raise _no_definition()
            connection.execute("INSERT OR REPLACE INTO query_definitions VALUES (?, ?, ?, ?, ?, ?)", row)

        await self._store.change(put)
        return {"queryDefinitionId": identifier}

    async def describe_query_definitions(self, call: Call, input: Input) -> Output:
        prefix = input.get("queryDefinitionNamePrefix", "")
        place = continued(input.get("nextToken"), int)
        first, most = (place[0] if place else 0), input.get("maxResults", _PAGE)

        def read(connection: sqlite3.Connection) -> list[Output]:
            rows = connection.execute(
                "SELECT id, name, modified_ms, body FROM query_definitions WHERE account = ? AND region = ? "
                "ORDER BY name, id",
                (call.account, call.region),
            )
            return [
                {
                    "queryLanguage": "CWLI",
                    "queryDefinitionId": identifier,
                    "name": name,
                    "lastModified": modified,
                    **msgspec.json.decode(body),
                }
                for identifier, name, modified, body in rows
                if name.startswith(prefix)
            ]

        found = await self._store.read(read)
        output: Output = {"queryDefinitions": found[first : first + most]}
        if first + most < len(found):
            output["nextToken"] = continuation(first + most)
        return output

    async def delete_query_definition(self, call: Call, input: Input) -> Output:
        owner = (input["queryDefinitionId"], call.account, call.region)

        def delete(connection: sqlite3.Connection) -> None:
            done = connection.execute(
                "DELETE FROM query_definitions WHERE id = ? AND account = ? AND region = ?", owner
            )
            if not done.rowcount:
                raise _no_definition()

        await self._store.change(delete)
        return {"success": True}

    def _query(self, call: Call, identifier: str) -> Query:
        found = self._insights.find(call.account, call.region, identifier)
        if found is None:
            raise AWSError("ResourceNotFoundException", "The specified query does not exist.", status=400)
        return found


def _no_definition() -> AWSError:
    return AWSError("ResourceNotFoundException", "The specified query definition does not exist.", status=400)


def _malformed(error: InvalidQuery) -> AWSError:
    return AWSError(
        "MalformedQueryException",
        str(error),
        status=400,
        queryCompileError={
            "location": {"startCharOffset": error.start, "endCharOffset": max(error.start, error.end)},
            "message": str(error),
        },
    )


def _asked_groups(call: Call, input: Input) -> list[GroupKey]:
    given = [
        name
        for name in ("logGroupName", "logGroupNames", "logGroupIdentifiers")
        if input.get(name) is not None
    ]
    if len(given) != 1:
        raise invalid("Exactly one of logGroupName, logGroupNames and logGroupIdentifiers must be given.")
    if given[0] == "logGroupName":
        return [GroupKey(call.account, call.region, input["logGroupName"])]
    names = input[given[0]]
    if not 1 <= len(names) <= _MOST_GROUPS:
        raise invalid(f"{given[0]}: 1 to {_MOST_GROUPS} log groups can be queried; {len(names)} were given.")
    keys = [identified_group(call, name) for name in names]
    return list(dict.fromkeys(keys))


def _milliseconds(moment: int) -> int:
    return moment if moment > _MILLISECONDS_FROM else moment * 1000


def _properties(message: str) -> dict[str, Any]:
    """The properties of the JSON in a message, those of objects within by their path (`a.b`)."""
    begin = message.find("{")
    if begin < 0:
        return {}
    try:
        document = msgspec.json.decode(message[begin:])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}
    found: dict[str, Any] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict) and len(found) < 200:
            for name, inner in value.items():
                walk(inner, f"{path}.{name}" if path else str(name))
        elif path:
            found[path] = value

    walk(document, "")
    return found


def _described(query: Query) -> Output:
    return {
        "queryLanguage": "CWLI",
        "queryId": query.id,
        "queryString": query.text,
        "status": query.status,
        "createTime": query.began_ms,
        "logGroupName": query.groups[0].key.name if query.groups else "",
        "queryDuration": int(query.seconds * 1000),
        "bytesScanned": float(query.bytes),
    }
