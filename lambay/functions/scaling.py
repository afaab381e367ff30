"""Application Auto Scaling of provisioned concurrency: targets that are tracked and scheduled changes.

The neighbour keeps targets, policies and scheduled actions; here they are carried out, minute by minute of the clock.
See "Managing provisioned concurrency with Application Auto Scaling" in the Lambda Developer Guide: a target tracking
policy adds environments when its utilisation was above the target for three minutes, and takes some away when it was
below nine tenths of it for fifteen.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lambay.aws import AWSError, Call, Neighbours
from lambay.clock import Clock
from lambay.functions import schedule_expression
from lambay.functions.records import Provisioned, ScalableTarget, ScalingActivity, ScheduledScaling, Tracking
from lambay.functions.resources import Resources

_log = logging.getLogger(__name__)

_MINUTE_S = 60
_OUT_AFTER = 3
_IN_AFTER = 15
_SLACK = 0.9
_MOST_ACTIVITIES = 200
_METRIC = "LambdaProvisionedConcurrencyUtilization"
_NAMESPACE = "lambda"

Provision = Callable[[str, str, str, str, int], Awaitable[None]]


class Scaling:
    """`provision` sets an alias's or version's provisioned concurrency, `utilisation` tells how much was in use."""

    def __init__(
        self,
        resources: Resources,
        neighbours: Neighbours,
        clock: Clock,
        provision: Provision,
        utilisation: Callable[[Provisioned], float],
    ) -> None:
        self._resources = resources
        self._neighbours = neighbours
        self._clock = clock
        self._provision = provision
        self._utilisation = utilisation
        self._seen: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_IN_AFTER))
        self._scaled: dict[tuple[str, str], float] = {}
        self._looked = 0.0
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._looked = self._clock.time()
        self._spawn(self._serve())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._seen.clear()

    def targets_changed(self, account: str, region: str) -> None:
        """Application Auto Scaling has changed there."""
        self._spawn(self._read(account, region))

    async def activities(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """DescribeScalingActivities, newest first."""
        found = [
            kept
            for kept in self._resources.scaling_activities.under(f"{call.account}/{call.region}/")
            if input.get("ServiceNamespace") == _NAMESPACE
            and input.get("ResourceId") in (None, kept.resource)
        ]
        return {"ScalingActivities": [_shown(kept) for kept in found[::-1]]}

    # what the neighbour keeps

    async def _read(self, account: str, region: str) -> None:
        async with self._reading:
            targets = {target.key: target for target in await self._targets(account, region)}
            collection = self._resources.scalable_targets
            known = {target.key: target for target in collection.under(f"{account}/{region}/")}
            changes = [collection.remove(key) for key in known if key not in targets]
            changes += [
                collection.put(key, target) for key, target in targets.items() if target != known.get(key)
            ]
            if changes:
                await self._resources.commit(*changes)
        for key, target in targets.items():
            earlier = known.get(key)
            if earlier is None or (earlier.least, earlier.most) != (target.least, target.most):
                await self._hold(target, "the bounds of the scalable target were set")
        self._changed.set()

    async def _targets(self, account: str, region: str) -> list[ScalableTarget]:
        async def ask(operation: str, member: str) -> list[dict[str, Any]]:
            answer = await self._neighbours.call(
                "application-autoscaling",
                operation,
                {"ServiceNamespace": _NAMESPACE},
                account=account,
                region=region,
            )
            found: list[dict[str, Any]] = answer.get(member, [])
            return found

        policies = await ask("DescribeScalingPolicies", "ScalingPolicies")
        actions = await ask("DescribeScheduledActions", "ScheduledActions")
        since = {
            action.arn: action.since
            for target in self._resources.scalable_targets.under(f"{account}/{region}/")
            for action in target.actions
        }
        now = self._clock.now()
        return [
            ScalableTarget(
                account=account,
                region=region,
                resource=shown["ResourceId"],
                least=shown["MinCapacity"],
                most=shown["MaxCapacity"],
                suspended_in=bool((shown.get("SuspendedState") or {}).get("DynamicScalingInSuspended")),
                suspended_out=bool((shown.get("SuspendedState") or {}).get("DynamicScalingOutSuspended")),
                suspended_schedule=bool((shown.get("SuspendedState") or {}).get("ScheduledScalingSuspended")),
                policies=tuple(
                    _tracking(policy) for policy in policies if _tracks(policy, shown["ResourceId"])
                ),
                actions=tuple(
                    _scheduled(action, since.get(action["ScheduledActionARN"], now))
                    for action in actions
                    if action["ResourceId"] == shown["ResourceId"]
                ),
            )
            for shown in await ask("DescribeScalableTargets", "ScalableTargets")
        ]

    # carrying it out

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            if not len(self._resources.scalable_targets):
                await self._changed.wait()
                self._looked = self._clock.time()
                continue
            await self._clock.sleep(self._looked + _MINUTE_S - self._clock.time())
            before, self._looked = self._looked, self._clock.time()
            for target in self._resources.scalable_targets:
                await self._look(target, before)

    async def _look(self, target: ScalableTarget, before: float) -> None:
        for action in target.actions:
            if not target.suspended_schedule and _is_due(action, before, self._looked):
                await self._apply(target, action)
        config = self._config(target)
        if config is None or not target.policies:
            return
        seen = self._seen[target.key]
        seen.append(self._utilisation(config))
        for policy in target.policies:
            wanted = self._wanted(target, policy, config.wanted, list(seen))
            if wanted != config.wanted:
                way = "out" if wanted > config.wanted else "in"
                self._scaled[target.key, way] = self._looked
                seen.clear()
                await self._set(
                    target, wanted, f"policy {policy.name}: utilisation against {policy.target:g}"
                )
                return

    def _wanted(self, target: ScalableTarget, policy: Tracking, had: int, seen: list[float]) -> int:
        """How many environments the policy asks for after these minutes' utilisations."""
        last = seen[-_OUT_AFTER:]
        high = len(last) == _OUT_AFTER and min(last) > policy.target and not target.suspended_out
        if high and self._rested(target, "out", policy.out_cooldown):
            return min(max(math.ceil(had * max(last) / policy.target), had + 1), target.most)
        low = len(seen) == _IN_AFTER and max(seen) < policy.target * _SLACK
        may = not policy.only_out and not target.suspended_in
        if low and may and self._rested(target, "in", policy.in_cooldown):
            return max(min(math.ceil(had * max(seen) / policy.target), had - 1), target.least, 1)
        return had

    def _rested(self, target: ScalableTarget, way: str, cooldown_s: int) -> bool:
        return self._looked - self._scaled.get((target.key, way), -math.inf) >= cooldown_s

    async def _apply(self, target: ScalableTarget, action: ScheduledScaling) -> None:
        """A scheduled action sets the target's bounds, which the neighbour keeps."""
        wanted: dict[str, Any] = {
            "ServiceNamespace": _NAMESPACE,
            "ResourceId": target.resource,
            "ScalableDimension": "lambda:function:ProvisionedConcurrency",
            "MinCapacity": target.least if action.least is None else action.least,
            "MaxCapacity": target.most if action.most is None else action.most,
        }
        try:
            await self._neighbours.call(
                "application-autoscaling",
                "RegisterScalableTarget",
                wanted,
                account=target.account,
                region=target.region,
            )
        except AWSError as error:
            _log.warning("scheduled action %s: %s", action.arn, error)

    async def _hold(self, target: ScalableTarget, cause: str) -> None:
        """Bring what is provisioned within the target's bounds."""
        config = self._config(target)
        had = config.wanted if config is not None else 0
        wanted = max(min(had, target.most), target.least)
        if wanted != had and wanted > 0:
            await self._set(target, wanted, cause)

    async def _set(self, target: ScalableTarget, wanted: int, cause: str) -> None:
        began = self._clock.now()
        status, message = "Successful", f"Successfully set provisioned concurrency to {wanted}."
        try:
            name, _, qualifier = target.resource.removeprefix("function:").partition(":")
            await self._provision(target.account, target.region, name, qualifier, wanted)
        except AWSError as error:
            status, message = (
                "Failed",
                f"Failed to set provisioned concurrency to {wanted}. Reason: {error.message}",
            )
            _log.warning("%s: %s", target.resource, message)
        activity = ScalingActivity(
            account=target.account,
            region=target.region,
            number=f"{began.timestamp():020.6f}-{uuid.uuid4()}",
            resource=target.resource,
            cause=cause,
            description=f"Setting provisioned concurrency to {wanted}.",
            began=began,
            status=status,
            message=message,
        )
        kept = self._resources.scaling_activities.under(f"{target.account}/{target.region}/")
        collection = self._resources.scaling_activities
        old = [collection.remove(each.key) for each in kept[: max(len(kept) - _MOST_ACTIVITIES, 0)]]
        await self._resources.commit(collection.put(activity.key, activity), *old)

    def _config(self, target: ScalableTarget) -> Provisioned | None:
        name = target.resource.removeprefix("function:").replace(":", "/")
        return self._resources.provisioned.get(f"{target.account}/{target.region}/{name}")

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name="lambda: scaling")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("scaling: a step failed", exc_info=error)


