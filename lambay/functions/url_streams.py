"""The answer of a function URL in mode RESPONSE_STREAM; see "Response streaming" in the Developer Guide."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from lambay.functions import url_events
from lambay.functions.streams import HTTP_RESPONSE, StreamedResponse, prelude
from lambay.http import Response


class BrokenOff(Exception):
    """A function failed amidst its answer: the connection ends without the answer's end."""


async def response(streamed: StreamedResponse) -> Response:
    """The HTTP answer, as soon as its head is known; 502 for a function that failed before that.

    Raises AWSError where the response announces a head of its own and has none.
    """
    chunks = streamed.chunks()
    if streamed.content_type == HTTP_RESPONSE:
        head, begun = await prelude(chunks)
        headers = {"content-type": "application/octet-stream", **head.headers}
        headers |= url_events.set_cookies(head.cookies)
        return Response(head.status, headers, _body(streamed, chunks, begun))
    if not streamed.content_type and (await streamed.outcome()).error is not None:
        await chunks.aclose()
        return url_events.bad_gateway()
    headers = {"content-type": streamed.content_type or "application/json"}
    return Response(200, headers, _body(streamed, chunks, b""))


async def _body(
    streamed: StreamedResponse, chunks: AsyncGenerator[bytes], begun: bytes
) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(chunks):
        if begun:
            yield begun
        async for chunk in chunks:
            yield chunk
    outcome = await streamed.outcome()
    if outcome.error is not None:
        raise BrokenOff(outcome.error_type)
