"""Retries, age and destinations of asynchronous invocations, for a function, version or alias."""

from __future__ import annotations

from typing import Any

import msgspec

from lambay.aws import Arn, Call
from lambay.functions.destinations import Destinations
from lambay.functions.errors import invalid, missing
from lambay.functions.names import FunctionName, parse
from lambay.functions.pagination import page, paged
from lambay.functions.records import LATEST, EventInvoke
from lambay.functions.room import Operations

_SUCCESS_SERVICES = frozenset({"sqs", "sns", "lambda", "events"})
_FAILURE_SERVICES = _SUCCESS_SERVICES | {"s3"}


class EventInvokeOperations(Operations):
    """See "Configuring error handling settings for Lambda asynchronous invocations"."""

    async def put_function_event_invoke_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Replaces what was there."""
        name = self._existing(call, input)
        return await self._write(name, input, None)

    async def update_function_event_invoke_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Changes what is given and keeps the rest."""
        name = self._existing(call, input)
        return await self._write(name, input, self._configured(name))

    async def get_function_event_invoke_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return _shown(self._configured(parse(input["FunctionName"], call, input.get("Qualifier"))))

    async def delete_function_event_invoke_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        config = self._configured(parse(input["FunctionName"], call, input.get("Qualifier")))
        await self._resources.commit(self._resources.event_invokes.remove(config.key))
        return {}

    async def list_function_event_invoke_configs(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if name.key not in self._resources.functions:
            raise missing("The function doesn't exist.")
        configs = self._resources.event_invokes.under(f"{name.key}/")
        taken, marker = page(configs, input, key=lambda config: config.qualifier)
        return paged("FunctionEventInvokeConfigs", [_shown(config) for config in taken], marker)

    async def _write(
        self, name: FunctionName, input: dict[str, Any], current: EventInvoke | None
    ) -> dict[str, Any]:
        settings = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        if all(input.get(member) is None for member in settings):
            raise invalid("You must specify at least one of error handling or destination setting.")
        base = current or EventInvoke(
            account=name.account,
            region=name.region,
            function=name.name,
            qualifier=name.qualifier or LATEST,
            last_modified=self._room.clock.now(),
        )
        changes: dict[str, Any] = {"last_modified": self._room.clock.now()}
        if input.get("MaximumRetryAttempts") is not None:
            changes["maximum_retries"] = input["MaximumRetryAttempts"]
        if input.get("MaximumEventAgeInSeconds") is not None:
            changes["maximum_age"] = input["MaximumEventAgeInSeconds"]
        if (destinations := input.get("DestinationConfig")) is not None:
            success = (destinations.get("OnSuccess") or {}).get("Destination", "")
            failure = (destinations.get("OnFailure") or {}).get("Destination", "")
            await self._check_destinations(name, success, failure)
            changes |= {"on_success": success, "on_failure": failure}
        config = msgspec.structs.replace(base, **changes)
        await self._resources.commit(self._resources.event_invokes.put(config.key, config))
        return _shown(config)

    async def _check_destinations(self, name: FunctionName, success: str, failure: str) -> None:
        """Raises InvalidParameterValueException."""
        destinations = Destinations(self._resources, self._room.neighbours, self._room.access)
        role = self._resources.version(name).configuration.role
        for target, services in ((success, _SUCCESS_SERVICES), (failure, _FAILURE_SERVICES)):
            if not target:
                continue
            # Of what the model's pattern admits, `kafka://…` is no ARN.
            if not target.startswith("arn:") or Arn.parse(target).service not in services:
                shown = ", ".join(
                    f"{field}={kind}(destination={given})" if given else f"{field}=null"
                    for field, kind, given in (
                        ("onSuccess", "OnSuccess", success),
                        ("onFailure", "OnFailure", failure),
                    )
                )
                raise invalid(f"The provided destination config DestinationConfig({shown}) is invalid.")
            if target == name.arn or target.startswith(f"{name.arn}:"):
                raise invalid("You can't specify the function as a destination for itself.")
            await destinations.check(name, role, target)

    def _existing(self, call: Call, input: dict[str, Any]) -> FunctionName:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        key = f"{name.key}/{name.qualifier or LATEST}"
        if key not in self._resources.versions and key not in self._resources.aliases:
            raise missing("The function doesn't exist.")
        return name

    def _configured(self, name: FunctionName) -> EventInvoke:
        config = self._resources.event_invokes.get(f"{name.key}/{name.qualifier or LATEST}")
        if config is None:
            arn = name.qualified(name.qualifier or LATEST)
            raise missing(f"The function {arn} doesn't have an EventInvokeConfig")
        return config


def _shown(config: EventInvoke) -> dict[str, Any]:
    name = FunctionName(config.account, config.region, config.function, None)
    shown: dict[str, Any] = {
        "FunctionArn": name.qualified(config.qualifier),
        "LastModified": config.last_modified,
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success} if config.on_success else {},
            "OnFailure": {"Destination": config.on_failure} if config.on_failure else {},
        },
    }
    if config.maximum_retries is not None:
        shown["MaximumRetryAttempts"] = config.maximum_retries
    if config.maximum_age is not None:
        shown["MaximumEventAgeInSeconds"] = config.maximum_age
    return shown
