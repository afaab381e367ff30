"""A deployment under way: hooks, traffic, alarms, rollback.

Each step is written down before the next begins, so that a restart goes on where it was; traffic is set anew then,
and a hook whose answer had not come is called again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lambay.aws import Ask, AWSError, Principal
from lambay.clock import Clock
from lambay.deployments.ports import AlarmStates
from lambay.deployments.records import (
    AFTER,
    ALLOW,
    BEFORE,
    EVENTS,
    AppSpec,
    Deployment,
    DeploymentGroup,
    Event,
    Shifting,
    Status,
)
from lambay.deployments.shifting import ALL_AT_ONCE, steps
from lambay.store import Collection, Store

_log = logging.getLogger(__name__)

_HOOK_LIMIT_S = 3600
_ID_LETTERS = string.ascii_uppercase + string.digits


class _Ended(Exception):
    """Why a deployment does not go on."""

    def __init__(self, status: Status, code: str, message: str, event: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.event = event


class Rollouts:
    """Runs deployments; `changed` wakes one to look at its record again."""

    def __init__(
        self,
        store: Store,
        deployments: Collection[Deployment],
        groups: Collection[DeploymentGroup],
        ask: Ask,
        alarms: AlarmStates,
        clock: Clock,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._groups = groups
        self._ask = ask
        self._alarms = alarms
        self._clock = clock
        self._running: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[str, asyncio.Event] = {}
        alarms.on_change(self._alarm_changed)

    def start(self) -> None:
        """Go on with what an earlier run left."""
        for deployment in self._deployments:
            if not deployment.over:
                self.begin(deployment)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._running.clear()

    def begin(self, deployment: Deployment) -> None:
        self._running[deployment.key] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(
            self._run(deployment.key), name=f"deployment {deployment.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def changed(self, key: str) -> None:
        """A deployment's record says something new to its run."""
        if key in self._running:
            self._running[key].set()

    async def ended(self, key: str) -> Deployment:
        """The deployment, once it is over; with its rollback where there is one."""
        while not self._settled(key):
            await self._ends.setdefault(key, asyncio.Event()).wait()
        return self._deployments[key]

    def _settled(self, key: str) -> bool:
        deployment = self._deployments[key]
        if not deployment.over or key in self._running:
            return False
        follower = f"{deployment.account}/{deployment.region}/{deployment.rollback_id}"
        return not deployment.rollback_id or follower not in self._running

    def _alarm_changed(self, change: Any) -> None:
        for changed in self._running.values():
            changed.set()

    async def _run(self, key: str) -> None:
        try:
            await self._whole(key)
        finally:
            self._running.pop(key, None)
            for waiting in self._ends.values():
                waiting.set()
            self._ends.clear()

    async def _whole(self, key: str) -> None:
        try:
            if self._deployments[key].status == "Created":
                await self._change(key, status="InProgress", started=self._clock.now())
                await self._tell(self._deployments[key], "DeploymentStart")
                await self._check_alias(self._deployments[key])
            await self._hook(key, BEFORE)
            await self._shift(key)
            await self._hook(key, AFTER)
            self._check(key, AFTER)
            await self._change(key, status="Succeeded", completed=self._clock.now())
            await self._tell(self._deployments[key], "DeploymentSuccess")
        except _Ended as end:
            await self._give_up(key, end)
        except Exception as error:
            _log.exception("deployment %s failed", key)
            await self._give_up(key, _Ended("Failed", "INTERNAL_ERROR", str(error), self._current(key)))

    def _current(self, key: str) -> str:
        """The lifecycle event that is under way or comes next."""
        events = self._deployments[key].events
        return next((event.name for event in events if event.status in ("Pending", "InProgress")), AFTER)

    async def _check_alias(self, deployment: Deployment) -> None:
        spec = deployment.spec
        found = await self._lambda(
            deployment, "GetAlias", {"FunctionName": spec.function, "Name": spec.alias}
        )
        if deployment.rolls_back:
            return
        if found["FunctionVersion"] != spec.current:
            raise _Ended(
                "Failed",
                "INVALID_LAMBDA_CONFIGURATION",
                f"The alias {spec.alias} of {spec.function} points to version {found['FunctionVersion']}, not to the "
                f"AppSpec file's CurrentVersion, {spec.current}.",
                BEFORE,
            )

    async def _hook(self, key: str, name: str) -> None:
        """Call the event's function and wait for its answer, at most an hour."""
        deployment = self._deployments[key]
        event = deployment.event(name)
        if event.status in ("Succeeded", "Skipped"):
            return
        function = deployment.spec.hooks.get(name)
        if function is None:
            now = self._clock.now()
            await self._event(key, name, status="Succeeded", started=now, ended=now)
            return
        if event.status == "Pending":
            execution = secrets.token_urlsafe(24)
            await self._event(key, name, status="InProgress", started=self._clock.now(), execution=execution)
        calling = asyncio.ensure_future(self._call_hook(self._deployments[key], name, function))
        calling.add_done_callback(lambda _: self.changed(key))
        started = self._deployments[key].event(name).started
        assert started is not None
        try:
            answered = await self._until(
                key,
                name,
                lambda: (
                    self._deployments[key].event(name).status != "InProgress"
                    or (calling.done() and calling.result() is not None)
                ),
                started.timestamp() + _HOOK_LIMIT_S,
            )
            if self._deployments[key].event(name).status == "Succeeded":
                return
            if not answered:
                message = (
                    f"The function {function} did not call PutLifecycleEventHookExecutionStatus in an hour."
                )
            elif self._deployments[key].event(name).status == "Failed":
                message = f"The function {function} answered with the status Failed."
            else:
                message = f"The function {function} failed: {calling.result()}"
        finally:
            calling.cancel()
        raise _Ended("Failed", "HOOK_EXECUTION_FAILURE", message, name)

    async def _call_hook(self, deployment: Deployment, name: str, function: str) -> str | None:
        """What went wrong with the call; None where the function has been called."""
        event = {
            "DeploymentId": deployment.name,
            "LifecycleEventHookExecutionId": deployment.event(name).execution,
        }
        payload = json.dumps(event).encode()
        try:
            answer = await self._ask(
                _service(deployment),
                "lambda",
                "Invoke",
                {"FunctionName": function, "Payload": payload},
                account=deployment.account,
                region=deployment.region,
            )
        except AWSError as error:
            return f"{error.code}: {error.message}"
        if "FunctionError" not in answer:
            return None
        body = answer["Payload"]
        return (body if isinstance(body, bytes) else body.read()).decode(errors="replace")

    async def _shift(self, key: str) -> None:
        """Move the traffic, step by step from the first shift on."""
        if self._deployments[key].event(ALLOW).status == "Pending":
            await self._event(key, ALLOW, status="InProgress", started=self._clock.now())
        started = self._deployments[key].event(ALLOW).started
        if self._deployments[key].event(ALLOW).status != "InProgress":
            return
        assert started is not None
        for after, percentage in steps(self._deployments[key].shifting):
            await self._until(key, ALLOW, lambda: False, started.timestamp() + after)
            self._check(key, ALLOW)
            if percentage <= self._deployments[key].percentage:
                continue
            await self._route(self._deployments[key], percentage)
            await self._change(key, percentage=float(percentage))
        await self._event(key, ALLOW, status="Succeeded", ended=self._clock.now())

    async def _route(self, deployment: Deployment, percentage: float) -> None:
        spec = deployment.spec
        version, weights = spec.current, {spec.target: percentage / 100}
        if percentage >= 100:
            version, weights = spec.target, {}
        await self._lambda(
            deployment,
            "UpdateAlias",
            {
                "FunctionName": spec.function,
                "Name": spec.alias,
                "FunctionVersion": version,
                "RoutingConfig": {"AdditionalVersionWeights": weights},
            },
        )

    async def _lambda(
        self, deployment: Deployment, operation: str, input: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            return await self._ask(
                _service(deployment),
                "lambda",
                operation,
                input,
                account=deployment.account,
                region=deployment.region,
            )
        except AWSError as error:
            code = (
                "INVALID_LAMBDA_FUNCTION" if error.code == "ResourceNotFoundException" else "INTERNAL_ERROR"
            )
            if error.code in ("AccessDeniedException", "AccessDenied"):
                code = "IAM_ROLE_PERMISSIONS"
            raise _Ended("Failed", code, f"{operation}: {error.message}", ALLOW) from error

    async def _until(self, key: str, event: str, done: Callable[[], bool], deadline: float) -> bool:
        """Whether `done` came true before `deadline`. Raises _Ended on a stop or an alarm meanwhile."""
        changed = self._running[key]
        while True:
            changed.clear()
            self._check(key, event)
            if done():
                return True
            left = deadline - self._clock.time()
            if left <= 0:
                return False
            waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._clock.sleep(left))]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _check(self, key: str, event: str) -> None:
        """Raises _Ended where somebody stopped the deployment or an alarm is on."""
        deployment = self._deployments[key]
        if deployment.stopping:
            raise _Ended("Stopped", "MANUAL_STOP", "The deployment was stopped by a user.", event)
        watched = deployment.alarms
        if not watched.enabled or not watched.names or deployment.rolls_back:
            return
        states = self._alarms.states(deployment.account, deployment.region, watched.names)
        active = [name for name in watched.names if states.get(name) == "ALARM"]
        unknown = [name for name in watched.names if name not in states]
        if active:
            message = f"One or more alarms have been activated: {', '.join(active)}."
            raise _Ended("Stopped", "ALARM_ACTIVE", message, event)
        if unknown and not watched.ignore_unknown:
            message = f"The states of these alarms could not be retrieved: {', '.join(unknown)}."
            raise _Ended("Stopped", "ALARM_ACTIVE", message, event)

    async def _give_up(self, key: str, end: _Ended) -> None:
        deployment = self._deployments[key]
        now = self._clock.now()
        changed = deployment.with_event(
            end.event,
            status="Failed",
            started=deployment.event(end.event).started or now,
            ended=now,
            message=end.message,
        )
        skipped = [event.name for event in changed.events if event.status == "Pending"]
        for name in skipped:
            changed = changed.with_event(name, status="Skipped")
        changed = msgspec.structs.replace(
            changed, status=end.status, completed=now, error_code=end.code, error_message=end.message
        )
        cause = {
            "ALARM_ACTIVE": "DEPLOYMENT_STOP_ON_ALARM",
            "MANUAL_STOP": "DEPLOYMENT_STOP_ON_REQUEST",
        }.get(end.code, "DEPLOYMENT_FAILURE")
        wanted = changed.rollback.wants(cause) or deployment.stopping == "rollback"
        if not wanted or changed.rolls_back:
            await self._store.commit(self._deployments.put(key, changed))
            await self._tell(changed, "DeploymentFailure" if end.status == "Failed" else "DeploymentStop")
            return
        back = _backwards(changed, self._clock)
        changed = msgspec.structs.replace(changed, rollback_id=back.name)
        await self._store.commit(self._deployments.put(key, changed), self._deployments.put(back.key, back))
        self.begin(back)
        await self._tell(changed, "DeploymentFailure" if end.status == "Failed" else "DeploymentStop")
        await self._tell(changed, "DeploymentRollback")

    async def _tell(self, deployment: Deployment, event: str) -> None:
        """Publish to the topics that the group's triggers name for this event."""
        group = self._groups.get(
            f"{deployment.account}/{deployment.region}/{deployment.application}/{deployment.group}"
        )
        for trigger in group.triggers if group is not None else ():
            if event not in trigger.get("triggerEvents", ()):
                continue
            message = {
                "region": deployment.region,
                "accountId": deployment.account,
                "eventTriggerName": trigger.get("triggerName"),
                "applicationName": deployment.application,
                "deploymentId": deployment.name,
                "deploymentGroupName": deployment.group,
                "createTime": str(deployment.created),
                "completeTime": str(deployment.completed or ""),
                "status": deployment.status.upper(),
            }
            if deployment.error_code:
                error = {"ErrorCode": deployment.error_code, "ErrorMessage": deployment.error_message}
                message["errorInformation"] = json.dumps(error)
            topic = {
                "TopicArn": trigger["triggerTargetArn"],
                "Subject": f"{deployment.status}: AWS CodeDeploy {deployment.name}",
                "Message": json.dumps(message),
            }
            try:
                await self._ask(
                    _service(deployment),
                    "sns",
                    "Publish",
                    topic,
                    account=deployment.account,
                    region=deployment.region,
                )
            except AWSError as error:
                _log.warning("deployment %s: %s: %s", deployment.name, topic["TopicArn"], error)

    async def _event(self, key: str, name: str, **changes: Any) -> None:
        await self._store.commit(
            self._deployments.put(key, self._deployments[key].with_event(name, **changes))
        )

    async def _change(self, key: str, **changes: Any) -> None:
        changed = msgspec.structs.replace(self._deployments[key], **changes)
        await self._store.commit(self._deployments.put(key, changed))


