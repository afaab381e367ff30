"""Node.js functions, in every style that Lambda takes; where the host has no Node.js, its absence is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambay.runtime import EnvironmentSpec, RuntimeUnavailable
from lambay.runtime.node import RUNTIMES
from lambay.runtime.packages import node_sdk

from .arrange import Bench, invocation


def node_function(bench: Bench, source: str, *, file: str = "index.js", **changes: Any) -> EnvironmentSpec:
    """A function of the host's newest Node.js; where it has none, the test ends with what it is told."""
    available = [runtime.name for runtime in bench.fleet.runtimes() if runtime.available]
    runtime = next((name for name in reversed(RUNTIMES) if name in available), RUNTIMES[-1])
    spec = bench.function("", runtime=runtime, handler="index.handler", **changes)
    (spec.code / file).write_text(source)
    return spec


async def answers(bench: Bench, spec: EnvironmentSpec, event: Any, expected: Any) -> None:
    if any(runtime.name == spec.runtime and runtime.available for runtime in bench.fleet.runtimes()):
        assert await bench.answer(spec, event) == expected
        return
    with pytest.raises(RuntimeUnavailable, match=r"this host has no Node\.js"):
        await bench.fleet.acquire(spec)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("index.js", "exports.handler = async (event) => ({ got: event });"),
        ("index.mjs", "export const handler = async (event) => ({ got: event });"),
        ("index.cjs", "exports.handler = (event, context, callback) => callback(null, { got: event });"),
        ("index.js", "exports.handler = (event, context) => Promise.resolve({ got: event });"),
        (
            "index.js",
            "exports.handler = (event, context, callback) => { setTimeout(() => callback(null, { got: event }), 5); };",
        ),
    ],
)
async def test_handlers_of_every_style(bench: Bench, file: str, source: str) -> None:
    spec = node_function(bench, source, file=file)

    await answers(bench, spec, 1, {"got": 1})
    await answers(bench, spec, 2, {"got": 2})


async def test_the_context_and_variables(bench: Bench) -> None:
    source = """
        exports.handler = async (event, context) => [
            context.functionName, context.memoryLimitInMB, context.getRemainingTimeInMillis() > 3000,
            process.env.STAGE, process.env.AWS_EXECUTION_ENV, process.cwd(), typeof context.awsRequestId,
        ];"""
    spec = node_function(bench, source, variables={"STAGE": "x"})

    runs = f"AWS_Lambda_{spec.runtime}"
    await answers(bench, spec, None, [spec.function_name, "512", True, "x", runs, "/var/task", "string"])


async def test_options_that_only_a_new_process_takes(bench: Bench) -> None:
    spec = node_function(
        bench,
        "exports.handler = async () => [process.execArgv, process.env.NODE_OPTIONS, Error.stackTraceLimit];",
        variables={"NODE_OPTIONS": "--stack-trace-limit=3"},
    )

    await answers(bench, spec, None, [[], "--stack-trace-limit=3", 3])


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("exports.handler = async () => { throw new TypeError('bad'); };", "TypeError", "bad"),
        ("exports.handler = (e, c, callback) => callback(new Error('bad'));", "Error", "bad"),
        ("exports.other = 1;", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
        ("require('nowhere');", "Runtime.ImportModuleError", "Error: Cannot find module 'nowhere'"),
        ("exports.handler = (", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        (
            "exports.handler = () => { setTimeout(() => { throw new Error('late'); }); return new Promise(() => 1); }",
            "Error",
            "late",
        ),
    ],
)
async def test_errors(bench: Bench, source: str, kind: str, message: str) -> None:
    spec = node_function(bench, source)
    if not any(runtime.name == spec.runtime and runtime.available for runtime in bench.fleet.runtimes()):
        await answers(bench, spec, None, None)
        return

    outcome = await bench.invoke(spec)

    error = json.loads(outcome.payload)
    assert outcome.error == "Unhandled"
    assert error["errorType"] == kind
    assert error["errorMessage"].startswith(message)


async def test_console_output_is_the_log(bench: Bench) -> None:
    spec = node_function(
        bench,
        "exports.handler = async () => { console.log('one', { a: 1 }); console.error('two\\nlines'); };",
    )
    await answers(bench, spec, None, None)
    if bench.fleet.status().idle == 0:
        return
    environment = await bench.fleet.acquire(spec)
    asked = invocation(spec)

    await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)

    await bench.fleet.flush_logs()
    events = bench.logs[spec.group][-4:]
    assert events[0].endswith(f"Z\t{asked.request_id}\tINFO\tone {{ a: 1 }}\n")
    assert events[1].endswith(f"Z\t{asked.request_id}\tERROR\ttwo\nlines\n")
    assert events[2].startswith("END ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "index.js",
            "const { S3Client } = require('@aws-sdk/client-s3'); exports.handler = async () => S3Client.name;",
        ),
        (
            "index.mjs",
            "import { S3Client } from '@aws-sdk/client-s3'; export const handler = async () => S3Client.name;",
        ),
    ],
)
async def test_the_aws_sdk_is_there_once_it_is_installed(bench: Bench, file: str, source: str) -> None:
    spec = node_function(bench, source, file=file)

    if node_sdk.built() is not None:
        await answers(bench, spec, None, "S3Client")
    elif any(runtime.name == spec.runtime and runtime.available for runtime in bench.fleet.runtimes()):
        assert json.loads((await bench.invoke(spec)).payload)["errorType"] == "Runtime.ImportModuleError"


async def test_tmp_outlives_a_crash(bench: Bench) -> None:
    source = """
        const fs = require("fs");
        exports.handler = async (event) => {
          const found = fs.readdirSync("/tmp");
          fs.writeFileSync(`/tmp/${event}`, "");
          if (event === "crash") process.exit(1);
          return found;
        };
        """
    spec = node_function(bench, source, timeout_s=60)

    await answers(bench, spec, "first", [])
    if bench.fleet.status().idle:
        assert (await bench.invoke(spec, "crash")).error_type == "Runtime.ExitError"
        await answers(bench, spec, "last", ["crash", "first"])
