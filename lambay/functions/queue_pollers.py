"""Event source mappings at work: batches from an SQS queue to a function.

A queue is long-polled through the neighbour, which waits without holding anything. Messages of a batch that
succeeded are deleted; the others come back when their visibility timeout ends. See "Using Lambda with Amazon
SQS" in the Developer Guide.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import uuid
from typing import Any

import msgspec

from lambay.aws import Arn, AWSError, Neighbours
from lambay.clock import Clock
from lambay.functions import lineage
from lambay.functions.event_filter import matches, parse_pattern
from lambay.functions.invoking import Invoker
from lambay.functions.names import FunctionName
from lambay.functions.records import EventSourceMapping
from lambay.functions.resources import Resources
from lambay.runtime import Invocation, Outcome

_log = logging.getLogger(__name__)

_LONGEST_POLL_S = 20
_MOST_RECEIVED = 10
_CONCURRENCY = 5
_AFTER_FAILURE_S = 5
_BATCH_BYTES = 6 * 1024 * 1024


class QueuePoller:
    """One mapping of a queue."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        resources: Resources,
        invoker: Invoker,
        neighbours: Neighbours,
        clock: Clock,
    ) -> None:
        self._mapping = mapping
        self._resources = resources
        self._invoker = invoker
        self._neighbours = neighbours
        self._clock = clock
        self._arn = Arn.parse(mapping.source_arn)
        self._patterns = [parse_pattern(text) for text in mapping.patterns]
        # A FIFO queue's groups keep their order when one batch is at work at a time.
        most = 1 if self._arn.resource.endswith(".fifo") else mapping.maximum_concurrency or _CONCURRENCY
        self._room = asyncio.Semaphore(most)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as batches:
            while True:
                await self._room.acquire()
                try:
                    messages = await self._batch()
                except AWSError as error:
                    _log.warning("mapping %s: %s", self._mapping.uuid, error)
                    await self._clock.sleep(_AFTER_FAILURE_S)
                    self._room.release()
                    continue
                batches.create_task(self._work(messages))

    async def _work(self, messages: list[dict[str, Any]]) -> None:
        try:
            await self._handle(messages)
        except AWSError as error:
            _log.warning("mapping %s: %s", self._mapping.uuid, error)
            await self._clock.sleep(_AFTER_FAILURE_S)
        except Exception:
            # One batch's fault is no reason to end the others: its messages come back.
            _log.exception("mapping %s: a batch failed", self._mapping.uuid)
        finally:
            self._room.release()

    async def _batch(self) -> list[dict[str, Any]]:
        """Messages up to the batch size, or as many as came within the window after the first."""
        messages: list[dict[str, Any]] = []
        deadline = 0.0
        while len(messages) < self._mapping.batch_size:
            wait = float(_LONGEST_POLL_S)
            if messages:
                wait = min(wait, deadline - self._clock.time())
                if wait < 0 or not self._mapping.window_s:
                    break
            received = await self._receive(self._mapping.batch_size - len(messages), int(wait))
            if received and not messages:
                deadline = self._clock.time() + self._mapping.window_s
            messages += received
        return messages

    async def _receive(self, most: int, wait_s: int) -> list[dict[str, Any]]:
        received = await self._sqs(
            "ReceiveMessage",
            {
                "QueueUrl": await self._queue_url(),
                "MaxNumberOfMessages": min(most, _MOST_RECEIVED),
                "WaitTimeSeconds": wait_s,
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            },
        )
        messages: list[dict[str, Any]] = received.get("Messages", [])
        return messages

    async def _handle(self, messages: list[dict[str, Any]]) -> None:
        """Invoke with the messages that pass the filters; those that don't are deleted unseen."""
        passed = [message for message in messages if self._passes(message)]
        dropped = [message for message in messages if message not in passed]
        await self._delete(dropped)
        for batch in _within_payload(passed):
            event = {"Records": [self._record(message) for message in batch]}
            invocation = Invocation(
                request_id=str(uuid.uuid4()),
                event=msgspec.json.encode(event),
                invoked_arn=self._function.given_arn,
                trace_id=_trace(batch, self._function.arn),
            )
            target = await self._invoker.target_of(self._function)
            invoked = await self._invoker.run(target, invocation)
            await self._delete(self._succeeded(batch, invoked.outcome))

    @property
    def _function(self) -> FunctionName:
        mapping = self._mapping
        return FunctionName(mapping.account, mapping.region, mapping.function, mapping.qualifier or None)

    def _passes(self, message: dict[str, Any]) -> bool:
        if not self._patterns:
            return True
        record = self._record(message)
        try:
            body = json.loads(message["Body"])
        except ValueError:
            body = message["Body"]
        return any(matches(pattern, {**record, "body": body}) for pattern in self._patterns)

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._mapping.source_arn,
            "awsRegion": self._arn.region,
        }
        if "MD5OfMessageAttributes" in message:
            record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        return record

    def _succeeded(self, batch: list[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
        """The messages that are done with, by the outcome and, where asked for, by what it reports."""
        if outcome.error is not None:
            return []
        if not self._mapping.report_failures:
            return batch
        try:
            answer = msgspec.json.decode(outcome.payload)
        except msgspec.DecodeError:
            return []
        failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        if not failures:
            return batch
        known = {message["MessageId"] for message in batch}
        failed = {item.get("itemIdentifier") for item in failures if isinstance(item, dict)}
        # An answer that names nothing of the batch counts as a failure of all of it.
        if not failed or not failed <= known:
            return []
        return [message for message in batch if message["MessageId"] not in failed]

    async def _delete(self, messages: list[dict[str, Any]]) -> None:
        for start in range(0, len(messages), _MOST_RECEIVED):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[start : start + _MOST_RECEIVED])
            ]
            await self._sqs("DeleteMessageBatch", {"QueueUrl": await self._queue_url(), "Entries": entries})

    async def _queue_url(self) -> str:
        wanted = {"QueueName": self._arn.resource, "QueueOwnerAWSAccountId": self._arn.account}
        found = await self._sqs("GetQueueUrl", wanted)
        return str(found["QueueUrl"])

    async def _sqs(self, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        return await self._neighbours.call(
            "sqs", operation, input, account=self._arn.account, region=self._arn.region
        )


def _within_payload(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The messages in batches that fit an invocation's payload."""
    batches: list[list[dict[str, Any]]] = []
    room = 0
    for message in messages:
        size = len(message["Body"].encode()) + 4096
        if not batches or size > room:
            batches.append([])
            room = _BATCH_BYTES
        batches[-1].append(message)
        room -= size
    return batches


def _trace(batch: list[dict[str, Any]], function_arn: str) -> str | None:
    """A batch has one chain of requests: the longest of its messages'."""
    traces = (message.get("Attributes", {}).get("AWSTraceHeader") for message in batch)
    return lineage.longest((trace for trace in traces if trace), function_arn)


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        shown["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shown["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return shown
