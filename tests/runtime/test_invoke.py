"""Invocations as a function's author sees them; texts and payloads as Lambda's."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime

import pytest

from .arrange import Bench, invocation

ECHO = "def handler(event, context): return event"


async def test_a_function_answers_its_event(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            return {"doubled": event["n"] * 2, "name": context.function_name}
        """
    )

    outcome = await bench.invoke(spec, {"n": 21})

    assert outcome.error is None, await bench.log(spec)
    assert json.loads(outcome.payload) == {"doubled": 42, "name": spec.function_name}
    assert outcome.init_ms is not None


async def test_a_second_event_finds_the_environment_as_the_first_left_it(bench: Bench) -> None:
    spec = bench.function(
        """
        count = 0
        def handler(event, context):
            global count
            count += 1
            return count
        """
    )

    first, second = await bench.invoke(spec), await bench.invoke(spec)

    assert (first.payload, second.payload) == (b"1", b"2")
    assert second.init_ms is None
    assert first.environment_id == second.environment_id


async def test_events_at_the_same_time_run_in_environments_of_their_own(bench: Bench) -> None:
    spec = bench.function(
        """
        import time
        def handler(event, context):
            time.sleep(0.3)
        """
    )

    outcomes = await asyncio.gather(*(bench.invoke(spec) for _ in range(3)))

    assert len({outcome.environment_id for outcome in outcomes}) == 3


async def test_variables_are_lambdas_and_the_users(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            return dict(os.environ)
        """,
        variables={"STAGE": "test", "TZ": "Europe/Dublin"},
    )

    found = await bench.answer(spec)

    assert found["STAGE"] == "test"
    assert found["TZ"] == "Europe/Dublin"
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": spec.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{spec.function_name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "ASIA0",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "app.handler",
        "LANG": "en_US.UTF-8",
    }
    assert expected.items() <= found.items()
    assert re.fullmatch(
        r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", found["_X_AMZN_TRACE_ID"]
    )
    today = f"{datetime.now(UTC):%Y/%m/%d}"
    assert re.fullmatch(rf"{today}/\[\$LATEST\][0-9a-f]{{32}}", found["AWS_LAMBDA_LOG_STREAM_NAME"])


async def test_an_interpreters_own_variables_take_effect(bench: Bench) -> None:
    spec = bench.function(
        """
        import sys
        def handler(event, context):
            return [sys.flags.optimize, "/opt/extra" in sys.path, __file__]
        """,
        variables={"PYTHONOPTIMIZE": "2", "PYTHONPATH": "/var/runtime:/opt/extra"},
    )

    assert await bench.answer(spec) == [2, True, "/var/task/app.py"]


async def test_an_exec_wrapper_starts_the_runtime(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            return os.environ["WRAPPED"]
        """,
        variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"},
    )
    wrapper = spec.code / "wrap"
    wrapper.write_text('#!/bin/sh\nWRAPPED=yes exec "$@"\n')
    wrapper.chmod(0o755)

    assert await bench.answer(spec) == "yes"


async def test_the_context_tells_of_the_invocation(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            return {
                "id": context.aws_request_id,
                "arn": context.invoked_function_arn,
                "left": context.get_remaining_time_in_millis(),
                "memory": context.memory_limit_in_mb,
                "custom": context.client_context.custom,
                "identity": context.identity.cognito_identity_id,
            }
        """
    )
    environment = await bench.fleet.acquire(spec)
    asked = invocation(
        spec,
        client_context='{"custom":\r\n\r\n{"a": "é"}}',
        cognito_identity='{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
    )

    outcome = await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)

    told = json.loads(outcome.payload)
    assert told["id"] == asked.request_id
    assert told["arn"] == spec.function_arn
    assert 4000 < told["left"] <= 5000
    assert told["memory"] == "512"
    assert told["custom"] == {"a": "é"}
    assert told["identity"] == "i"


async def test_boto3_is_there_and_talks_to_lambay(bench: Bench) -> None:
    spec = bench.function(
        """
        import urllib.request
        import boto3
        def handler(event, context):
            client = boto3.client("s3")
            with urllib.request.urlopen(client.meta.endpoint_url) as answer:
                return answer.read().decode()
        """
    )

    assert await bench.answer(spec) == "lambay"


async def test_a_handlers_exception_is_the_payload(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            raise ValueError("no such thing")
        """
    )

    outcome = await bench.invoke(spec)

    error = json.loads(outcome.payload)
    assert outcome.error == "Unhandled"
    assert error["errorType"] == outcome.error_type == "ValueError"
    assert error["errorMessage"] == "no such thing"
    assert "in handler" in error["stackTrace"][0]
    again = await bench.invoke(spec)
    assert again.environment_id == outcome.environment_id


