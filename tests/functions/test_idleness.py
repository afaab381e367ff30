"""A VPC function that nobody invokes for two weeks gives its interfaces back, and comes back when it is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.runtime import MountConnectivityFailure, MountFailure, MountTimeout

from .conftest import World
from .test_invoke import VPC


async def state(world: World) -> tuple[str, str]:
    shown = await world("GetFunctionConfiguration", FunctionName="f")
    return shown["State"], shown.get("StateReasonCode", "")


async def sleeping(world: World, **input: Any) -> None:
    """A function that has become Inactive."""
    await world.create(**(VPC | input))
    await idle(world, 15)
    assert await state(world) == ("Inactive", "Idle")
    await world.settle()


async def idle(world: World, days: int) -> None:
    idleness = world.functions._idleness
    world.clock.advance(timedelta(days=days))
    await idleness._look()


async def refused(world: World) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world("Invoke", FunctionName="f")
    return caught.value


async def test_its_interfaces_are_given_back_and_made_again(world: World) -> None:
    await sleeping(world)
    assert world.network.interfaces == {}
    error = await refused(world)
    assert error.code == "ResourceNotReadyException"
    assert error.message.startswith("The function is inactive and its VPC connection is no longer available.")
    versions = world.functions._resources.versions
    await world.until(lambda: next(iter(versions)).state == "Active")
    assert len(world.network.interfaces) == 1
    answer = await world("Invoke", FunctionName="f")
    assert answer["StatusCode"] == 200


async def test_an_invocation_within_two_weeks_keeps_it(world: World) -> None:
    await world.create(**VPC)
    for _ in range(3):
        await idle(world, 10)
        await world("Invoke", FunctionName="f")
    assert await state(world) == ("Active", "")
    await world.restart()
    await idle(world, 10)
    assert (await state(world))[0] == "Active"


async def test_a_function_outside_of_a_vpc_is_never_inactive(world: World) -> None:
    await world.create()
    await idle(world, 100)
    assert (await state(world))[0] == "Active"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (MountFailure("denied"), "EFSMountFailure"),
        (MountTimeout("silent"), "EFSMountTimeout"),
        (MountConnectivityFailure("no route"), "EFSMountConnectivityError"),
    ],
)
async def test_a_file_system_that_cannot_be_mounted_leaves_it_inactive(
    world: World, failure: Exception, code: str
) -> None:
    await sleeping(world)
    world.fleet.failure = failure
    await refused(world)
    versions = world.functions._resources.versions
    await world.until(lambda: next(iter(versions)).state_reason_code == code)
    shown = await world("GetFunctionConfiguration", FunctionName="f")
    assert (shown["State"], shown["StateReason"]) == ("Inactive", str(failure))
    world.fleet.failure = None
    await refused(world)
    await world.until(lambda: next(iter(versions)).state == "Active")


async def test_an_event_for_it_is_kept_until_it_is_back(world: World) -> None:
    await sleeping(world)
    answer = await world("Invoke", FunctionName="f", InvocationType="Event", Payload=b'"late"')
    assert answer["StatusCode"] == 202
    versions = world.functions._resources.versions
    await world.until(lambda: next(iter(versions)).state == "Active")
    world.clock.advance(timedelta(seconds=2))
    await world.until(lambda: [run.event for _, run in world.fleet.runs] == [b'"late"'])


async def test_the_interfaces_that_cannot_be_had_again(world: World) -> None:
    await sleeping(world)
    world.network.full.add("subnet-a")
    await refused(world)
    versions = world.functions._resources.versions
    await world.until(lambda: next(iter(versions)).state_reason_code == "SubnetOutOfIPAddresses")
    assert (await state(world))[0] == "Inactive"
