"""Kinesis and DynamoDB streams as event source mappings read them: shards, records after a sequence number.

Both are the neighbours'; a record keeps its service's own form until it is rendered for the function. See "Process
records from Amazon Kinesis Data Streams with Lambda" and "Process DynamoDB records with Lambda".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambay.aws import Arn, AWSError, Neighbours
from lambay.functions.errors import invalid

_READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """One with a `parent` came of it; one that is `closed` gets no more records."""

    id: str
    parent: str = ""
    closed: bool = False


class Stream:
    """A stream by its ARN. Errors of the neighbours come as AWSErrors."""

    def __init__(self, arn: str, neighbours: Neighbours) -> None:
        self.arn = arn
        self._parsed = Arn.parse(arn)
        self._neighbours = neighbours
        self.is_kinesis = self._parsed.service == "kinesis"

    @property
    def region(self) -> str:
        return self._parsed.region

    async def check(self) -> None:
        """Raises InvalidParameterValueException where there is no such stream."""
        try:
            await self.shards()
        except AWSError as error:
            if error.code in ("ResourceNotFoundException", "InternalFailure"):
                raise invalid(f"Stream not found: {self.arn}") from None
            raise

    async def shards(self) -> list[Shard]:
        if self.is_kinesis:
            name = self._parsed.resource.removeprefix("stream/")
            described = await self._call("kinesis", "ListShards", {"StreamName": name})
            found = described.get("Shards", [])
        else:
            described = await self._call("dynamodbstreams", "DescribeStream", {"StreamArn": self.arn})
            found = described["StreamDescription"].get("Shards", [])
        return [
            Shard(
                shard["ShardId"],
                shard.get("ParentShardId") or "",
                bool((shard.get("SequenceNumberRange") or {}).get("EndingSequenceNumber")),
            )
            for shard in found
        ]

    async def is_closed(self, shard: str) -> bool:
        """Whether no more records come to a shard, or it is gone."""
        return all(known.closed for known in await self.shards() if known.id == shard)

    async def read(
        self, shard: str, after: str, most: int, *, since: datetime | None = None
    ) -> list[dict[str, Any]]:
        """At most `most` records after the sequence number `after`; empty: from the shard's beginning or `since`."""
        wanted: dict[str, Any] = {"ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        if after:
            wanted |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER"}
            wanted["StartingSequenceNumber" if self.is_kinesis else "SequenceNumber"] = after
        elif since is not None and self.is_kinesis:
            wanted |= {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": since}
        service = "kinesis" if self.is_kinesis else "dynamodbstreams"
        if self.is_kinesis:
            wanted["StreamName"] = self._parsed.resource.removeprefix("stream/")
        else:
            wanted["StreamArn"] = self.arn
        iterator = (await self._call(service, "GetShardIterator", wanted))["ShardIterator"]
        wanted = {"ShardIterator": iterator, "Limit": min(most, _READ_AT_ONCE)}
        found: list[dict[str, Any]] = (await self._call(service, "GetRecords", wanted)).get("Records", [])
        return found

    async def end(self, shard: str) -> str:
        """The sequence number of the newest record, empty for none."""
        after = ""
        while items := await self.read(shard, after, _READ_AT_ONCE):
            after = self.number(items[-1])
        return after

    def number(self, item: dict[str, Any]) -> str:
        return str(item["SequenceNumber"] if self.is_kinesis else item["dynamodb"]["SequenceNumber"])

    def partition(self, item: dict[str, Any]) -> str:
        """What keeps records in order among themselves."""
        if self.is_kinesis:
            return str(item["PartitionKey"])
        return json.dumps(_plain(item["dynamodb"]["Keys"]), sort_keys=True)

    def arrived(self, item: dict[str, Any]) -> datetime:
        member = "ApproximateArrivalTimestamp" if self.is_kinesis else "ApproximateCreationDateTime"
        found: datetime = item[member] if self.is_kinesis else item["dynamodb"][member]
        return found

    def event_record(self, item: dict[str, Any], shard: str, role: str) -> dict[str, Any]:
        """The record as the function gets it."""
        if not self.is_kinesis:
            change = _plain(item["dynamodb"])
            change["ApproximateCreationDateTime"] = self.arrived(item).timestamp()
            return {
                "eventID": item["eventID"],
                "eventName": item["eventName"],
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": self.region,
                "dynamodb": change,
                "eventSourceARN": self.arn,
            }
        number = self.number(item)
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": item["PartitionKey"],
                "sequenceNumber": number,
                "data": base64.b64encode(item["Data"]).decode(),
                "approximateArrivalTimestamp": self.arrived(item).timestamp(),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{number}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role,
            "awsRegion": self.region,
            "eventSourceARN": self.arn,
        }

    def filtered_form(self, item: dict[str, Any], shard: str) -> dict[str, Any]:
        """What filter patterns are matched with: Kinesis's `data` is decoded for it."""
        record = self.event_record(item, shard, "")
        if not self.is_kinesis:
            return record
        try:
            data = json.loads(item["Data"])
        except ValueError:
            data = item["Data"].decode(errors="replace")
        return {**record["kinesis"], "data": data}

    async def _call(self, service: str, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        return await self._neighbours.call(
            service, operation, input, account=self._parsed.account, region=self._parsed.region
        )


def _plain(value: Any) -> Any:
    """Attribute values as JSON has them: binary ones in base64."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.timestamp() if isinstance(value, datetime) else value