async def test_a_module_that_cannot_be_imported(bench: Bench) -> None:
    spec = bench.function("import nowhere")

    outcome = await bench.invoke(spec)

    error = json.loads(outcome.payload)
    assert outcome.error == "Unhandled"
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert error["errorMessage"] == "Unable to import module 'app': No module named 'nowhere'"
    log = await bench.log(spec)
    assert re.search(r"INIT_REPORT .*Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError", log)
    assert re.search(
        r"INIT_REPORT .*Phase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError", log
    )


async def test_a_handler_that_is_not_there(bench: Bench) -> None:
    spec = bench.function(ECHO, handler="app.missing")

    outcome = await bench.invoke(spec)

    assert json.loads(outcome.payload)["errorType"] == "Runtime.HandlerNotFound"
    assert json.loads(outcome.payload)["errorMessage"] == "Handler 'missing' missing on module 'app'"


async def test_a_timeout_ends_the_environment(bench: Bench) -> None:
    spec = bench.function(
        """
        import time
        def handler(event, context):
            print("before", flush=True)
            time.sleep(60)
        """,
        timeout_s=1,
    )

    environment = await bench.fleet.acquire(spec)
    asked = invocation(spec, tail_log=True)
    outcome = await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)

    text = f"RequestId: {asked.request_id} Error: Task timed out after 1.00 seconds"
    assert json.loads(outcome.payload) == {"errorType": "Sandbox.Timedout", "errorMessage": text}
    assert outcome.error == "Unhandled"
    assert outcome.log_tail is not None
    lines = outcome.log_tail.decode().splitlines()
    assert lines[1] == "before"
    assert lines[2].endswith(f"{asked.request_id} Task timed out after 1.00 seconds")
    assert lines[-1].endswith("Status: timeout\t")


@pytest.mark.parametrize("event", ["hang", "die"])
async def test_after_a_timeout_or_a_crash_init_is_part_of_the_next_invocation(
    bench: Bench, event: str
) -> None:
    spec = bench.function(
        """
        import os, time
        print("importing", flush=True)
        calls = 0
        def handler(event, context):
            global calls
            calls += 1
            if event == "hang":
                time.sleep(60)
            if event == "die":
                os._exit(1)
            return calls
        """,
        timeout_s=2,
    )
    first = await bench.invoke(spec)

    failed = await bench.invoke(spec, event)
    again = await bench.invoke(spec)

    assert failed.error_type in ("Sandbox.Timedout", "Runtime.ExitError")
    assert (first.payload, again.payload) == (b"1", b"1")
    assert first.environment_id == failed.environment_id == again.environment_id
    assert first.init_ms is not None
    assert again.init_ms is None
    assert (await bench.log(spec)).count("importing") == 2


async def test_a_crash_is_told_with_its_status(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        def handler(event, context):
            os._exit(event)
        """
    )
    environment = await bench.fleet.acquire(spec)
    asked = invocation(spec, 3)

    outcome = await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)

    text = f"RequestId: {asked.request_id} Error: Runtime exited with error: exit status 3"
    assert json.loads(outcome.payload) == {"errorType": "Runtime.ExitError", "errorMessage": text}
    log = await bench.log(spec)
    assert f"{text}\nRuntime.ExitError\n" in log
    assert "Status: error\tError Type: Runtime.ExitError" in log


async def test_a_segmentation_fault_is_told_by_its_name(bench: Bench) -> None:
    spec = bench.function(
        """
        import os, signal
        def handler(event, context):
            os.kill(os.getpid(), signal.SIGSEGV)
        """
    )

    outcome = await bench.invoke(spec)

    assert json.loads(outcome.payload)["errorMessage"].endswith("signal: segmentation fault")


async def test_memory_over_the_limit_is_out_of_memory(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            held = []
            while True:
                held.append(bytearray(8 << 20))
        """,
        memory_mb=128,
        timeout_s=20,
    )

    outcome = await bench.invoke(spec)

    error = json.loads(outcome.payload)
    assert error["errorType"] == "Runtime.OutOfMemory"
    assert error["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert outcome.max_memory_mb == 128
    assert "Status: error\tError Type: Runtime.OutOfMemory" in await bench.log(spec)


async def test_a_response_over_6_mb_is_refused(bench: Bench) -> None:
    spec = bench.function("def handler(event, context): return 'x' * event")

    fits = await bench.invoke(spec, 6 * 1024 * 1024)
    outcome = await bench.invoke(spec, 6 * 1024 * 1024 + 200)

    assert fits.error is None
    assert json.loads(outcome.payload) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }


