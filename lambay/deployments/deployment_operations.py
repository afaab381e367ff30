"""Deployments: begun, watched, answered by hooks, stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from lambay.aws import AWSError, Call, Principal, arn
from lambay.deployments import appspec
from lambay.deployments.application_operations import ApplicationOperations
from lambay.deployments.group_operations import (
    STYLE,
    GroupOperations,
    alarms,
    alarms_shown,
    rollback,
    rollback_shown,
)
from lambay.deployments.records import AppSpec, Deployment, DeploymentGroup, Event
from lambay.deployments.rollout import fresh_id, pending
from lambay.deployments.room import page


class DeploymentOperations(ApplicationOperations, GroupOperations):
    """See "Working with deployments in CodeDeploy"."""

    async def create_deployment(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        group = self._group(call, input["applicationName"], input.get("deploymentGroupName"))
        location = input.get("revision")
        if not location:
            raise AWSError("RevisionRequiredException", "Revision is required")
        spec = appspec.parse(await self._text(call, group, location))
        deployment = self._made(call, group, spec, location, input)
        await self._begin(deployment)
        return {"deploymentId": deployment.name}

    async def get_deployment(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {"deploymentInfo": _shown(self._deployment(call, input["deploymentId"]))}

    async def batch_get_deployments(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        found = [self._deployment(call, number) for number in input["deploymentIds"]]
        return {"deploymentsInfo": [_shown(deployment) for deployment in found]}

    async def list_deployments(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Newest first."""
        if input.get("applicationName"):
            self._application(call, input["applicationName"])
        found = self._deployments.under(f"{call.account}/{call.region}/")
        for member, field in (("applicationName", "application"), ("deploymentGroupName", "group")):
            if input.get(member):
                found = [each for each in found if getattr(each, field) == input[member]]
        if input.get("includeOnlyStatuses"):
            found = [each for each in found if each.status in input["includeOnlyStatuses"]]
        times = input.get("createTimeRange") or {}
        if times.get("start"):
            found = [each for each in found if each.created >= times["start"]]
        if times.get("end"):
            found = [each for each in found if each.created <= times["end"]]
        return page(
            found,
            input,
            key=lambda each: (-each.created.timestamp(), each.name),
            member="deployments",
            shown=lambda each: each.name,
        )

    async def stop_deployment(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        deployment = self._deployment(call, input["deploymentId"])
        if deployment.over:
            raise AWSError(
                "DeploymentAlreadyCompletedException",
                f"The deployment {deployment.name} has already been completed",
            )
        back = input.get("autoRollbackEnabled")
        stopping = "rollback" if back else "stop"
        changes: dict[str, Any] = {"stopping": stopping}
        if back is False:
            changes["rollback"] = msgspec.structs.replace(deployment.rollback, enabled=False)
        changed = msgspec.structs.replace(deployment, **changes)
        await self._store.commit(self._deployments.put(changed.key, changed))
        self._rollouts.changed(changed.key)
        return {"status": "Pending", "statusMessage": "Stopping the deployment was requested."}

    async def continue_deployment(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Concerns instances that wait; a function's deployment never does."""
        deployment = self._deployment(call, input.get("deploymentId"))
        if deployment.over:
            raise AWSError(
                "DeploymentAlreadyCompletedException",
                f"The deployment {deployment.name} has already been completed",
            )
        raise AWSError(
            "DeploymentIsNotInReadyStateException", "The deployment does not have a status of Ready."
        )

    async def list_deployment_targets(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        deployment = self._deployment(call, input.get("deploymentId"))
        return {"targetIds": [_target_id(deployment)]}

    async def get_deployment_target(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        deployment = self._deployment(call, input["deploymentId"])
        return {"deploymentTarget": self._target(deployment, input["targetId"])}

    async def batch_get_deployment_targets(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        deployment = self._deployment(call, input["deploymentId"])
        return {"deploymentTargets": [self._target(deployment, number) for number in input["targetIds"]]}

    async def put_lifecycle_event_hook_execution_status(
        self, call: Call, input: dict[str, Any]
    ) -> dict[str, Any]:
        """A hook's answer: Succeeded lets the deployment go on, Failed ends it."""
        deployment = self._deployment(call, input.get("deploymentId"))
        execution = input.get("lifecycleEventHookExecutionId") or ""
        event = next((each for each in deployment.events if each.execution == execution and execution), None)
        if event is None:
            raise AWSError(
                "InvalidLifecycleEventHookExecutionIdException",
                f"lifecycleEventHookExecutionId: {execution!r} is not one of {deployment.name}.",
            )
        status = input.get("status")
        if status not in ("Succeeded", "Failed"):
            raise AWSError(
                "InvalidLifecycleEventHookExecutionStatusException",
                f"status: {status} is not Succeeded or Failed.",
            )
        if event.status != "InProgress":
            raise AWSError(
                "LifecycleEventAlreadyCompletedException",
                f"The lifecycle event {event.name} of {deployment.name} has been completed.",
            )
        ended = deployment.with_event(event.name, status=status, ended=self._clock.now())
        await self._store.commit(self._deployments.put(ended.key, ended))
        self._rollouts.changed(ended.key)
        return {"lifecycleEventHookExecutionId": execution}

    async def start_deployment(
        self,
        account: str,
        region: str,
        application: str,
        group: str,
        spec: AppSpec,
        *,
        creator: str = "CloudFormation",
    ) -> str:
        """Begin to move an alias for another room; the deployment's id, for `ended`. Raises AWSError."""
        root = Principal("service", account, "cloudformation.amazonaws.com", "")
        call = Call("", account, region, root, "codedeploy", "CreateDeployment")
        text = msgspec.json.encode(appspec.rendered(spec)).decode()
        location = {"revisionType": "AppSpecContent", "appSpecContent": {"content": text}}
        deployment = self._made(call, self._group(call, application, group), spec, location, {})
        deployment = msgspec.structs.replace(deployment, creator=creator)
        await self._begin(deployment)
        return deployment.name

    async def ended(self, account: str, region: str, deployment_id: str) -> Deployment:
        """The deployment, once it and its rollback are over: `status`, `error_code`, `error_message`."""
        return await self._rollouts.ended(f"{account}/{region}/{deployment_id}")

    def _made(
        self,
        call: Call,
        group: DeploymentGroup,
        spec: AppSpec,
        location: dict[str, Any],
        input: dict[str, Any],
    ) -> Deployment:
        """Raises DeploymentLimitExceededException where the group is at work already."""
        active = [each.name for each in self._of_group(group) if not each.over]
        if active:
            raise AWSError(
                "DeploymentLimitExceededException",
                f"The Deployment Group '{group.name}' already has an active Deployment '{active[0]}'",
            )
        config = self._config(call, input.get("deploymentConfigName") or group.config)
        watched, back = group.alarms, group.rollback
        if input.get("overrideAlarmConfiguration") is not None:
            watched = alarms(input["overrideAlarmConfiguration"])
        if input.get("autoRollbackConfiguration") is not None:
            back = rollback(input["autoRollbackConfiguration"])
        return Deployment(
            call.account,
            call.region,
            fresh_id(),
            application=group.application,
            group=group.name,
            config=config.name,
            role=group.role,
            shifting=config.shifting,
            revision=location,
            spec=spec,
            created=self._clock.now(),
            description=input.get("description", ""),
            events=pending(),
            alarms=watched,
            rollback=back,
        )

    async def _begin(self, deployment: Deployment) -> None:
        place = f"{deployment.account}/{deployment.region}/{deployment.application}"
        revision = self._revision(self._applications[place], deployment.revision)
        now = self._clock.now()
        used = msgspec.structs.replace(
            revision,
            first_used=revision.first_used or now,
            last_used=now,
            groups=tuple(dict.fromkeys((*revision.groups, deployment.group))),
        )
        await asyncio.shield(
            self._store.commit(
                self._deployments.put(deployment.key, deployment), self._revisions.put(used.key, used)
            )
        )
        self._rollouts.begin(deployment)

    async def _text(self, call: Call, group: DeploymentGroup, location: dict[str, Any]) -> str:
        text = appspec.content(location)
        if text is not None:
            return text
        given = location["s3Location"]
        wanted = {"Bucket": given["bucket"], "Key": given["key"]}
        if given.get("version"):
            wanted["VersionId"] = given["version"]
        try:
            found = await self._ask(
                call.principal, "s3", "GetObject", wanted, account=call.account, region=call.region
            )
        except AWSError as error:
            raise appspec.invalid(
                f"s3Location: {given['bucket']}/{given['key']}: {error.code}: {error.message}"
            ) from None
        body = found["Body"]
        return (body if isinstance(body, bytes) else body.read()).decode(errors="replace")

    def _target(self, deployment: Deployment, number: str) -> dict[str, Any]:
        if number != _target_id(deployment):
            raise AWSError(
                "DeploymentTargetDoesNotExistException",
                f"The deployment {deployment.name} has no target {number}.",
            )
        spec = deployment.spec
        status = {"Created": "Pending", "Stopped": "Failed"}.get(deployment.status, deployment.status)
        return {
            "deploymentTargetType": "LambdaTarget",
            "lambdaTarget": {
                "deploymentId": deployment.name,
                "targetId": number,
                "targetArn": arn("lambda", deployment.region, deployment.account, f"function:{number}"),
                "status": status,
                "lastUpdatedAt": deployment.completed or deployment.started or deployment.created,
                "lifecycleEvents": [_event_shown(event) for event in deployment.events],
                "lambdaFunctionInfo": {
                    "functionName": spec.function,
                    "functionAlias": spec.alias,
                    "currentVersion": spec.current,
                    "targetVersion": spec.target,
                    "targetVersionWeight": deployment.percentage,
                },
            },
        }


def _target_id(deployment: Deployment) -> str:
    name = deployment.spec.function.rpartition("function:")[2]
    return f"{name}:{deployment.spec.alias}"


def _event_shown(event: Event) -> dict[str, Any]:
    shown: dict[str, Any] = {"lifecycleEventName": event.name, "status": event.status}
    if event.started is not None:
        shown["startTime"] = event.started
    if event.ended is not None:
        shown["endTime"] = event.ended
    if event.message:
        shown["diagnostics"] = {"errorCode": "UnknownError", "message": event.message}
    return shown


def _shown(deployment: Deployment) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group,
        "deploymentConfigName": deployment.config,
        "deploymentId": deployment.name,
        "revision": deployment.revision,
        "status": deployment.status,
        "createTime": deployment.created,
        "description": deployment.description,
        "creator": deployment.creator,
        "deploymentStyle": STYLE,
        "computePlatform": "Lambda",
        "autoRollbackConfiguration": rollback_shown(deployment.rollback),
        "overrideAlarmConfiguration": alarms_shown(deployment.alarms),
        "deploymentOverview": {
            "Pending": int(deployment.status == "Created"),
            "InProgress": int(deployment.status == "InProgress"),
            "Succeeded": int(deployment.status == "Succeeded"),
            "Failed": int(deployment.status in ("Failed", "Stopped")),
            "Skipped": 0,
            "Ready": 0,
        },
    }
    if deployment.started is not None:
        shown["startTime"] = deployment.started
    if deployment.completed is not None:
        shown["completeTime"] = deployment.completed
    if deployment.error_code:
        shown["errorInformation"] = {"code": deployment.error_code, "message": deployment.error_message}
    if deployment.rollback_id:
        message = f"The deployment {deployment.name} was rolled back by {deployment.rollback_id}."
        shown["rollbackInfo"] = {"rollbackDeploymentId": deployment.rollback_id, "rollbackMessage": message}
    if deployment.rolls_back:
        shown["rollbackInfo"] = {
            "rollbackTriggeringDeploymentId": deployment.rolls_back,
            "rollbackMessage": f"This deployment rolls back {deployment.rolls_back}.",
        }
    return shown