def fresh_id() -> str:
    """`d-` and nine letters or digits."""
    return "d-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def pending() -> tuple[Event, ...]:
    return tuple(Event(name) for name in EVENTS)


def _backwards(failed: Deployment, clock: Clock) -> Deployment:
    """The deployment that gives the alias back to its earlier version, all at once and without hooks."""
    spec = AppSpec(failed.spec.function, failed.spec.alias, failed.spec.target, failed.spec.current)
    return Deployment(
        account=failed.account,
        region=failed.region,
        name=fresh_id(),
        application=failed.application,
        group=failed.group,
        config=ALL_AT_ONCE,
        role=failed.role,
        shifting=Shifting(),
        revision=failed.revision,
        spec=spec,
        created=clock.now(),
        creator="codeDeployRollback",
        description="Deployment to roll back traffic to the previous version",
        events=pending(),
        rolls_back=failed.name,
    )


def _service(deployment: Deployment) -> Principal:
    """CodeDeploy in a session of the group's service role."""
    name = deployment.role.rsplit("/", 1)[-1]
    return Principal(
        "assumed-role",
        deployment.account,
        f"arn:aws:sts::{deployment.account}:assumed-role/{name}/{deployment.name}",
        f"AROA{name}:{deployment.name}",
        role_arn=deployment.role,
        session_name=deployment.name,
    )