def _tracks(policy: dict[str, Any], resource: str) -> bool:
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration") or {}
    metric = (tracking.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
    return policy["ResourceId"] == resource and metric == _METRIC


def _tracking(policy: dict[str, Any]) -> Tracking:
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    return Tracking(
        name=policy["PolicyName"],
        target=tracking["TargetValue"],
        out_cooldown=tracking.get("ScaleOutCooldown") or 0,
        in_cooldown=tracking.get("ScaleInCooldown") or 0,
        only_out=bool(tracking.get("DisableScaleIn")),
    )


def _scheduled(action: dict[str, Any], since: datetime) -> ScheduledScaling:
    bounds = action.get("ScalableTargetAction") or {}
    return ScheduledScaling(
        arn=action["ScheduledActionARN"],
        schedule=action["Schedule"],
        timezone=action.get("Timezone") or "UTC",
        since=since,
        start=action.get("StartTime"),
        end=action.get("EndTime"),
        least=bounds.get("MinCapacity"),
        most=bounds.get("MaxCapacity"),
    )


def _is_due(action: ScheduledScaling, before: float, now: float) -> bool:
    """Whether the action's hour came after `before` and by `now`."""
    try:
        zone = ZoneInfo(action.timezone)
        if action.schedule.startswith("at("):
            due: datetime | None = datetime.fromisoformat(action.schedule[3:-1]).replace(tzinfo=zone)
        else:
            # The expression is read as if the zone's wall clock were UTC's.
            wall = datetime.fromtimestamp(before, zone).replace(tzinfo=UTC)
            due = schedule_expression.parse(action.schedule).next_after(wall, action.since)
            due = due.replace(tzinfo=zone) if due is not None else None
    except (ValueError, KeyError, ZoneInfoNotFoundError) as error:
        _log.warning("scheduled action %s is never due: %s", action.arn, error)
        return False
    if due is None or not before < due.timestamp() <= now:
        return False
    return not (action.start and due < action.start) and not (action.end and due > action.end)


def _shown(activity: ScalingActivity) -> dict[str, Any]:
    moment = activity.began.timestamp()
    return {
        "ActivityId": activity.number.rpartition(".")[2].partition("-")[2],
        "ServiceNamespace": _NAMESPACE,
        "ResourceId": activity.resource,
        "ScalableDimension": "lambda:function:ProvisionedConcurrency",
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": moment,
        "EndTime": moment,
        "StatusCode": activity.status,
        "StatusMessage": activity.message,
    }


def utilised(busy: int, ready: int) -> float:
    """The share of the initialised environments that was in use at most."""
    return min(busy / ready, 1.0) if ready else 0.0
