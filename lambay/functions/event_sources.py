"""Event source mappings: SQS queues that a function is invoked with."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from lambay.aws import Arn, AWSError, Call, arn
from lambay.functions.errors import conflict, invalid, missing
from lambay.functions.event_filter import parse_pattern
from lambay.functions.names import FunctionName, parse
from lambay.functions.pagination import page, paged
from lambay.functions.queue_pollers import QueuePollers
from lambay.functions.records import LATEST, EventSourceMapping
from lambay.functions.room import Operations
from lambay.functions.tags import check_tags

_BATCH_SIZE = 10
_STANDARD_MOST = 10_000
_FIFO_MOST = 10
_MOST_FILTERS = 5

# For streams and brokers; a queue has none of it.
_NOT_FOR_QUEUES = (
    "AmazonManagedKafkaEventSourceConfig",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "DocumentDBEventSourceConfig",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "ProvisionedPollerConfig",
    "Queues",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "StartingPosition",
    "Topics",
    "TumblingWindowInSeconds",
)


class EventSourceOperations(Operations):
    """See "Creating and configuring an Amazon SQS event source mapping" in the Developer Guide."""

    _pollers: QueuePollers

    async def create_event_source_mapping(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        source = _queue(input)
        name = self._invoked_function(call, input["FunctionName"])
        async with self._resources.exclusive("event source mappings"):
            for known in self._resources.event_sources.under(f"{call.account}/{call.region}/"):
                if known.source_arn == str(source) and known.function == name.name:
                    raise conflict(
                        f'An event source mapping with SQS arn (" {source} ") and function (" {name.name} ") '
                        f"already exists. Please update or delete the existing mapping with UUID {known.uuid}"
                    )
            mapping = EventSourceMapping(
                account=call.account,
                region=call.region,
                uuid=str(uuid.uuid4()),
                function=name.name,
                qualifier=name.qualifier or "",
                source_arn=str(source),
                last_modified=self._room.clock.now(),
                enabled=input.get("Enabled", True),
                tags=check_tags({}, input.get("Tags") or {}),
            )
            mapping = self._with_settings(mapping, input, source)
            await self._check_queue(mapping, source)
            await self._resources.commit(self._resources.event_sources.put(mapping.key, mapping))
        if mapping.enabled:
            self._pollers.start(mapping)
        return _shown(mapping, "Creating")

    async def get_event_source_mapping(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return _shown(self._mapping(call, input["UUID"]))

    async def list_event_source_mappings(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        found = self._resources.event_sources.under(f"{call.account}/{call.region}/")
        if input.get("FunctionName"):
            name = parse(input["FunctionName"], call)
            wanted = (name.name, name.qualifier or "")
            found = [mapping for mapping in found if (mapping.function, mapping.qualifier) == wanted]
        if input.get("EventSourceArn"):
            found = [mapping for mapping in found if mapping.source_arn == input["EventSourceArn"]]
        taken, marker = page(found, input, key=lambda mapping: mapping.uuid)
        return paged("EventSourceMappings", [_shown(mapping) for mapping in taken], marker)

    async def update_event_source_mapping(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        async with self._resources.exclusive("event source mappings"):
            mapping = self._mapping(call, input["UUID"])
            source = Arn.parse(mapping.source_arn)
            changes: dict[str, Any] = {"last_modified": self._room.clock.now()}
            if input.get("FunctionName"):
                name = self._invoked_function(call, input["FunctionName"])
                changes |= {"function": name.name, "qualifier": name.qualifier or ""}
            if input.get("Enabled") is not None:
                changes["enabled"] = input["Enabled"]
            changed = self._with_settings(msgspec.structs.replace(mapping, **changes), input, source)
            await self._check_queue(changed, source)
            await self._resources.commit(self._resources.event_sources.put(changed.key, changed))
            await self._pollers.stop(changed.key)
            if changed.enabled:
                self._pollers.start(changed)
        state = "Updating"
        if changed.enabled != mapping.enabled:
            state = "Enabling" if changed.enabled else "Disabling"
        return _shown(changed, state)

    async def delete_event_source_mapping(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        async with self._resources.exclusive("event source mappings"):
            mapping = self._mapping(call, input["UUID"])
            await self._resources.commit(self._resources.event_sources.remove(mapping.key))
            await self._pollers.stop(mapping.key)
        return _shown(mapping, "Deleting")

    def _mapping(self, call: Call, number: str) -> EventSourceMapping:
        found = self._resources.event_sources.get(f"{call.account}/{call.region}/{number}")
        if found is None:
            raise missing("The resource you requested does not exist.")
        return found

    def _invoked_function(self, call: Call, text: str) -> FunctionName:
        name = parse(text, call)
        key = f"{name.key}/{name.qualifier or LATEST}"
        if key not in self._resources.versions and key not in self._resources.aliases:
            raise invalid("Function does not exist")
        return name

    def _with_settings(
        self, mapping: EventSourceMapping, input: dict[str, Any], source: Arn
    ) -> EventSourceMapping:
        """The mapping with what `input` gives. Raises InvalidParameterValueException."""
        for parameter in _NOT_FOR_QUEUES:
            if input.get(parameter) not in (None, [], {}, ""):
                raise invalid(f"Unsupported {parameter} parameter for given event source mapping type.")
        changes: dict[str, Any] = {}
        if input.get("BatchSize") is not None:
            changes["batch_size"] = input["BatchSize"]
        if input.get("MaximumBatchingWindowInSeconds") is not None:
            changes["window_s"] = input["MaximumBatchingWindowInSeconds"]
        if input.get("FunctionResponseTypes") is not None:
            changes["report_failures"] = "ReportBatchItemFailures" in input["FunctionResponseTypes"]
        if input.get("ScalingConfig") is not None:
            changes["maximum_concurrency"] = input["ScalingConfig"].get("MaximumConcurrency")
        if input.get("FilterCriteria") is not None:
            changes["patterns"] = _patterns(input["FilterCriteria"].get("Filters") or [])
        changed = msgspec.structs.replace(mapping, **changes)
        fifo = source.resource.endswith(".fifo")
        if changed.batch_size > (_FIFO_MOST if fifo else _STANDARD_MOST):
            raise invalid(f"BatchSize: {changed.batch_size} is more than a FIFO queue's {_FIFO_MOST}.")
        if fifo and changed.window_s:
            raise invalid("Batching window is not supported for FIFO queues")
        if changed.batch_size > _BATCH_SIZE and not changed.window_s:
            raise invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater "
                "than 10"
            )
        return changed

    async def _check_queue(self, mapping: EventSourceMapping, source: Arn) -> None:
        """The queue exists, and hides messages as long as the function may run."""

        async def ask(operation: str, input: dict[str, Any]) -> dict[str, Any]:
            neighbours = self._room.neighbours
            return await neighbours.call(
                "sqs", operation, input, account=source.account, region=source.region
            )

        try:
            wanted = {"QueueName": source.resource, "QueueOwnerAWSAccountId": source.account}
            url = (await ask("GetQueueUrl", wanted))["QueueUrl"]
            asked = {"QueueUrl": url, "AttributeNames": ["VisibilityTimeout"]}
            attributes = (await ask("GetQueueAttributes", asked))["Attributes"]
        except AWSError as error:
            raise invalid(
                f"Error occurred while ReceiveMessage. SQS Error Code: {error.code}. "
                f"SQS Error Message: {error.message}"
            ) from None
        hidden = int(attributes["VisibilityTimeout"])
        name = FunctionName(mapping.account, mapping.region, mapping.function, mapping.qualifier or None)
        timeout = self._resources.version(name).configuration.timeout
        if hidden < timeout:
            raise invalid(
                f"Queue visibility timeout: {hidden} seconds is less than Function timeout: {timeout} seconds"
            )


def _queue(input: dict[str, Any]) -> Arn:
    """The queue's ARN. Raises InvalidParameterValueException for what is not an SQS queue's."""
    given = input.get("EventSourceArn")
    if not given:
        raise invalid("Unrecognized event source.")
    source = Arn.parse(given)
    if source.service != "sqs":
        raise invalid(
            f"EventSourceArn: {given} is not an Amazon SQS queue; Lambay invokes functions from SQS queues "
            "only."
        )
    return source


def _patterns(filters: list[dict[str, Any]]) -> tuple[str, ...]:
    if len(filters) > _MOST_FILTERS:
        raise invalid(
            f"FilterCriteria: {len(filters)} filters are given, at most {_MOST_FILTERS} are allowed."
        )
    texts = tuple(str(entry.get("Pattern") or "") for entry in filters)
    for text in texts:
        try:
            parse_pattern(text)
        except ValueError:
            raise invalid("Invalid filter pattern definition.") from None
    return texts


def mapping_arn(mapping: EventSourceMapping) -> str:
    return arn("lambda", mapping.region, mapping.account, f"event-source-mapping:{mapping.uuid}")


def _shown(mapping: EventSourceMapping, state: str = "") -> dict[str, Any]:
    name = FunctionName(mapping.account, mapping.region, mapping.function, mapping.qualifier or None)
    shown: dict[str, Any] = {
        "UUID": mapping.uuid,
        "EventSourceMappingArn": mapping_arn(mapping),
        "EventSourceArn": mapping.source_arn,
        "FunctionArn": name.given_arn,
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": mapping.window_s,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if mapping.report_failures else [],
        "LastModified": mapping.last_modified,
        "State": state or ("Enabled" if mapping.enabled else "Disabled"),
        "StateTransitionReason": "USER_INITIATED",
    }
    if mapping.maximum_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": mapping.maximum_concurrency}
    if mapping.patterns:
        shown["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in mapping.patterns]}
    return shown
