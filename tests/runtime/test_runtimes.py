"""Every Python runtime that this host has runs functions; what it takes to have one more is told."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from lambay.runtime import packages
from lambay.runtime.interpreters import Interpreter, find
from lambay.runtime.packages.__main__ import main

from .arrange import Bench, invocation


async def test_every_runtime_of_the_host_runs_functions(bench: Bench) -> None:
    found = [runtime.name for runtime in bench.fleet.runtimes() if runtime.available]
    available = [name for name in found if name.startswith("python")]
    source = """
        import sys, boto3, logging
        def handler(event, context):
            logging.getLogger().warning("seen")
            return ["python%d.%d" % sys.version_info[:2], sys.path[:4], boto3.__file__]
        """

    assert f"python3.{sys.version_info.minor}" in available
    for name in available:
        spec = bench.function(source, runtime=name)
        version, path, boto3 = await bench.answer(spec)

        layer = f"/opt/python/lib/{name}/site-packages"
        assert version == name
        assert path == ["/var/task", layer, "/opt/python", "/var/runtime"]
        assert boto3 == "/var/runtime/boto3/__init__.py"
        assert "\tseen\n" in await bench.log(spec)


def test_an_interpreter_below_usr_runs_in_place_and_another_at_var_lang() -> None:
    system = Interpreter("python3.11", Path("/usr/bin/python3.11"), Path("/usr"))
    other = Interpreter("python3.12", Path("/opt/py/bin/python3.12"), Path("/opt/py"))

    assert system.sandbox_executable == Path("/usr/bin/python3.11")
    assert other.sandbox_executable == Path("/var/lang/bin/python3.12")


def test_an_unknown_runtime_is_not_found() -> None:
    assert find("python3.2") is None


def test_built_packages_are_known_by_their_pins() -> None:
    own = f"python3.{sys.version_info.minor}"

    assert packages.built(own) == packages.directory() / own
    assert packages.built("python3.2") is None


def test_building_what_is_built_does_nothing(capsys) -> None:  # type: ignore[no-untyped-def]
    own = f"python3.{sys.version_info.minor}"
    before = (packages.directory() / own).stat().st_ino

    status = main([own])

    assert status == 0
    assert (packages.directory() / own).stat().st_ino == before
    assert str(packages.directory() / own) in capsys.readouterr().out


CUSTOM = """
import http.client, json, os
root = "/2018-06-01/runtime/invocation/"
while True:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("GET", root + "next")
    answer = connection.getresponse()
    event = json.loads(answer.read())
    said = [event, os.environ["_HANDLER"], os.getcwd(), "PYTHONPATH" in os.environ]
    request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.request("POST", f"{root}{request}/response", json.dumps(said))
    connection.getresponse().read()
"""


@pytest.mark.parametrize("place", ["code", "layer"])
async def test_an_os_only_runtime_runs_the_functions_bootstrap(bench: Bench, place: str) -> None:
    own = find(f"python3.{sys.version_info.minor}")
    assert own is not None
    layer = bench.directory / "layer"
    layer.mkdir()
    spec = bench.function("", runtime="provided.al2023", handler="anything", layers=(layer,))
    bootstrap = (spec.code if place == "code" else layer) / "bootstrap"
    bootstrap.write_text(f"#!/bin/sh\nexec {own.sandbox_executable} /var/task/custom.py\n")
    bootstrap.chmod(0o755)
    (spec.code / "custom.py").write_text(CUSTOM)

    assert await bench.answer(spec, 1) == [1, "anything", "/var/task", False]
    assert await bench.answer(spec, 2) == [2, "anything", "/var/task", False]


async def test_an_os_only_runtime_without_bootstrap_is_told(bench: Bench) -> None:
    outcome = await bench.invoke(bench.function("", runtime="provided.al2023"))

    assert json.loads(outcome.payload) == {
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]",
    }


LINGERING = """
import http.client, json, os, signal
root = "/2018-06-01/runtime/invocation/"
first = not os.path.exists("/tmp/lingered")
open("/tmp/lingered", "w").close()
while True:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("GET", root + "next")
    answer = connection.getresponse()
    answer.read()
    request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.request("POST", f"{root}{request}/response", json.dumps(first))
    connection.getresponse().read()
    while first:
        signal.pause()
"""


async def test_an_event_that_a_dying_runtime_never_asked_for_is_the_next_ones(bench: Bench) -> None:
    """As of one that ends because its last response was too large, while the next event waits for it already."""
    own = find(f"python3.{sys.version_info.minor}")
    assert own is not None
    spec = bench.function("", runtime="provided.al2023")
    bootstrap = spec.code / "bootstrap"
    bootstrap.write_text(f"#!/bin/sh\nexec {own.sandbox_executable} /var/task/lingering.py\n")
    bootstrap.chmod(0o755)
    (spec.code / "lingering.py").write_text(LINGERING)
    environment = await bench.fleet.acquire(spec)
    first = await bench.fleet.invoke(environment, invocation(spec))
    second = invocation(spec)
    waiting = asyncio.create_task(bench.fleet.invoke(environment, second))
    await asyncio.sleep(0)
    assert environment.busy
    assert environment._slot is not None
    environment._slot.kill_runtime()
    outcome = await waiting
    bench.fleet.release(environment)

    assert (first.payload, outcome.payload, outcome.error) == (b"true", b"false", None)
    assert (await bench.log(spec)).count(f"START RequestId: {second.request_id}") == 1
