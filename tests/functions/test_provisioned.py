"""Provisioned concurrency: its states, who is served by it, and what it may not be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.runtime import EnvironmentSpec, Invocation, Outcome, SandboxFailure

from .conftest import ACCOUNT, REGION, World, failing

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


async def refused(world: World, operation: str, **input: Any) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world(operation, FunctionName="f", **input)
    return caught.value


@pytest.fixture
async def published(world: World) -> World:
    """A function with version 1 and the alias live."""
    await world.create()
    await world("PublishVersion", FunctionName="f")
    await world("CreateAlias", FunctionName="f", Name="live", FunctionVersion="1")
    return world


async def provision(world: World, qualifier: str = "1", count: int = 2) -> dict[str, Any]:
    return await world(
        "PutProvisionedConcurrencyConfig",
        FunctionName="f",
        Qualifier=qualifier,
        ProvisionedConcurrentExecutions=count,
    )


async def status(world: World, qualifier: str = "1") -> dict[str, Any]:
    await world.functions._provisioning.settled()
    return await world("GetProvisionedConcurrencyConfig", FunctionName="f", Qualifier=qualifier)


async def test_environments_are_initialised_before_anybody_calls(published: World) -> None:
    put = await provision(published)
    assert (put["Status"], put["AllocatedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 0)
    shown = await status(published)
    assert (shown["Status"], shown["AllocatedProvisionedConcurrentExecutions"]) == ("READY", 2)
    assert [spec.initialization_type for spec in published.fleet.acquired] == ["provisioned-concurrency"] * 2
    assert published.fleet.lent == 0


async def test_what_is_beyond_them_spills_over(published: World) -> None:
    await provision(published, "live", 1)
    await status(published, "live")
    gate = asyncio.Event()

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        return Outcome(payload=spec.initialization_type.encode())

    published.fleet.handler = hold
    calls = [asyncio.create_task(published("Invoke", FunctionName="f:live")) for _ in range(2)]
    await published.until(lambda: len(published.fleet.runs) == 2)
    shown = await published("GetProvisionedConcurrencyConfig", FunctionName="f", Qualifier="live")
    assert shown["AvailableProvisionedConcurrentExecutions"] == 0
    gate.set()
    assert [(await call)["Payload"] for call in calls] == [b"provisioned-concurrency", b"on-demand"]
    assert (await published("Invoke", FunctionName="f"))["Payload"] == b"on-demand"


async def test_moving_the_alias_moves_them(published: World) -> None:
    await provision(published, "live")
    await status(published, "live")
    first = published.fleet.acquired[0].key
    await published("UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
    await published.settle()
    await published("PublishVersion", FunctionName="f")
    await published("UpdateAlias", FunctionName="f", Name="live", FunctionVersion="2")
    assert (await status(published, "live"))["Status"] == "READY"
    assert published.fleet.acquired[-1].version == "2"
    assert first.split("!")[0] + "!" in published.fleet.drained


async def test_a_change_of_size_and_the_hours_renew_them(published: World) -> None:
    await provision(published)
    await status(published)
    await provision(published, count=3)
    assert (await status(published))["AllocatedProvisionedConcurrentExecutions"] == 3
    keys = [spec.key for spec in published.fleet.acquired]
    assert (len(set(keys)), len(keys)) == (2, 5)
    assert published.fleet.drained[-1] == keys[0]
    await asyncio.sleep(0)
    published.clock.advance(timedelta(hours=4, seconds=1))
    await published.until(lambda: len(published.fleet.acquired) == 8)
    await published.until(lambda: published.fleet.drained[-1] == keys[-1])


async def test_they_are_there_again_after_a_restart_and_gone_when_deleted(published: World) -> None:
    await provision(published)
    await status(published)
    await published.restart()
    assert (await status(published))["Status"] == "READY"
    await published("DeleteProvisionedConcurrencyConfig", FunctionName="f", Qualifier="1")
    error = await refused(published, "GetProvisionedConcurrencyConfig", Qualifier="1")
    assert error.code == "ProvisionedConcurrencyConfigNotFoundException"
    await asyncio.sleep(0)
    assert published.fleet.drained[-1].endswith("!")


async def test_a_host_that_cannot_have_them_fails_with_the_reason(published: World) -> None:
    published.fleet.failure = SandboxFailure("no room for another sandbox")
    await provision(published)
    shown = await status(published)
    assert (shown["Status"], shown["StatusReason"]) == ("FAILED", "no room for another sandbox")
    assert published.fleet.lent == 0


async def test_what_has_failed_is_tried_again_each_minute(published: World) -> None:
    published.fleet.failure = SandboxFailure("no room for another sandbox")
    await provision(published)
    assert (await status(published))["Status"] == "FAILED"
    published.fleet.failure = None
    published.clock.advance(timedelta(minutes=1))
    await published.until(lambda: len(published.fleet.acquired) == 2)
    await published.until(lambda: published.fleet.lent == 0)
    shown = await status(published)
    assert (shown["Status"], "StatusReason" in shown) == ("READY", False)


async def test_one_that_ended_with_its_invocation_is_replaced(published: World) -> None:
    await provision(published, count=1)
    await status(published)
    published.fleet.handler = failing()
    await published("Invoke", FunctionName="f:1")
    await published.until(lambda: len(published.fleet.acquired) == 3)


async def test_what_cannot_be_provisioned(published: World) -> None:
    put = "PutProvisionedConcurrencyConfig"
    error = await refused(published, put, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1)
    assert (
        error.message == "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    )
    error = await refused(published, put, Qualifier="9", ProvisionedConcurrentExecutions=1)
    assert error.message == f"Function not found: {ARN}:9"
    error = await refused(published, put, Qualifier="none", ProvisionedConcurrentExecutions=1)
    assert error.message == f"Cannot find alias arn: {ARN}:none"
    error = await refused(published, put, Qualifier="1", ProvisionedConcurrentExecutions=1001)
    assert error.message.endswith("is greater than account's unreserved concurrency [1000].")
    error = await refused(published, put, Qualifier="1", ProvisionedConcurrentExecutions=901)
    assert error.message.endswith("UnreservedConcurrentExecution below its minimum value of [100].")
    await provision(published, "1", 2)
    error = await refused(published, put, Qualifier="live", ProvisionedConcurrentExecutions=1)
    assert error.message.startswith("Alias can't be used for Provisioned Concurrency configuration")
    error = await refused(published, "PutFunctionConcurrency", ReservedConcurrentExecutions=1)
    assert error.message == (
        " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned "
        "concurrency [2]."
    )
    await published("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=2)
    error = await refused(published, put, Qualifier="1", ProvisionedConcurrentExecutions=3)
    assert error.message.startswith(
        "Requested Provisioned Concurrency should not be greater than the reserved"
    )
    listed = await published("ListProvisionedConcurrencyConfigs", FunctionName="f")
    assert [config["FunctionArn"] for config in listed["ProvisionedConcurrencyConfigs"]] == [f"{ARN}:1"]
