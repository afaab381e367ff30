"""Event source mappings: SQS queues, Kinesis and DynamoDB streams that a function is invoked with."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from lambay.aws import Arn, AWSError, Call, arn
from lambay.functions.errors import conflict, invalid, missing
from lambay.functions.event_filter import parse_pattern
from lambay.functions.event_pollers import EventPollers
from lambay.functions.names import FunctionName, parse
from lambay.functions.pagination import page, paged
from lambay.functions.records import LATEST, EventSourceMapping
from lambay.functions.room import Operations
from lambay.functions.stream_reading import Stream
from lambay.functions.tags import check_tags

_BATCH_SIZE = 10
_STREAM_BATCH_SIZE = 100
_STANDARD_MOST = 10_000
_FIFO_MOST = 10
_MOST_FILTERS = 5

# For brokers, and what nothing here could make true.
_FOR_BROKERS = (
    "AmazonManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "ProvisionedPollerConfig",
    "Queues",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
    "TumblingWindowInSeconds",
)
_FOR_STREAMS = (
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "StartingPosition",
)
_DESTINATIONS = frozenset({"sqs", "sns", "s3"})


class EventSourceOperations(Operations):
    """See "How Lambda processes records from stream and queue-based event sources" in the Developer Guide."""

    _pollers: EventPollers

    async def create_event_source_mapping(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        source = _source(input)
        name = self._invoked_function(call, input["FunctionName"])
        async with self._resources.exclusive("event source mappings"):
            for known in self._resources.event_sources.under(f"{call.account}/{call.region}/"):
                if known.source_arn == str(source) and known.function == name.name:
                    kind = _KINDS[source.service]
                    raise conflict(
                        f'An event source mapping with {kind} arn (" {source} ") and function (" {name.name} ") '
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
                batch_size=_BATCH_SIZE if source.service == "sqs" else _STREAM_BATCH_SIZE,
                starting_position=_starting_position(input, source),
                starting_timestamp=input.get("StartingPositionTimestamp"),
                tags=check_tags({}, input.get("Tags") or {}),
            )
            mapping = self._with_settings(mapping, input, source)
            await self._check_source(mapping, source)
            await self._pollers.prepare(mapping)
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
            await self._check_source(changed, source)
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
            await self._pollers.stop(mapping.key)
            checkpoints = self._resources.checkpoints
            changes = [
                checkpoints.remove(key) for key, _ in checkpoints.items() if key.startswith(f"{mapping.key}/")
            ]
            await self._resources.commit(self._resources.event_sources.remove(mapping.key), *changes)
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
        queue = source.service == "sqs"
        for parameter in (*_FOR_BROKERS, *(_FOR_STREAMS if queue else ("ScalingConfig",))):
            if input.get(parameter) not in (None, [], {}, ""):
                raise invalid(f"Unsupported {parameter} parameter for given event source mapping type.")
        changes: dict[str, Any] = {}
        for parameter, field in _STREAM_FIELDS.items():
            if input.get(parameter) is not None:
                changes[field] = input[parameter]
        if input.get("DestinationConfig") is not None:
            changes["on_failure"] = _destination(input["DestinationConfig"])
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
        if not queue:
            return changed
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

    async def _check_source(self, mapping: EventSourceMapping, source: Arn) -> None:
        """The role may read it, and it exists; a queue hides messages as long as the function may run."""
        name = FunctionName(mapping.account, mapping.region, mapping.function, mapping.qualifier or None)
        configuration = self._resources.version(name).configuration
        await self._room.requirements.check_source(configuration.role, source, mapping.region)
        if source.service != "sqs":
            await Stream(mapping.source_arn, self._room.neighbours).check()
            return

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
        timeout = configuration.timeout
        if hidden < timeout:
            raise invalid(
                f"Queue visibility timeout: {hidden} seconds is less than Function timeout: {timeout} seconds"
            )


_KINDS = {"sqs": "SQS", "kinesis": "Kinesis", "dynamodb": "DynamoDB"}
_STREAM_FIELDS = {
    "BisectBatchOnFunctionError": "bisect",
    "MaximumRecordAgeInSeconds": "maximum_age",
    "MaximumRetryAttempts": "maximum_retries",
    "ParallelizationFactor": "parallelization",
}


def _source(input: dict[str, Any]) -> Arn:
    """The source's ARN. Raises InvalidParameterValueException for what functions are not invoked from here."""
    given = input.get("EventSourceArn")
    if not given:
        raise invalid("Unrecognized event source.")
    source = Arn.parse(given)
    if source.service not in _KINDS or ":consumer/" in given or "/consumer/" in given:
        raise invalid(
            f"EventSourceArn: {given} is not an Amazon SQS queue, a Kinesis stream or a DynamoDB stream; Lambay "
            "invokes functions from no others."
        )
    if source.service == "dynamodb" and "/stream/" not in source.resource:
        raise invalid("Unrecognized event source, must be kinesis, dynamodb stream or sqs.")
    return source


def _starting_position(input: dict[str, Any], source: Arn) -> Any:
    """Raises InvalidParameterValueException where a stream has none or not that one."""
    if source.service == "sqs":
        return ""
    position = input.get("StartingPosition")
    if not position:
        raise invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null."
        )
    if position == "AT_TIMESTAMP":
        if source.service == "dynamodb":
            raise invalid(f"Unsupported starting position for arn type: {source}")
        if input.get("StartingPositionTimestamp") is None:
            raise invalid("StartingPositionTimestamp is required where StartingPosition is AT_TIMESTAMP.")
    return position


def _destination(config: dict[str, Any]) -> str:
    """Raises InvalidParameterValueException for what batches that were given up can't go to."""
    if (config.get("OnSuccess") or {}).get("Destination"):
        raise invalid("Unsupported DestinationConfig parameter for given event source mapping type.")
    target = str((config.get("OnFailure") or {}).get("Destination") or "")
    if target and Arn.parse(target).service not in _DESTINATIONS:
        raise invalid(f"The destination ARN {target} is invalid.")
    return target


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
    if mapping.starting_position:
        shown |= {
            "StartingPosition": mapping.starting_position,
            "ParallelizationFactor": mapping.parallelization,
            "BisectBatchOnFunctionError": mapping.bisect,
            "MaximumRetryAttempts": mapping.maximum_retries,
            "MaximumRecordAgeInSeconds": mapping.maximum_age,
            "TumblingWindowInSeconds": 0,
            "DestinationConfig": {
                "OnFailure": {"Destination": mapping.on_failure} if mapping.on_failure else {}
            },
        }
    if mapping.starting_timestamp is not None:
        shown["StartingPositionTimestamp"] = mapping.starting_timestamp
    if mapping.maximum_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": mapping.maximum_concurrency}
    if mapping.patterns:
        shown["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in mapping.patterns]}
    return shown
