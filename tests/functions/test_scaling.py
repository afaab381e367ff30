"""Application Auto Scaling moves provisioned concurrency, minute by minute of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lambay.functions.records import ScheduledScaling
from lambay.functions.scaling import _is_due
from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .server import Server

by_boto3 = pytest.mark.asyncio(loop_scope="module")

DIMENSION = {"ServiceNamespace": "lambda", "ScalableDimension": "lambda:function:ProvisionedConcurrency"}


class Scaled:
    """A function with an alias that Application Auto Scaling looks after."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.resource = f"function:{name}:live"

    async def make(self, least: int, most: int) -> None:
        server = self.server
        await server.create(self.name)
        await server("lambda", "publish_version", FunctionName=self.name)
        await server("lambda", "create_alias", FunctionName=self.name, Name="live", FunctionVersion="1")
        await self.register(least, most)

    async def register(self, least: int, most: int) -> None:
        await self.server(
            "application-autoscaling",
            "register_scalable_target",
            ResourceId=self.resource,
            MinCapacity=least,
            MaxCapacity=most,
            **DIMENSION,
        )

    async def track(self, target: float, **more: Any) -> None:
        metric = {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}
        tracking = {"TargetValue": target, "PredefinedMetricSpecification": metric, **more}
        await self.server(
            "application-autoscaling",
            "put_scaling_policy",
            PolicyName="track",
            ResourceId=self.resource,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
            **DIMENSION,
        )

        async def known() -> bool:
            targets = self.server.functions._resources.scalable_targets
            return any(each.policies for each in targets if each.resource == self.resource)

        await until(known, True)

    async def provisioned(self) -> int:
        found = await self.server("lambda", "list_provisioned_concurrency_configs", FunctionName=self.name)
        configs = found["ProvisionedConcurrencyConfigs"]
        return configs[0]["RequestedProvisionedConcurrentExecutions"] if configs else 0

    async def until(self, count: int) -> None:
        await until(self.provisioned, count)

    async def minutes(self, count: int) -> None:
        """The clock moves on, and each minute is looked at."""
        scaling = self.server.functions.scaling
        for _ in range(count):
            looked = scaling._looked
            self.server.clock.advance(timedelta(minutes=1))

            async def at(before: float = looked) -> bool:
                return scaling._looked > before

            await until(at, True)


async def until(look: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    async with asyncio.timeout(60):
        while await look() != wanted:  # noqa: ASYNC110 - scaling tells nobody
            await asyncio.sleep(0.02)


@by_boto3
async def test_a_target_is_held_within_its_bounds(server: Server) -> None:
    scaled = Scaled(server, "bounded")
    await scaled.make(2, 5)
    await scaled.until(2)
    found = await server("application-autoscaling", "describe_scaling_activities", ServiceNamespace="lambda")
    assert found["ScalingActivities"][0]["StatusCode"] == "Successful"
    assert found["ScalingActivities"][0]["ResourceId"] == scaled.resource
    await scaled.register(1, 1)
    await scaled.until(1)


@by_boto3
async def test_a_tracked_target_grows_when_it_is_busy_and_shrinks_when_it_is_not(server: Server) -> None:
    scaled = Scaled(server, "tracked")
    await scaled.make(2, 6)
    await scaled.until(2)
    await server.functions._provisioning.settled()
    gate = asyncio.Event()

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        return Outcome(payload=b"null")

    handler, server.fleet.handler = server.fleet.handler, hold
    running = [
        asyncio.create_task(server("lambda", "invoke", FunctionName="tracked", Qualifier="live"))
        for _ in range(2)
    ]
    try:

        async def lent() -> int:
            return server.fleet.lent

        await until(lent, 2)
        await scaled.track(0.5)
        await scaled.minutes(2)
        assert await scaled.provisioned() == 2
        await scaled.minutes(2)
        await scaled.until(4)
    finally:
        gate.set()
        await asyncio.gather(*running)
        server.fleet.handler = handler
    await server.functions._provisioning.settled()
    await scaled.minutes(17)
    await scaled.until(2)


@by_boto3
async def test_a_scheduled_action_sets_the_bounds_at_its_hour(server: Server) -> None:
    scaled = Scaled(server, "scheduled")
    await scaled.make(1, 1)
    await scaled.until(1)
    at = server.clock.now() + timedelta(minutes=5)
    await server(
        "application-autoscaling",
        "put_scheduled_action",
        ScheduledActionName="rush",
        ResourceId=scaled.resource,
        Schedule=f"at({at:%Y-%m-%dT%H:%M:%S})",
        ScalableTargetAction={"MinCapacity": 3, "MaxCapacity": 4},
        **DIMENSION,
    )

    async def known() -> bool:
        targets = server.functions._resources.scalable_targets
        return any(each.actions for each in targets if each.resource == scaled.resource)

    await until(known, True)
    await scaled.minutes(3)
    assert await scaled.provisioned() == 1
    await scaled.minutes(3)
    await scaled.until(3)


@by_boto3
async def test_a_target_without_an_alias_fails_visibly(server: Server) -> None:
    scaled = Scaled(server, "nowhere")
    await scaled.register(1, 2)

    async def failed() -> bool:
        found = await server(
            "application-autoscaling",
            "describe_scaling_activities",
            ServiceNamespace="lambda",
            ResourceId=scaled.resource,
        )
        return any(each["StatusCode"] == "Failed" for each in found["ScalingActivities"])

    await until(failed, True)


@pytest.mark.parametrize(
    ("schedule", "zone", "due"),
    [
        ("cron(0 12 * * ? *)", "UTC", True),
        ("cron(0 12 * * ? *)", "Europe/Berlin", False),
        ("cron(0 13 * * ? *)", "Europe/Berlin", True),
        ("at(2026-11-21T12:00:00)", "UTC", True),
        ("at(2026-11-21T12:01:01)", "UTC", False),
        ("rate(1 minute)", "UTC", True),
        ("nonsense", "UTC", False),
    ],
)
def test_when_an_action_is_due(schedule: str, zone: str, due: bool) -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    action = ScheduledScaling("arn", schedule, zone, since=noon - timedelta(hours=1))
    before = (noon - timedelta(seconds=1)).timestamp()
    assert _is_due(action, before, before + 60) == due
