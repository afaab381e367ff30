"""Streamed invocations and URLs: what is passed on as it comes, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.functions.url_streams import BrokenOff
from lambay.http import Response
from lambay.runtime import CapacityExceeded, EnvironmentSpec, Invocation, Outcome

from .conftest import World, echo, failing
from .test_urls import Door

HTTP = "application/vnd.awslambda.http-integration-response"


class Streaming:
    """A function that streams `chunks`, the last of them once `go` is set, and then comes to `error`."""

    def __init__(self, chunks: Sequence[bytes], kind: str = "text/plain", error: str | None = None) -> None:
        self.chunks, self.kind, self.error = chunks, kind, error
        self.go = asyncio.Event()
        self.go.set()
        self.done = asyncio.Event()

    async def __call__(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        stream = invocation.stream
        assert stream is not None
        stream.begin(self.kind, lambda held: None)
        for chunk in self.chunks[:-1]:
            stream.write(chunk)
        await self.go.wait()
        stream.write(self.chunks[-1])
        stream.end()
        self.done.set()
        if self.error is None:
            return Outcome(payload=b"", streamed=True, log_tail=b"END\n")
        return Outcome(payload=b'{"errorType":"E"}', streamed=True, error="Unhandled", error_type=self.error)


async def stream(world: World, **input: Any) -> tuple[dict[str, Any], Any]:
    answer = await world("InvokeWithResponseStream", FunctionName="f", **input)
    return answer, answer["EventStream"]


async def test_the_first_chunk_comes_before_the_function_has_ended(world: World) -> None:
    await world.create()
    world.fleet.handler = function = Streaming([b"one", b"two"])
    function.go.clear()

    answer, events = await stream(world, LogType="Tail")
    first = await anext(events)
    unfinished = not function.done.is_set()
    function.go.set()
    rest = [event async for event in events]

    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert (first, unfinished) == ({"PayloadChunk": {"Payload": b"one"}}, True)
    assert rest == [{"PayloadChunk": {"Payload": b"two"}}, {"InvokeComplete": {"LogResult": "RU5ECg=="}}]
    assert world.fleet.lent == 0


async def test_an_error_amidst_the_stream_is_its_completion(world: World) -> None:
    await world.create()
    world.fleet.handler = Streaming([b"half"], error="E")

    _, events = await stream(world)

    assert [event async for event in events] == [
        {"PayloadChunk": {"Payload": b"half"}},
        {"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType":"E"}'}},
    ]


async def test_an_error_of_a_function_that_does_not_stream_is_its_completion(world: World) -> None:
    await world.create()
    world.fleet.handler = failing("no")

    answer, events = await stream(world)

    assert answer["StatusCode"] == 200
    found = [event async for event in events]
    assert [list(event) for event in found] == [["InvokeComplete"]]
    assert json.loads(found[0]["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "no"


async def test_what_fails_before_the_stream_is_an_error_of_the_call(world: World) -> None:
    await world.create()
    world.fleet.failure = CapacityExceeded("full")

    with pytest.raises(AWSError) as refused:
        await stream(world)

    assert refused.value.code in ("TooManyRequestsException", "ServiceException", "EC2ThrottledException")


async def test_a_caller_that_leaves_does_not_end_the_invocation(world: World) -> None:
    await world.create()
    world.fleet.handler = function = Streaming([b"one", b"two"])
    function.go.clear()
    _, events = await stream(world)
    await anext(events)

    await events.aclose()
    function.go.set()

    await function.done.wait()


@pytest.fixture
def door(world: World) -> Door:
    return Door(world)


async def opened(door: Door, handler: Any) -> Response:
    await door.open(InvokeMode="RESPONSE_STREAM")
    door.world.fleet.handler = handler
    return await door()


async def text(response: Response) -> bytes:
    assert not isinstance(response.body, bytes)
    return b"".join([chunk async for chunk in response.body])


async def test_a_url_streams(door: Door) -> None:
    answer = await opened(door, Streaming([b"one", b"two"]))

    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    assert await text(answer) == b"onetwo"


async def test_a_url_takes_its_status_headers_and_cookies_from_the_streams_beginning(door: Door) -> None:
    head = json.dumps({"statusCode": 201, "headers": {"X-Own": "1"}, "cookies": ["a=1", "b=2"]}).encode()
    answer = await opened(door, Streaming([head[:10], head[10:] + bytes(8) + b"ma", b"de"], HTTP))

    assert (answer.status, answer.headers["x-own"]) == (201, "1")
    cookies = [value for name, value in answer.headers.items() if name.lower() == "set-cookie"]
    assert cookies == ["a=1", "b=2"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert await text(answer) == b"made"


@pytest.mark.parametrize("chunks", [[b"no head", b"!"], [b"{}" + bytes(7), b"x"], [b"[1]" + bytes(8), b""]])
async def test_a_url_whose_stream_lacks_its_head_is_a_bad_gateway(door: Door, chunks: list[bytes]) -> None:
    assert (await opened(door, Streaming(chunks, HTTP))).status == 502


async def test_a_url_of_a_function_that_fails_before_it_answers_is_a_bad_gateway(door: Door) -> None:
    assert (await opened(door, failing("no"))).status == 502


async def test_a_url_breaks_off_where_the_function_does(door: Door) -> None:
    answer = await opened(door, Streaming([b"half"], error="E"))

    with pytest.raises(BrokenOff):
        await text(answer)


async def test_a_streaming_url_passes_on_what_a_function_returns_in_one_piece(door: Door) -> None:
    answer = await opened(door, echo)

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(await text(answer))["version"] == "2.0"
