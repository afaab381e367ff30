"""Invoke and InvokeAsync."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from lambay.aws import AWSError, Call
from lambay.functions.errors import invalid
from lambay.functions.invoking import Invoker, Target, check_active
from lambay.functions.room import Operations
from lambay.functions.streams import StreamedResponse, Streams
from lambay.runtime import Invocation

SYNCHRONOUS_LIMIT = 6 * 1024 * 1024
ASYNCHRONOUS_LIMIT = 1024 * 1024
_CLIENT_CONTEXT_LIMIT = 3583

_valid_json = msgspec.json.Decoder(msgspec.Raw).decode


class InvokeOperations(Operations):
    """See "Invoking Lambda functions" in the Developer Guide."""

    _invoker: Invoker
    _streams: Streams

    async def invoke(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        kind = input.get("InvocationType") or "RequestResponse"
        if input.get("DurableExecutionName"):
            raise invalid("DurableExecutionName: the function is not a durable function.")
        if kind == "Event":
            return await self._accept(call, input)
        target, invocation = await self._asked(call, input)
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": b"", "ExecutedVersion": target.first.version.version}
        invoked = await self._invoker.run(target, invocation)
        outcome = invoked.outcome
        answer: dict[str, Any] = {
            "StatusCode": 200,
            "Payload": outcome.payload,
            "ExecutedVersion": invoked.version,
        }
        if outcome.error is not None:
            answer["FunctionError"] = outcome.error
        if invocation.tail_log and outcome.log_tail is not None:
            answer["LogResult"] = base64.b64encode(outcome.log_tail).decode()
        return answer

    async def invoke_with_response_stream(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """The response in chunks as they come, then how it ended."""
        target, invocation = await self._asked(call, input)
        if input.get("InvocationType") == "DryRun":
            return {
                "StatusCode": 204,
                "ExecutedVersion": target.first.version.version,
                "EventStream": _nothing(),
            }
        response = await self._streams.open(target, invocation)
        return {
            "StatusCode": 200,
            "ExecutedVersion": response.version,
            "EventStream": _events(response, tail=invocation.tail_log),
        }

    async def _asked(self, call: Call, input: dict[str, Any]) -> tuple[Target, Invocation]:
        if input.get("TenantId"):
            raise invalid("TenantId: the function does not isolate tenants.")
        event = checked_event(input.get("Payload"), "RequestResponse")
        target = await self._invoker.target(call, input["FunctionName"], input.get("Qualifier"))
        return target, Invocation(
            request_id=call.request_id,
            event=event,
            invoked_arn=target.name.given_arn,
            client_context=_client_context(input.get("ClientContext")),
            trace_id=call.headers.get("x-amzn-trace-id"),
            tail_log=input.get("LogType") == "Tail",
        )

    async def _accept(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Queue an event, for a function that can be invoked."""
        event = checked_event(input.get("Payload"), "Event")
        context = _client_context(input.get("ClientContext"))
        target = await self._invoker.target(call, input["FunctionName"], input.get("Qualifier"))
        if target.first.version.state != "Inactive":
            check_active(target.first.version)
        await self._room.queue.enqueue(
            target.name,
            event,
            request_id=call.request_id,
            client_context=context,
            trace_id=call.headers.get("x-amzn-trace-id"),
        )
        return {"StatusCode": 202, "Payload": b""}

    async def invoke_async(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """The old asynchronous invocation, replaced by Invoke with InvocationType Event."""
        arguments = input["InvokeArgs"]
        payload = arguments if isinstance(arguments, bytes) else arguments.read()
        await self.invoke(
            call, {"FunctionName": input["FunctionName"], "InvocationType": "Event", "Payload": payload}
        )
        return {"Status": 202}


async def _events(response: StreamedResponse, *, tail: bool) -> AsyncIterator[dict[str, Any]]:
    async with contextlib.aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            yield {"PayloadChunk": {"Payload": chunk}}
    outcome = await response.outcome()
    complete: dict[str, Any] = {}
    if outcome.error is not None:
        complete = {"ErrorCode": outcome.error, "ErrorDetails": outcome.payload.decode(errors="replace")}
    if tail and outcome.log_tail is not None:
        complete["LogResult"] = base64.b64encode(outcome.log_tail).decode()
    yield {"InvokeComplete": complete}


async def _nothing() -> AsyncIterator[dict[str, Any]]:
    return
    yield


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
