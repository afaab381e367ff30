"""Invocations whose response is passed on as it comes.

What goes wrong before the response has begun is raised; what goes wrong later is told at its end. A caller that
leaves does not end the invocation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from lambay.aws import AWSError
from lambay.functions.invoking import Invoked, Invoker, Target
from lambay.runtime import Invocation, Outcome, ResponseStream

HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"
_DELIMITER = bytes(8)
_LONGEST_PRELUDE = 16 * 1024
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """A response that has begun; `content_type` is empty where the function does not stream."""

    version: str
    content_type: str
    _stream: ResponseStream
    _running: asyncio.Task[Invoked]

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The answer, in pieces; it is left when the iteration is. An error's object is no part of it."""
        try:
            async for chunk in self._stream:
                yield chunk
            outcome = await self.outcome()
            if not outcome.streamed and outcome.error is None:
                for start in range(0, len(outcome.payload), _CHUNK):
                    yield outcome.payload[start : start + _CHUNK]
        finally:
            self._stream.leave()

    async def outcome(self) -> Outcome:
        """Once the invocation is over. Raises AWSError where the environment was lost."""
        return (await asyncio.shield(self._running)).outcome


class Streams:
    """Runs such invocations, and keeps those whose callers have left until they end."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._running: set[asyncio.Task[Invoked]] = set()

    async def open(self, target: Target, invocation: Invocation) -> StreamedResponse:
        """Return when the response has begun. Raises what `Invoker.run` raises until then."""
        stream = ResponseStream()
        chosen = target.choose()
        run = self._invoker.run(target, replace(invocation, stream=stream), chosen)
        running = asyncio.create_task(run, name="streamed invocation")
        self._running.add(running)
        running.add_done_callback(self._ended)
        running.add_done_callback(lambda _: stream.end())
        await asyncio.wait((running, stream.began), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        content_type = stream.began.result() if stream.began.done() else ""
        return StreamedResponse(chosen.version.version, content_type, stream, running)

    async def stop(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Invoked]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Asked for, so that nobody complains where the caller has left.
            task.exception()


@dataclass(frozen=True, slots=True)
class Prelude:
    """How an HTTP response begins that a function streams."""

    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...]


async def prelude(chunks: AsyncIterator[bytes]) -> tuple[Prelude, bytes]:
    """The JSON that eight NULs end, within the first 16 KiB, and what of the body came with it.

    Raises AWSError where there is no such beginning.
    """
    begun = b""
    async for chunk in chunks:
        begun += chunk
        if _DELIMITER in begun or len(begun) > _LONGEST_PRELUDE:
            break
    text, found, rest = begun.partition(_DELIMITER)
    try:
        told: Any = json.loads(text)
        status = int(told.get("statusCode", 200))
        headers = {str(name).lower(): str(value) for name, value in (told.get("headers") or {}).items()}
        cookies = tuple(str(cookie) for cookie in told.get("cookies") or ())
    except (ValueError, TypeError, AttributeError):
        found = b""
    if not found or not 100 <= status <= 599:
        raise AWSError("InternalServerException", "The response does not begin with its status and headers.")
    return Prelude(status, headers, cookies), rest