async def test_a_slow_init_is_repeated_within_the_invocation(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr("lambay.runtime.environment.INIT_SECONDS", 0.5)
    spec = bench.function(
        """
        import time
        time.sleep(1)
        def handler(event, context):
            return "late"
        """
    )

    outcome = await bench.invoke(spec)

    assert outcome.payload == b'"late"'
    assert outcome.init_ms is None
    assert outcome.duration_ms > 1000
    assert "Phase: init\tStatus: timeout" in await bench.log(spec)


async def test_an_init_that_never_ends_times_out_with_the_function(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr("lambay.runtime.environment.INIT_SECONDS", 0.3)
    spec = bench.function("import time; time.sleep(60)", timeout_s=1)

    outcome = await bench.invoke(spec)

    assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"


async def test_the_log_tells_an_invocation_in_order(bench: Bench) -> None:
    spec = bench.function(
        """
        import logging, subprocess, sys
        logging.getLogger().setLevel("INFO")
        def handler(event, context):
            print("one")
            logging.info("two\\nstill two")
            print("three", file=sys.stderr)
            subprocess.run(["echo", "four"])
            sys.stdout.write("five")
        """
    )
    environment = await bench.fleet.acquire(spec)
    asked = invocation(spec, tail_log=True)

    outcome = await bench.fleet.invoke(environment, asked)
    bench.fleet.release(environment)

    request_id = asked.request_id
    await bench.fleet.flush_logs()
    events = bench.logs[spec.group]
    assert events[0].startswith("INIT_START Runtime Version: python:3.11.v")
    assert events[1] == f"START RequestId: {request_id} Version: $LATEST\n"
    assert events[2] == "one\n"
    assert re.fullmatch(rf"\[INFO\]\t\S+Z\t{request_id}\ttwo\nstill two\n", events[3])
    assert events[4:7] == ["three\n", "four\n", "five"]
    assert events[7] == f"END RequestId: {request_id}\n"
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 512 MB\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t\n",
        events[8],
    )
    assert (
        outcome.log_tail
        == "".join(event if event.endswith("\n") else f"{event}\n" for event in events[1:]).encode()
    )


async def test_the_tail_is_the_last_4_kib(bench: Bench) -> None:
    spec = bench.function(
        """
        def handler(event, context):
            for number in range(1000):
                print(number, "x" * 20)
        """
    )

    outcome = await bench.invoke(spec, tail_log=True)

    assert outcome.log_tail is not None
    assert len(outcome.log_tail) == 4096
    assert b"\n999 xxx" in outcome.log_tail


async def test_init_is_billed(bench: Bench) -> None:
    spec = bench.function("import time; time.sleep(0.2)\n" + ECHO)

    outcome = await bench.invoke(spec)

    assert outcome.init_ms is not None
    assert outcome.init_ms > 200
    assert outcome.billed_ms >= outcome.init_ms + outcome.duration_ms


async def test_json_logs(bench: Bench) -> None:
    spec = bench.function(
        """
        import logging
        def handler(event, context):
            logging.getLogger().warning("look")
            logging.getLogger().info("not this")
        """,
        log_format="JSON",
        application_log_level="WARN",
    )

    await bench.answer(spec)

    await bench.fleet.flush_logs()
    records = [json.loads(event) for event in bench.logs[spec.group]]
    kinds = [record.get("type") or record["message"] for record in records]
    assert kinds == ["platform.initStart", "platform.start", "look", "platform.report"]
    assert records[-1]["record"]["metrics"]["memorySizeMB"] == 512
