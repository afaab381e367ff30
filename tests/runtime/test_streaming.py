"""Responses as they come: from runtimes that speak the Runtime API themselves, and from Node.js."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from lambay.runtime import EnvironmentSpec, Outcome, ResponseStream

from .arrange import Bench, invocation
from .test_node import node_function

# In the place of the runtime client: the wrapper makes it the function's process.
CUSTOM = """
import base64, json, os, socket, time
def ask(line, headers="", body=b""):
    connection = socket.create_connection(os.environ["AWS_LAMBDA_RUNTIME_API"].split(":"))
    connection.sendall(f"{line} HTTP/1.1\\r\\nHost: x\\r\\n{headers}\\r\\n".encode() + body)
    return connection
def chunk(part):
    return b"%x\\r\\n%s\\r\\n" % (len(part), part)
STREAMING = ("Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n"
             "Content-Type: text/x-parts\\r\\n")
while True:
    waiting = ask("GET /2018-06-01/runtime/invocation/next").makefile("rb")
    waiting.readline()
    headers = {}
    while (line := waiting.readline().strip()):
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    event = json.loads(waiting.read(int(headers["content-length"])))
    request = headers["lambda-runtime-aws-request-id"]
    answer = ask(f"POST /2018-06-01/runtime/invocation/{request}/response", STREAMING, b"")
    PART
    answer.sendall(b"0\\r\\nTRAILERS\\r\\n")
    answer.recv(1000)
"""
PARTS = """
    for number in range(3):
        answer.sendall(chunk(b"part %d;" % number))
        time.sleep(0.05)
"""
TRAILERS = (
    "Lambda-Runtime-Function-Error-Type: Mine.Broke\\r\\n"
    'Lambda-Runtime-Function-Error-Body: " + base64.b64encode(b"{}") + b"\\r\\n'
)


def custom(bench: Bench, part: str = PARTS, trailers: str = "", **changes: Any) -> EnvironmentSpec:
    spec = bench.function("", variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}, **changes)
    wrapper = spec.code / "wrap"
    wrapper.write_text('#!/bin/sh\nexec "$1" /var/task/custom.py\n')
    wrapper.chmod(0o755)
    source = CUSTOM.replace("    PART\n", part)
    if trailers:
        source = source.replace('b"0\\r\\nTRAILERS\\r\\n"', f'b"0\\r\\n{trailers}\\r\\n"')
    (spec.code / "custom.py").write_text(source.replace("TRAILERS", ""))
    return spec


async def streamed(
    bench: Bench, spec: EnvironmentSpec, event: Any = None
) -> tuple[str, list[bytes], Outcome]:
    """The content type, what came piece by piece, and the outcome."""
    stream = ResponseStream()
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(
        bench.fleet.invoke(environment, invocation(spec, event, stream=stream)),
    )
    kind = await stream.began
    assert not running.done() or not stream.streaming
    parts = [part async for part in stream]
    outcome = await running
    bench.fleet.release(environment)
    return kind, parts, outcome


async def test_a_runtime_streams_its_response(bench: Bench) -> None:
    spec = custom(bench)

    kind, parts, outcome = await streamed(bench, spec)
    again = await streamed(bench, spec)

    assert kind == "text/x-parts"
    assert len(parts) > 1
    assert b"".join(parts) == b"part 0;part 1;part 2;"
    assert (outcome.error, outcome.streamed, outcome.payload) == (None, True, b"")
    assert b"".join(again[1]) == b"part 0;part 1;part 2;"


async def test_a_streamed_response_is_whole_where_nobody_reads_it_as_it_comes(bench: Bench) -> None:
    outcome = await bench.invoke(custom(bench))

    assert outcome.payload == b"part 0;part 1;part 2;"
    assert not outcome.streamed


async def test_a_function_that_does_not_stream_answers_in_one_piece(bench: Bench) -> None:
    kind, parts, outcome = await streamed(
        bench, bench.function("def handler(event, context): return event"), 7
    )

    assert (kind, parts, outcome.payload, outcome.streamed) == ("", [], b"7", False)


async def test_an_error_amidst_the_stream_is_told_in_the_trailers(bench: Bench) -> None:
    spec = custom(bench, trailers=TRAILERS)

    _, parts, outcome = await streamed(bench, spec)
    buffered = await bench.invoke(spec)

    assert b"".join(parts) == b"part 0;part 1;part 2;"
    assert (outcome.error, outcome.error_type, outcome.payload) == ("Unhandled", "Mine.Broke", b"{}")
    assert (buffered.error, buffered.error_type, buffered.payload) == ("Unhandled", "Mine.Broke", b"{}")


async def test_a_stream_that_breaks_off_is_a_truncated_response(bench: Bench) -> None:
    spec = custom(bench, '    answer.sendall(chunk(b"half")); answer.close(); continue\n')

    _, parts, outcome = await streamed(bench, spec)

    assert parts == [b"half"]
    assert (outcome.error, outcome.error_type) == ("Unhandled", "Runtime.TruncatedResponse")
    assert bench.fleet.status().environments == {}


async def test_a_stream_ends_with_the_functions_time(bench: Bench) -> None:
    spec = custom(bench, '    answer.sendall(chunk(b"half")); time.sleep(60)\n', timeout_s=1)

    _, parts, outcome = await streamed(bench, spec)

    assert parts == [b"half"]
    assert (outcome.error, outcome.error_type) == ("Unhandled", "Sandbox.Timedout")


async def test_a_function_writes_no_faster_than_its_caller_reads(bench: Bench) -> None:
    endless = """
    for number in range(64):
        answer.sendall(chunk(bytes(262144)))
