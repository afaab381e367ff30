"""Invoke and InvokeAsync."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from lambay.aws import AWSError, Call
from lambay.functions.errors import conflict, invalid
from lambay.functions.invoking import Invoker
from lambay.functions.room import Operations, Room
from lambay.runtime import Invocation

SYNCHRONOUS_LIMIT = 6 * 1024 * 1024
ASYNCHRONOUS_LIMIT = 1024 * 1024
_CLIENT_CONTEXT_LIMIT = 3583

_valid_json = msgspec.json.Decoder(msgspec.Raw).decode


class InvokeOperations(Operations):
    """See "Invoking Lambda functions" in the Developer Guide."""

    def __init__(self, room: Room, invoker: Invoker) -> None:
        super().__init__(room)
        self._invoker = invoker

    async def invoke(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        kind = input.get("InvocationType") or "RequestResponse"
        if input.get("DurableExecutionName") or input.get("TenantId"):
            raise invalid(
                "DurableExecutionName and TenantId: this function is neither durable nor tenant-isolated."
            )
        event = checked_event(input.get("Payload"), kind)
        target = await self._invoker.target(call, input["FunctionName"], input.get("Qualifier"))
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": b"", "ExecutedVersion": target.first.version.version}
        context = _client_context(input.get("ClientContext"))
        if kind == "Event":
            if target.first.version.state != "Active":
                raise conflict(
                    "The operation cannot be performed at this time. "
                    f"The function is currently in the following state: {target.first.version.state}"
                )
            await self._room.queue.enqueue(
                target.name, event, request_id=call.request_id, client_context=context
            )
            return {"StatusCode": 202, "Payload": b""}
        invoked = await self._invoker.run(
            target,
            Invocation(
                request_id=call.request_id,
                event=event,
                invoked_arn=target.name.given_arn,
                client_context=context,
                trace_id=call.headers.get("x-amzn-trace-id"),
                tail_log=input.get("LogType") == "Tail",
            ),
        )
        outcome = invoked.outcome
        answer: dict[str, Any] = {
            "StatusCode": 200,
            "Payload": outcome.payload,
            "ExecutedVersion": invoked.version,
        }
        if outcome.error is not None:
            answer["FunctionError"] = outcome.error
        if outcome.log_tail is not None and input.get("LogType") == "Tail":
            answer["LogResult"] = base64.b64encode(outcome.log_tail).decode()
        return answer

    async def invoke_async(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """The old asynchronous invocation, replaced by Invoke with InvocationType Event."""
        arguments = input["InvokeArgs"]
        payload = arguments if isinstance(arguments, bytes) else arguments.read()
        await self.invoke(
            call, {"FunctionName": input["FunctionName"], "InvocationType": "Event", "Payload": payload}
        )
        return {"Status": 202}


def checked_event(payload: bytes | None, kind: str) -> bytes:
    """The event; no payload is `{}`.

    Raises RequestTooLargeException over the kind's limit and InvalidRequestContentException for what is
    not JSON.
    """
    if not payload:
        return b"{}"
    limit = ASYNCHRONOUS_LIMIT if kind == "Event" else SYNCHRONOUS_LIMIT
    if len(payload) > limit:
        raise AWSError(
            "RequestTooLargeException",
            f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
            Type="User",
        )
    try:
        _valid_json(payload)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AWSError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
            Type="User",
        ) from None
    return payload


def _client_context(encoded: str | None) -> str | None:
    """The context's JSON text. Raises InvalidRequestContentException."""
    if not encoded:
        return None
    try:
        text = base64.b64decode(encoded, validate=True)
        _valid_json(text)
        if len(encoded) > _CLIENT_CONTEXT_LIMIT:
            raise ValueError(f"it has {len(encoded)} bytes, at most {_CLIENT_CONTEXT_LIMIT} are allowed")
        return text.decode()
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise AWSError(
            "InvalidRequestContentException",
            f"Client context must be a valid Base64-encoded JSON object: {error}",
            Type="User",
        ) from None
