"""Where the results of asynchronous invocations go: destinations and dead-letter queues.

See "Retaining records of asynchronous invocations" in the Developer Guide.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from lambay.aws import Arn, AWSError, Neighbours
from lambay.clock import Clock
from lambay.functions.destinations import lacking
from lambay.functions.names import FunctionName
from lambay.functions.ports import Access, Activity, Uncounted
from lambay.functions.records import LATEST, EventInvoke
from lambay.functions.rendering import iso_timestamp
from lambay.functions.resources import Resources
from lambay.runtime import Outcome

_log = logging.getLogger(__name__)

_ERROR_MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """An event whose processing is over. `condition` is `Success`, or why it was given up."""

    name: FunctionName
    request_id: str
    event: bytes
    condition: str
    invocations: int
    outcome: Outcome | None
    version: str | None

    @property
    def succeeded(self) -> bool:
        return self.condition == "Success"


class Delivery:
    """Sends through the neighbours. A refusal is logged and, as in Lambda, not tried again."""

    def __init__(
        self,
        resources: Resources,
        neighbours: Neighbours,
        clock: Clock,
        access: Access,
        activity: Activity | None = None,
    ) -> None:
        self._activity = activity or Uncounted()
        self._resources = resources
        self._neighbours = neighbours
        self._clock = clock
        self._access = access

    def request_id(self) -> str:
        """For an invocation that nobody's request began."""
        return str(uuid.uuid4())

    def destinations(self, ended: Ended, settings: EventInvoke | None) -> list[tuple[str, Any]]:
        """The target ARNs, each with what it gets: the invocation record, or for a dead-letter queue None."""
        targets: list[tuple[str, Any]] = []
        if settings is not None and (arn := settings.on_success if ended.succeeded else settings.on_failure):
            targets.append((arn, self._record(ended)))
        version = self._resources.versions.get(f"{ended.name.key}/{ended.version or LATEST}")
        if not ended.succeeded and version is not None and version.configuration.dead_letter_arn:
            targets.append((version.configuration.dead_letter_arn, None))
        return targets

    async def permitted(self, ended: Ended, target: str, record: Any) -> bool:
        """Whether the function's role may send there, as it is now; what may not is not delivered, and logged."""
        version = self._resources.versions.get(f"{ended.name.key}/{ended.version or LATEST}")
        role = "" if version is None else version.configuration.role
        reason = role and await lacking(self._access, role, Arn.parse(target), ended.name.region)
        if reason:
            self._undelivered(ended, target, record, reason)
        return not reason

    def _undelivered(self, ended: Ended, target: str, record: Any, reason: object) -> None:
        self._activity.undelivered(ended.name, dead_letter=record is None)
        _log.error(
            "event %s of %s: %s refused its result: %s", ended.request_id, ended.name.arn, target, reason
        )

    async def send(self, ended: Ended, target: str, record: Any) -> None:
        """Give the record, or the event itself where it is None, to a queue, topic, event bus or bucket."""
        if not await self.permitted(ended, target, record):
            return
        try:
            arn = Arn.parse(target)
            body = ended.event.decode() if record is None else msgspec.json.encode(record).decode()
            attributes = _dead_letter_attributes(ended) if record is None else {}
            await self._send(arn, body, attributes, ended)
        except (AWSError, ValueError) as error:
            self._undelivered(ended, target, record, error)

    async def _send(self, arn: Arn, body: str, attributes: dict[str, Any], ended: Ended) -> None:
        async def call(operation: str, input: dict[str, Any]) -> dict[str, Any]:
            # A bucket's ARN has neither account nor Region.
            account, region = arn.account or ended.name.account, arn.region or ended.name.region
            return await self._neighbours.call(arn.service, operation, input, account=account, region=region)

        match arn.service:
            case "sqs":
                wanted = {"QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account}
                found = await call("GetQueueUrl", wanted)
                message = {
                    "QueueUrl": found["QueueUrl"],
                    "MessageBody": body,
                    "MessageAttributes": attributes,
                }
                await call("SendMessage", message)
            case "sns":
                message = {"TopicArn": str(arn), "Message": body, "MessageAttributes": attributes}
                await call("Publish", message)
            case "events":
                result = "Success" if ended.succeeded else "Failure"
                entry = {
                    "Source": "lambda",
                    "DetailType": f"Lambda Function Invocation Result - {result}",
                    "Detail": body,
                    "EventBusName": arn.resource.removeprefix("event-bus/"),
                    "Resources": [_qualified(ended.name)],
                }
                await call("PutEvents", {"Entries": [entry]})
            case "s3":
                now = self._clock.now()
                key = f"aws/lambda/async/{ended.name.name}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
                await call("PutObject", {"Bucket": arn.resource, "Key": key, "Body": body.encode()})
            case _:
                raise ValueError(f"{arn} is not a destination")

    def _record(self, ended: Ended) -> dict[str, Any]:
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": iso_timestamp(self._clock.now()),
            "requestContext": {
                "requestId": ended.request_id,
                "functionArn": _qualified(ended.name),
                "condition": ended.condition,
                "approximateInvokeCount": ended.invocations,
            },
            "requestPayload": msgspec.Raw(ended.event),
        }
        if ended.outcome is not None:
            context: dict[str, Any] = {"statusCode": 200, "executedVersion": ended.version or LATEST}
            if ended.outcome.error is not None:
                context["functionError"] = ended.outcome.error
            record["responseContext"] = context
            record["responsePayload"] = msgspec.Raw(ended.outcome.payload or b"null")
        return record


def _qualified(name: FunctionName) -> str:
    return name.qualified(name.qualifier or LATEST)


def _dead_letter_attributes(ended: Ended) -> dict[str, Any]:
    """RequestID, ErrorCode and ErrorMessage of a dead-letter message."""
    message = ended.condition
    if ended.outcome is not None:
        try:
            message = str(msgspec.json.decode(ended.outcome.payload).get("errorMessage", message))
        except (msgspec.DecodeError, AttributeError):
            message = ended.outcome.payload.decode(errors="replace")
    return {
        "RequestID": {"DataType": "String", "StringValue": ended.request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": "200" if ended.outcome is not None else "429"},
        "ErrorMessage": {
            "DataType": "String",
            "StringValue": message[:_ERROR_MESSAGE_LIMIT] or ended.condition,
        },
    }
