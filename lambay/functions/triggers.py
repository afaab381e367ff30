"""Events that other services send: S3 and SNS notifications, EventBridge rules."""

from __future__ import annotations

import logging
import uuid

import msgspec

from lambay.functions.invoke import ASYNCHRONOUS_LIMIT
from lambay.functions.names import function_of
from lambay.functions.permissions import PermissionOperations
from lambay.functions.ports import Trigger

_log = logging.getLogger(__name__)


class Triggers(PermissionOperations):
    async def deliver(self, trigger: Trigger) -> None:
        """Queue the event as an asynchronous invocation; it is durable when this returns.

        As on AWS the function's policy must allow the service, and a sender is not told that it doesn't.
        """
        name = function_of(trigger.function_arn)
        if not self._resources.has(name):
            _log.warning(
                "%s sent an event to %s, which is not there", trigger.principal, trigger.function_arn
            )
            return
        # The source is what keeps another account's bucket or rule from using the service as its deputy.
        keys = {"aws:SourceArn": trigger.source_arn, "aws:SourceAccount": trigger.source_account}
        policy = self.resource_policy(trigger.function_arn)
        if not self._room.access.service_may(
            trigger.principal, "lambda:InvokeFunction", trigger.function_arn, policy, keys
        ):
            _log.warning(
                "%s may not invoke %s: its policy has no permission for %s; add one with AddPermission",
                trigger.principal,
                trigger.function_arn,
                trigger.source_arn,
            )
            return
        event = msgspec.json.encode(trigger.event)
        if len(event) > ASYNCHRONOUS_LIMIT:
            _log.warning("an event of %d bytes for %s is too large", len(event), trigger.function_arn)
            return
        await self._room.queue.enqueue(
            name, event, request_id=str(uuid.uuid4()), trace_id=trigger.trace_id or None
        )
