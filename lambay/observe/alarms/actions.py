"""Alarms' actions carried out: SNS topics, functions, and whatever else another room performs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lambay.aws import Arn, AWSError, Neighbours
from lambay.observe.alarms import messages
from lambay.observe.alarms.records import AlarmChange

_log = logging.getLogger("lambay.observe")

Perform = Callable[[str, AlarmChange], Awaitable[None]]

PRINCIPAL = "lambda.alarms.cloudwatch.amazonaws.com"


@dataclass(frozen=True, slots=True)
class FunctionEvent:
    """An alarm's event for a function."""

    function_arn: str
    event: Any
    source_arn: str
    source_account: str
    principal: str = PRINCIPAL
    trace_id: str = ""


Deliver = Callable[[FunctionEvent], Awaitable[None]]
"""Queues an event for a function whose policy allows it."""


class Actions:
    def __init__(self, neighbours: Neighbours, deliver: Deliver) -> None:
        self._neighbours = neighbours
        self._deliver = deliver
        self._performers: dict[str, Perform] = {"sns": self._notify, "lambda": self._invoke}

    def carries_out(self, service: str, perform: Perform) -> None:
        """Have `perform(action ARN, change)` called for actions of a service (`autoscaling`)."""
        self._performers[service] = perform

    def services(self) -> list[str]:
        return sorted(self._performers)

    async def carry_out(self, action: str, change: AlarmChange) -> str | None:
        """Why the action failed, None where it did not."""
        try:
            await self._performers[action.split(":")[2]](action, change)
        except (AWSError, LookupError) as error:
            _log.warning("alarm %s: %s failed: %s", change.name, action, error)
            return str(error)
        except Exception as error:
            _log.exception("alarm %s: %s failed", change.name, action)
            return str(error)
        return None

    async def tell_bus(self, change: AlarmChange) -> None:
        """The event that every change of state sends to the default event bus."""
        try:
            await self._neighbours.call(
                "events",
                "PutEvents",
                {"Entries": [messages.bus_entry(change)]},
                account=change.account,
                region=change.region,
            )
        except AWSError as error:
            _log.warning("alarm %s: EventBridge was not told: %s", change.name, error)

    async def _notify(self, topic: str, change: AlarmChange) -> None:
        arn = Arn.parse(topic)
        await self._neighbours.call(
            "sns",
            "Publish",
            {
                "TopicArn": topic,
                "Subject": messages.subject(change.after),
                "Message": messages.notification(change),
            },
            account=arn.account,
            region=arn.region,
        )

    async def _invoke(self, function: str, change: AlarmChange) -> None:
        await self._deliver(
            FunctionEvent(function, messages.function_event(change), change.arn, change.account)
        )
