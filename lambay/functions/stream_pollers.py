"""Event source mappings at work: batches from the shards of a stream, in order, until each has been dealt with.

A batch that fails is tried again, halved where that was asked for, until its attempts or its age are used up; then its
whereabouts go to the on-failure destination. How far a shard has been read is written down after each batch, so that a
restart repeats a batch rather than losing one.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from lambay.aws import AWSError, Neighbours
from lambay.clock import Clock
from lambay.functions.delivery import Delivery, Ended
from lambay.functions.event_filter import matches, parse_pattern
from lambay.functions.invoking import Invoker
from lambay.functions.names import FunctionName
from lambay.functions.records import Checkpoint, EventSourceMapping
from lambay.functions.rendering import iso_timestamp
from lambay.functions.resources import Resources
from lambay.functions.stream_reading import Stream
from lambay.runtime import Invocation, Outcome

_log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH_BYTES = 6 * 1024 * 1024
_FIRST_BACKOFF_S = 1
_LONGEST_BACKOFF_S = 60
_AFTER_FAILURE_S = 5


class StreamPoller:
    """One mapping. `changed` is set whenever the stream's service has changed."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        resources: Resources,
        invoker: Invoker,
        neighbours: Neighbours,
        delivery: Delivery,
        clock: Clock,
    ) -> None:
        self._mapping = mapping
        self._resources = resources
        self._invoker = invoker
        self._delivery = delivery
        self._clock = clock
        self._stream = Stream(mapping.source_arn, neighbours)
        self._patterns = [parse_pattern(text) for text in mapping.patterns]
        self._name = FunctionName(
            mapping.account, mapping.region, mapping.function, mapping.qualifier or None
        )
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The stream's service has changed: there may be records."""
        earlier, self._changed = self._changed, asyncio.Event()
        earlier.set()

    async def prepare(self) -> None:
        """Settle where each shard is read from, before anybody is told that the mapping is there."""
        if self._mapping.starting_position != "LATEST":
            return
        for shard in await self._stream.shards():
            if self._checkpoint(shard.id) is None:
                await self._note(shard.id, await self._stream.end(shard.id))

    async def run(self) -> None:
        """Read every shard, a parent's to its end before its children's."""
        await self.prepare()
        reading: dict[str, asyncio.Task[None]] = {}
        done: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                changed = self._changed
                shards = await self._patiently(self._stream.shards)
                known = {shard.id for shard in shards}
                for shard in shards:
                    waits = shard.parent in known and shard.parent not in done
                    if shard.id not in reading and not waits:
                        reading[shard.id] = group.create_task(self._shard(shard.id))
                pending = [task for key, task in reading.items() if key not in done]
                if pending:
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await changed.wait()
                done |= {key for key, task in reading.items() if task.done()}

    async def _shard(self, shard: str) -> None:
        checkpoint = self._checkpoint(shard)
        after = checkpoint.after if checkpoint is not None else ""
        since = self._mapping.starting_timestamp
        while True:
            changed = self._changed
            most = self._mapping.batch_size * self._mapping.parallelization
            records = await self._patiently(partial(self._stream.read, shard, after, most, since=since))
            if not records:
                if await self._patiently(partial(self._stream.is_closed, shard)):
                    return
                await changed.wait()
                continue
            if len(records) < self._mapping.batch_size and self._mapping.window_s:
                records = await self._gathered(shard, after, most)
            try:
                await self._work(shard, records)
            except Exception:
                # A fault of ours is no reason to go on without these records.
                _log.exception("mapping %s: a batch of %s failed", self._mapping.uuid, shard)
                await self._clock.sleep(_AFTER_FAILURE_S)
                continue
            after = self._stream.number(records[-1])
            await self._note(shard, after)

    async def _gathered(self, shard: str, after: str, most: int) -> list[dict[str, Any]]:
        """What has come by the end of the batching window, or as soon as a batch is full."""
        deadline = self._clock.time() + self._mapping.window_s
        while True:
            changed = self._changed
            records = await self._patiently(partial(self._stream.read, shard, after, most))
            left = deadline - self._clock.time()
            if len(records) >= self._mapping.batch_size or left <= 0:
                return records
            waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._clock.sleep(left))]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _work(self, shard: str, items: list[dict[str, Any]]) -> None:
        """Batches of one partition in order; several partitions at once where that was asked for."""
        passing = [item for item in items if self._passes(item, shard)]
        lanes: dict[int, list[dict[str, Any]]] = {}
        for item in passing:
            lane = zlib.crc32(self._stream.partition(item).encode()) % self._mapping.parallelization
            lanes.setdefault(lane, []).append(item)
        async with asyncio.TaskGroup() as group:
            for records in lanes.values():
                group.create_task(self._lane(shard, records))

    async def _lane(self, shard: str, items: list[dict[str, Any]]) -> None:
        size = self._mapping.batch_size
        for start in range(0, len(items), size):
            for batch in self._within_payload(shard, items[start : start + size]):
                await self._batch(shard, batch, attempts=0)

    async def _batch(self, shard: str, batch: list[dict[str, Any]], attempts: int) -> None:
        """Until the batch has succeeded or been given up."""
        refusals = 0
        while batch:
            limit = self._mapping.maximum_age
            if limit > 0:
                oldest = self._clock.time() - self._stream.arrived(batch[0]).timestamp()
                if oldest > limit:
                    await self._give_up(shard, batch, "RecordAgeExceeded", attempts, None)
                    return
            request_id = str(uuid.uuid4())
            try:
                outcome, version = await self._invoke(shard, batch, request_id)
            except AWSError as error:
                # Throttled or not ready: that counts as no attempt of the function's.
                _log.info("mapping %s: %s", self._mapping.uuid, error)
                await self._clock.sleep(min(_FIRST_BACKOFF_S * 2**refusals, _LONGEST_BACKOFF_S))
                refusals += 1
                continue
            refusals = 0
            left = self._left(batch, outcome)
            if not left:
                return
            attempts += 1
            batch = left
            if 0 <= self._mapping.maximum_retries < attempts:
                await self._give_up(shard, batch, "RetryAttemptsExhausted", attempts, (outcome, version))
                return
            if self._mapping.bisect and len(batch) > 1:
                half = len(batch) // 2
                await self._batch(shard, batch[:half], attempts)
                await self._batch(shard, batch[half:], attempts)
                return
            await self._clock.sleep(min(_FIRST_BACKOFF_S * 2 ** (attempts - 1), _LONGEST_BACKOFF_S))

    async def _invoke(self, shard: str, batch: list[dict[str, Any]], request_id: str) -> tuple[Outcome, str]:
        target = await self._invoker.target_of(self._name)
        role = target.first.version.configuration.role
        event = {"Records": [self._stream.event_record(item, shard, role) for item in batch]}
        invocation = Invocation(
            request_id=request_id, event=msgspec.json.encode(event), invoked_arn=self._name.given_arn
        )
        invoked = await self._invoker.run(target, invocation)
        return invoked.outcome, invoked.version

    def _left(self, batch: list[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
        """The records that have to be tried again: all, or those from the first that is reported on."""
        if outcome.error is not None:
            return batch
        if not self._mapping.report_failures:
            return []
        try:
            answer = msgspec.json.decode(outcome.payload)
        except msgspec.DecodeError:
            return batch
        failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        if not failures:
            return []
        failed = {str(item.get("itemIdentifier")) for item in failures if isinstance(item, dict)}
        numbers = [self._stream.number(item) for item in batch]
        if not failed or not failed <= set(numbers):
            return batch
        return batch[min(numbers.index(number) for number in failed) :]

    async def _give_up(
        self,
        shard: str,
        batch: list[dict[str, Any]],
        condition: str,
        attempts: int,
        last: tuple[Outcome, str] | None,
    ) -> None:
        """Tell the on-failure destination which records were not processed."""
        _log.warning("mapping %s: %d records of %s: %s", self._mapping.uuid, len(batch), shard, condition)
        if not self._mapping.on_failure:
            return
        request_id = str(uuid.uuid4())
        record: dict[str, Any] = {
            "requestContext": {
                "requestId": request_id,
                "functionArn": self._name.given_arn,
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "version": "1.0",
            "timestamp": iso_timestamp(self._clock.now()),
            "KinesisBatchInfo" if self._stream.is_kinesis else "DDBStreamBatchInfo": {
                "shardId": shard,
                "startSequenceNumber": self._stream.number(batch[0]),
                "endSequenceNumber": self._stream.number(batch[-1]),
                "approximateArrivalOfFirstRecord": iso_timestamp(self._stream.arrived(batch[0])),
                "approximateArrivalOfLastRecord": iso_timestamp(self._stream.arrived(batch[-1])),
                "batchSize": len(batch),
                "streamArn": self._stream.arn,
            },
        }
        if last is not None:
            outcome, version = last
            context: dict[str, Any] = {"statusCode": 200, "executedVersion": version}
            if outcome.error is not None:
                context["functionError"] = outcome.error
            record["responseContext"] = context
        outcome_of = last[0] if last is not None else None
        ended = Ended(
            name=self._name,
            request_id=request_id,
            event=b"{}",
            condition=condition,
            invocations=attempts,
            outcome=outcome_of,
            version=last[1] if last is not None else None,
        )
        await self._delivery.send(ended, self._mapping.on_failure, record)

    def _passes(self, item: dict[str, Any], shard: str) -> bool:
        if not self._patterns:
            return True
        form = self._stream.filtered_form(item, shard)
        return any(matches(pattern, form) for pattern in self._patterns)

    def _within_payload(self, shard: str, items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        batches: list[list[dict[str, Any]]] = []
        room = 0
        for item in items:
            size = len(msgspec.json.encode(self._stream.event_record(item, shard, ""))) + 256
            if not batches or size > room:
                batches.append([])
                room = _BATCH_BYTES
            batches[-1].append(item)
            room -= size
        return batches

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, as soon as the stream's service answers."""
        while True:
            try:
                return await ask()
            except AWSError as error:
                _log.warning("mapping %s: %s", self._mapping.uuid, error)
                await self._clock.sleep(_AFTER_FAILURE_S)

    def _checkpoint(self, shard: str) -> Checkpoint | None:
        return self._resources.checkpoints.get(f"{self._mapping.key}/{shard}")

    async def _note(self, shard: str, after: str) -> None:
        kept = self._resources.checkpoints.put(f"{self._mapping.key}/{shard}", Checkpoint(after))
        await self._resources.commit(kept)