"""
    full = asyncio.Event()

    class Watched(ResponseStream):
        def write(self, chunk: bytes) -> None:
            super().write(chunk)
            if self.held:
                full.set()

    spec = custom(bench, endless)
    stream = Watched()
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec, stream=stream)))

    await full.wait()
    await asyncio.sleep(0.3)
    waiting = stream.size
    size = 0
    async for part in stream:
        size += len(part)

    assert waiting < 8 << 20
    assert size == 16 << 20
    assert (await running).error is None
    bench.fleet.release(environment)


async def test_a_caller_that_leaves_does_not_stop_the_function(bench: Bench) -> None:
    spec = custom(bench, "    for number in range(64):\n        answer.sendall(chunk(bytes(262144)))\n")
    stream = ResponseStream()
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec, stream=stream)))
    await stream.began

    stream.leave()

    outcome = await running
    assert (outcome.error, stream.size) == (None, 16 << 20)
    bench.fleet.release(environment)


async def node_streams(bench: Bench, source: str) -> tuple[str, list[bytes], Outcome] | None:
    spec = node_function(bench, source)
    if not any(runtime.name == spec.runtime and runtime.available for runtime in bench.fleet.runtimes()):
        return None
    return await streamed(bench, spec, {"name": "x"})


async def test_node_streams(bench: Bench) -> None:
    found = await node_streams(
        bench,
        """
        exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
            stream.setContentType("text/plain");
            stream.write("Hello ");
            await new Promise((resolve) => setTimeout(resolve, 50));
            stream.write(event.name);
            stream.end();
        });""",
    )

    if found is not None:
        kind, parts, outcome = found
        assert (kind, parts, outcome.error) == ("text/plain", [b"Hello ", b"x"], None)


async def test_node_streams_an_http_response(bench: Bench) -> None:
    found = await node_streams(
        bench,
        """
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
            stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { "x-own": "1" } });
            stream.write("made");
            stream.end();
        });""",
    )

    if found is not None:
        kind, parts, _ = found
        assert kind == "application/vnd.awslambda.http-integration-response"
        prelude, _, body = b"".join(parts).partition(bytes(8))
        assert json.loads(prelude) == {"statusCode": 201, "headers": {"x-own": "1"}}
        assert body == b"made"


async def test_node_fails_before_and_amidst_its_stream(bench: Bench) -> None:
    found = await node_streams(
        bench, "exports.handler = awslambda.streamifyResponse(async () => { throw new Error('early'); });"
    )
    amidst = await node_streams(
        bench,
        """
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
            stream.write("half");
            await new Promise((resolve) => setTimeout(resolve, 20));
            throw new RangeError("late");
        });""",
    )

    if found is not None and amidst is not None:
        assert (found[1], found[2].error_type) == ([], "Error")
        assert (amidst[1], amidst[2].error_type) == ([b"half"], "RangeError")
        assert json.loads(amidst[2].payload)["errorMessage"] == "late"
