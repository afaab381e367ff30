"""Extensions: programs from layers and threads of the runtime, as the Extensions API serves them."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambay.runtime import EnvironmentSpec
from lambay.runtime.interpreters import find

from .arrange import Bench, invocation

CLIENT = """
import http.client, json, os, sys, time
def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, "/2020-01-01/extension/" + path, json.dumps(body) if body else None, names)
    answer = connection.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())
"""

OBSERVER = """
status, headers, found = call("POST", "register", {"events": ["INVOKE", "SHUTDOWN"]}, Lambda_Extension_Name="observer")
print("registered", status, sorted(found.items()), flush=True)
me = headers["Lambda-Extension-Identifier"]
while True:
    status, headers, event = call("GET", "event/next", Lambda_Extension_Identifier=me)
    print("event", event["eventType"], event.get("requestId", event.get("shutdownReason")), flush=True)
    if event["eventType"] == "SHUTDOWN":
        time.sleep(0.1)
        print("flushed", event["deadlineMs"] > time.time() * 1000, flush=True)
        break
    time.sleep(PAUSE)
"""

ECHO = "def handler(event, context): return event"


def with_extension(bench: Bench, source: str, program: str, **changes: Any) -> EnvironmentSpec:
    own = find(f"python3.{sys.version_info.minor}")
    assert own is not None
    layer = bench.directory / "layer"
    (layer / "extensions").mkdir(parents=True)
    (layer / "observer.py").write_text(CLIENT + program)
    start = layer / "extensions/observer"
    start.write_text(f"#!/bin/sh\nexec {own.sandbox_executable} /opt/observer.py\n")
    start.chmod(0o755)
    return replace(bench.function(source), layers=(layer,), **changes)


async def test_an_external_extension_sees_invocations_and_the_shutdown(bench: Bench) -> None:
    spec = with_extension(bench, ECHO, OBSERVER.replace("PAUSE", "0"))
    environment = await bench.fleet.acquire(spec)
    asked = invocation(spec, 7)

    outcome = await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)
    again = await bench.answer(spec, 8)
    await bench.fleet.drain(spec.key)

    assert (outcome.payload, again) == (b"7", 8)
    log = await bench.log(spec)
    found = [("functionName", spec.function_name), ("functionVersion", "$LATEST"), ("handler", "app.handler")]
    assert f"registered 200 {sorted(found)}\n" in log
    assert "EXTENSION\tName: observer\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n" in log
    assert f"event INVOKE {asked.request_id}\n" in log
    assert log.count("event INVOKE") == 2
    assert "event SHUTDOWN spindown\nflushed True\n" in log


async def test_the_next_event_waits_for_a_busy_extension_and_the_answer_does_not(bench: Bench) -> None:
    spec = with_extension(bench, ECHO, OBSERVER.replace("PAUSE", "0.5"))
    environment = await bench.fleet.acquire(spec)

    first = await bench.fleet.invoke(environment, invocation(spec, 1))
    second = await bench.fleet.invoke(environment, invocation(spec, 2))
    bench.fleet.release(environment)

    assert first.duration_ms < 400
    assert second.duration_ms > 400


async def test_an_extension_that_dies_costs_the_environment(bench: Bench) -> None:
    program = """
status, headers, found = call("POST", "register", {"events": ["INVOKE"]}, Lambda_Extension_Name="observer")
me = headers["Lambda-Extension-Identifier"]
call("GET", "event/next", Lambda_Extension_Identifier=me)
call("POST", "exit/error", Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type="Extension.Bad")
"""
    slow = "import time\ndef handler(event, context): time.sleep(30)"
    spec = with_extension(bench, slow, program)

    outcome = await bench.invoke(spec)

    assert json.loads(outcome.payload)["errorType"] == "Extension.Bad"
    assert bench.fleet.status().environments == {}


async def test_an_internal_extension_registers_before_the_first_event(bench: Bench) -> None:
    spec = bench.function(
        CLIENT
        + """
found = []
found.append(call("POST", "register", {"events": ["SHUTDOWN"]}, Lambda_Extension_Name="inside")[2]["errorType"])
found.append(call("POST", "register", {"events": ["OTHER"]}, Lambda_Extension_Name="inside")[2]["errorType"])
found.append(call("POST", "register", {"events": ["INVOKE"]})[2]["errorType"])
found.append(call("GET", "event/next")[2]["errorType"])
found.append(call("GET", "event/next", Lambda_Extension_Identifier="nobody")[2]["errorType"])
status, headers, _ = call("POST", "register", {"events": ["INVOKE"]}, Lambda_Extension_Name="inside")
import threading
events = []
def listen():
    while True:
        events.append(call("GET", "event/next", Lambda_Extension_Identifier=headers["Lambda-Extension-Identifier"])[2])
threading.Thread(target=listen, daemon=True).start()
def handler(event, context):
    time.sleep(0.1)
    late = call("POST", "register", {"events": ["INVOKE"]}, Lambda_Extension_Name="late")[2]["errorType"]
    return found, late, events[-1]["requestId"] == context.aws_request_id
"""
    )

    found, late, seen = await bench.answer(spec)

    assert found == [
        "ShutdownEventNotSupportedForInternalExtension",
        "Extension.InvalidEventType",
        "Extension.InvalidExtensionName",
        "Extension.MissingExtensionIdentifier",
        "Extension.UnknownExtensionIdentifier",
    ]
    assert late == "Extension.RegistrationClosed"
    assert seen


async def test_an_extension_that_never_registers_fails_the_init(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr("lambay.runtime.environment.INIT_SECONDS", 0.5)
    spec = with_extension(bench, ECHO, "time.sleep(60)", timeout_s=1)

    async with asyncio.timeout(20):
        outcome = await bench.invoke(spec)

    assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"


def test_the_bootstraps_are_part_of_the_package() -> None:
    from lambay.runtime.languages import BOOTSTRAPS

    assert {path.name for path in Path(BOOTSTRAPS).iterdir()} >= {"bootstrap.py", "launch.py", "waiting.py"}
