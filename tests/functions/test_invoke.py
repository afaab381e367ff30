"""Invoke: synchronous, dry and asynchronous; concurrency; errors of environments."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.runtime import (
    CapacityExceeded,
    EnvironmentSpec,
    FileSystemLost,
    Invocation,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
    Outcome,
    RuntimeUnavailable,
    SandboxFailure,
    ScalingLimitExceeded,
)

from .conftest import ACCESS_POINT, ACCOUNT, REGION, FakeSource, FakeTarget, World, failing, minimal

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
VPC: dict[str, Any] = {
    "VpcConfig": {"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-1"]},
    "FileSystemConfigs": [{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/efs"}],
}


async def refused(world: World, **input: Any) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world("Invoke", FunctionName="f", **input)
    return caught.value


async def test_the_outcome_is_returned(world: World) -> None:
    await world.create()
    answer = await world("Invoke", FunctionName="f", Payload=b'{"a": 1}', LogType="Tail")
    assert answer == {
        "StatusCode": 200,
        "Payload": b'{"a": 1}',
        "ExecutedVersion": "$LATEST",
        "LogResult": base64.b64encode(b"START\nEND\n").decode(),
    }


async def test_a_response_is_streamed(world: World) -> None:
    await world.create()
    payload = b'"' + b"x" * 100_000 + b'"'
    answer = await world("InvokeWithResponseStream", FunctionName="f", Payload=payload, LogType="Tail")
    *chunks, end = [event async for event in answer["EventStream"]]
    assert b"".join(chunk["PayloadChunk"]["Payload"] for chunk in chunks) == payload
    assert end == {"InvokeComplete": {"LogResult": base64.b64encode(b"START\nEND\n").decode()}}
    world.fleet.handler = failing("no")
    answer = await world("InvokeWithResponseStream", FunctionName="f")
    *_, end = [event async for event in answer["EventStream"]]
    assert end["InvokeComplete"]["ErrorCode"] == "Unhandled"


async def test_a_functions_error_is_told(world: World) -> None:
    await world.create()
    world.fleet.handler = failing("no")
    answer = await world("Invoke", FunctionName="f")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"])["errorMessage"] == "no"


async def test_the_environment_is_made_from_the_configuration(world: World) -> None:
    await world.create(MemorySize=256, Environment={"Variables": {"A": "1"}}, Handler="x.y", **VPC)
    await world("Invoke", FunctionName="f")
    spec, invocation = world.fleet.runs[0]
    assert (spec.memory_mb, spec.handler, spec.variables) == (256, "x.y", {"A": "1"})
    assert (spec.code / "index.py").read_text().startswith("def handler")
    assert spec.file_system is not None
    assert (spec.file_system.volume, spec.file_system.mount_path) == ("fs-0123456789abcdef0", "/mnt/efs")
    assert (invocation.event, invocation.invoked_arn) == (b"{}", ARN)


async def test_the_environments_key_changes_with_the_configuration_and_not_otherwise(world: World) -> None:
    await world.create()
    await world("Invoke", FunctionName="f")
    await world("TagResource", Resource=ARN, Tags={"a": "b"})
    await world("Invoke", FunctionName="f")
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
    await world.settle()
    await world("Invoke", FunctionName="f")
    keys = [spec.key for spec, _ in world.fleet.runs]
    assert keys[0] == keys[1] != keys[2]
    assert world.fleet.drained == [keys[0]]


async def test_a_changed_access_policy_reaches_the_next_environment(world: World) -> None:
    await world.create(**VPC)
    await world("Invoke", FunctionName="f")
    world.file_systems.source = FakeSource(read_only=True)
    await world("Invoke", FunctionName="f")
    first, second = (spec.file_system for spec, _ in world.fleet.runs)
    assert first is not None
    assert second is not None
    assert (first.read_only, second.read_only) == (False, True)


async def test_a_pending_function_is_not_invoked(world: World) -> None:
    await world("CreateFunction", **minimal())
    error = await refused(world)
    assert (error.code, error.message) == (
        "ResourceConflictException",
        "The operation cannot be performed at this time. The function is currently in the following state: "
        "Pending",
    )


@pytest.mark.parametrize(
    ("input", "code"),
    [
        ({"Payload": b"{"}, "InvalidRequestContentException"),
        ({"Payload": b'"\xff"'}, "InvalidRequestContentException"),
        ({"Payload": b'"' + b"x" * (6 << 20) + b'"'}, "RequestTooLargeException"),
        ({"Payload": b'"' + b"x" * (1 << 20) + b'"', "InvocationType": "Event"}, "RequestTooLargeException"),
        ({"ClientContext": "!"}, "InvalidRequestContentException"),
        ({"Qualifier": "none"}, "ResourceNotFoundException"),
    ],
)
async def test_bad_requests_are_refused(world: World, input: dict[str, Any], code: str) -> None:
    await world.create()
    assert (await refused(world, **input)).code == code
    assert world.fleet.runs == []


async def test_the_client_context_is_decoded(world: World) -> None:
    await world.create()
    context = base64.b64encode(b'{"custom": {}}').decode()
    await world("Invoke", FunctionName="f", ClientContext=context)
    assert world.fleet.runs[0][1].client_context == '{"custom": {}}'


async def test_a_dry_run_runs_nothing(world: World) -> None:
    await world.create()
    assert (await world("Invoke", FunctionName="f", InvocationType="DryRun"))["StatusCode"] == 204
    assert world.fleet.runs == []


async def test_weights_share_the_invocations(world: World) -> None:
    await world.create()
    await world("PublishVersion", FunctionName="f")
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
    await world.settle()
    await world("PublishVersion", FunctionName="f")
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    await world("CreateAlias", FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig=routing)
    answers = [await world("Invoke", FunctionName="f:live") for _ in range(200)]
    executed = [answer["ExecutedVersion"] for answer in answers]
    assert 50 < executed.count("2") < 150
    assert {run[1].invoked_arn for run in world.fleet.runs} == {f"{ARN}:live"}
    await world("UpdateAlias", FunctionName="f", Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    answers = [await world("Invoke", FunctionName="f", Qualifier="live") for _ in range(50)]
    assert {answer["ExecutedVersion"] for answer in answers} == {"1"}


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        (
            MountFailure("no"),
            "EFSMountFailureException",
            "could not mount the EFS file system with access point arn",
        ),
        (MountConnectivityFailure("no"), "EFSMountConnectivityException", "Check your network configuration"),
        (MountTimeout("no"), "EFSMountTimeoutException", "due to mount time out"),
        (FileSystemLost("no"), "EFSIOException", "Lambda detected an IO process"),
        (SandboxFailure("no"), "ServiceException", "no"),
        (RuntimeUnavailable("python3.12", "gone"), "InvalidRuntimeException", "runtime python3.12: gone"),
        (CapacityExceeded("no memory"), "TooManyRequestsException", "Rate Exceeded. no memory"),
        (ScalingLimitExceeded("too fast"), "TooManyRequestsException", "Rate Exceeded."),
    ],
)
async def test_an_environments_failure_has_its_own_error(
    world: World, failure: Exception, code: str, text: str
) -> None:
    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        raise failure

    await world.create(**VPC)
    world.fleet.handler = handler
    error = await refused(world)
    assert (error.code, text in error.message) == (code, True)
    assert world.functions.summary()["running"] == 0


async def test_a_function_whose_zone_lost_its_mount_target_cannot_connect(world: World) -> None:
    await world.create(**VPC)
    world.file_systems.source = FakeSource(mount_targets={"us-east-1c": FakeTarget()})
    assert (await refused(world)).code == "EFSMountConnectivityException"
    world.file_systems.source = FakeSource(mount_targets={"us-east-1a": FakeTarget("deleting")})
    assert (await refused(world)).code == "EFSMountConnectivityException"
    assert world.fleet.runs == []


async def test_a_refused_mount_fails_the_invocation_and_is_tried_again(world: World) -> None:
    await world.create(**VPC)
    source, world.file_systems.source = world.file_systems.source, AWSError("AccessPointNotFound", "gone")
    assert (await refused(world)).code == "EFSMountFailureException"
    world.file_systems.source = source
    assert (await world("Invoke", FunctionName="f"))["StatusCode"] == 200


# -- asynchronous -------------------------------------------------------------------------------------------


async def test_an_event_is_accepted_and_run(world: World) -> None:
    await world.create()
    answer = await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}')
    assert answer["StatusCode"] == 202
    await world.until(lambda: len(world.functions._room.queue) == 0)
    assert [invocation.event for _, invocation in world.fleet.runs] == [b'{"n": 1}']


async def test_an_accepted_event_survives_a_crash(world: World) -> None:
    started = asyncio.Event()

    async def hang(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        started.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    await world.create()
    handler, world.fleet.handler = world.fleet.handler, hang
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}')
    await started.wait()
    world.fleet.handler = handler
    await world.restart()
    await world.until(lambda: len(world.functions._room.queue) == 0)
    assert [invocation.event for _, invocation in world.fleet.runs] == [b'{"n": 1}'] * 2


async def test_a_failing_event_is_retried_after_one_and_two_minutes(world: World) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"
    await world.create(DeadLetterConfig={"TargetArn": queue})
    world.fleet.handler = failing("boom")
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}')
    await world.until(lambda: len(world.fleet.runs) == 1 and waiting(world))
    world.clock.advance(timedelta(seconds=59))
    await asyncio.sleep(0.01)
    assert len(world.fleet.runs) == 1
    world.clock.advance(timedelta(seconds=2))
    await world.until(lambda: len(world.fleet.runs) == 2 and waiting(world))
    world.clock.advance(timedelta(seconds=121))
    await world.until(lambda: len(world.functions._room.queue) == 0)
    assert len(world.fleet.runs) == 3
    (message,) = world.neighbours.sent("SendMessage")
    assert (message["QueueUrl"], message["MessageBody"]) == ("http://sqs/dead", '{"n": 1}')
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "boom"


def waiting(world: World) -> bool:
    """Whether the queue has put back every event that it was working on."""
    return not world.functions._room.queue._at_work


async def test_a_throttled_event_waits_and_too_old_events_are_dropped(world: World) -> None:
    await world.create()
    handler, gate = world.fleet.handler, asyncio.Event()

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        return await handler(spec, invocation)

    world.fleet.handler = hold
    await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=1)
    running = asyncio.create_task(world("Invoke", FunctionName="f"))
    await world.until(lambda: len(world.fleet.runs) == 1)
    await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}')
    await world.until(lambda: waiting(world) and len(world.functions._room.queue) == 1)
    gate.set()
    await running
    world.clock.advance(timedelta(seconds=10))
    await world.until(lambda: len(world.functions._room.queue) == 0)
    assert world.fleet.runs[-1][1].event == b'{"n": 1}'


# -- concurrency --------------------------------------------------------------------------------------------


async def test_reserved_concurrency_limits_and_zero_turns_off(world: World) -> None:
    await world.create()
    gate = asyncio.Event()

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        return Outcome(payload=b"null")

    world.fleet.handler = hold
    await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=1)
    running = asyncio.create_task(world("Invoke", FunctionName="f"))
    await world.until(lambda: len(world.fleet.runs) == 1)
    error = await refused(world)
    assert (error.code, error.message) == ("TooManyRequestsException", "Rate Exceeded.")
    assert error.members["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    gate.set()
    await running
    assert (await world("Invoke", FunctionName="f"))["StatusCode"] == 200
    await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=0)
    assert (await refused(world)).code == "TooManyRequestsException"


async def test_functions_share_what_the_account_has_left(world: World) -> None:
    await world.create()
    await world.create("g")
    await world("PutFunctionConcurrency", FunctionName="g", ReservedConcurrentExecutions=900)
    gate = asyncio.Event()

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        return Outcome(payload=b"null")

    world.fleet.handler = hold
    running = [asyncio.create_task(world("Invoke", FunctionName="f")) for _ in range(100)]
    await world.until(lambda: len(world.fleet.runs) == 100)
    error = await refused(world)
    assert error.members["Reason"] == "ConcurrentInvocationLimitExceeded"
    running.append(asyncio.create_task(world("Invoke", FunctionName="g")))
    await world.until(lambda: len(world.fleet.runs) == 101)
    gate.set()
    assert [(await task)["StatusCode"] for task in running] == [200] * 101
