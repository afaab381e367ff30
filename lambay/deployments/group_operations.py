"""Deployment groups and deployment configurations."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambay.aws import AWSError, Call
from lambay.deployments import shifting
from lambay.deployments.application_operations import tags_of
from lambay.deployments.records import Alarms, Deployment, DeploymentConfig, DeploymentGroup, Rollback
from lambay.deployments.room import Operations, page

_ROLE = re.compile(r"arn:aws[a-zA-Z-]*:iam::\d{12}:role/.+")
_BUILT = datetime(2017, 11, 28, tzinfo=UTC)
_SERVICE = "codedeploy.amazonaws.com"
_MOST_ALARMS = 10
_MOST_TRIGGERS = 10

# For servers and containers; a function has none of it.
_NOT_FOR_FUNCTIONS = (
    "ec2TagFilters",
    "onPremisesInstanceTagFilters",
    "autoScalingGroups",
    "ec2TagSet",
    "onPremisesTagSet",
    "ecsServices",
    "loadBalancerInfo",
    "blueGreenDeploymentConfiguration",
)


class GroupOperations(Operations):
    """See "Working with deployment groups" and "Working with deployment configurations in CodeDeploy"."""

    async def create_deployment_group(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        name = input["deploymentGroupName"]
        if f"{application.key}/{name}" in self._groups:
            raise AWSError(
                "DeploymentGroupAlreadyExistsException", f"Deployment group already exists: {name}"
            )
        group = DeploymentGroup(
            call.account,
            call.region,
            name,
            application=application.name,
            id=str(uuid.uuid4()),
            config=input.get("deploymentConfigName") or shifting.ALL_AT_ONCE,
            role="",
            tags=tags_of(input.get("tags")),
        )
        group = self._with_settings(call, group, input)
        await self._check_role(group)
        await self._store.commit(self._groups.put(group.key, group))
        return {"deploymentGroupId": group.id}

    async def get_deployment_group(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        group = self._group(call, input["applicationName"], input["deploymentGroupName"])
        return {"deploymentGroupInfo": self._group_shown(group)}

    async def batch_get_deployment_groups(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application, names = input["applicationName"], input["deploymentGroupNames"]
        found = [self._group_shown(self._group(call, application, name)) for name in names]
        return {"deploymentGroupsInfo": found}

    async def list_deployment_groups(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        found = self._groups.under(f"{application.key}/")
        answer = page(
            found, input, key=lambda each: each.name, member="deploymentGroups", shown=lambda each: each.name
        )
        return {"applicationName": application.name, **answer}

    async def update_deployment_group(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        group = self._group(call, input["applicationName"], input["currentDeploymentGroupName"])
        changed = self._with_settings(call, group, input)
        if changed.role != group.role:
            await self._check_role(changed)
        if input.get("deploymentConfigName"):
            changed = msgspec.structs.replace(changed, config=input["deploymentConfigName"])
        changes = []
        name = input.get("newDeploymentGroupName")
        if name and name != group.name:
            changed = msgspec.structs.replace(changed, name=name)
            if changed.key in self._groups:
                raise AWSError(
                    "DeploymentGroupAlreadyExistsException", f"Deployment group already exists: {name}"
                )
            changes.append(self._groups.remove(group.key))
        await self._store.commit(*changes, self._groups.put(changed.key, changed))
        return {"hooksNotCleanedUp": []}

    async def delete_deployment_group(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Deleting one that isn't there succeeds, as in CodeDeploy."""
        application = self._application(call, input["applicationName"])
        key = f"{application.key}/{input['deploymentGroupName']}"
        if key in self._groups:
            await self._store.commit(self._groups.remove(key))
        return {"hooksNotCleanedUp": []}

    async def create_deployment_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = input["deploymentConfigName"]
        if name.startswith("CodeDeployDefault."):
            raise AWSError(
                "InvalidDeploymentConfigNameException", f"deploymentConfigName: {name!r} can't be used."
            )
        platform = input.get("computePlatform", "Server")
        if platform != "Lambda":
            raise AWSError(
                "InvalidComputePlatformException",
                f"computePlatform: {platform} is not available in Lambay, which deploys functions. Give Lambda.",
            )
        if input.get("minimumHealthyHosts"):
            raise AWSError(
                "InvalidMinimumHealthyHostValueException",
                "minimumHealthyHosts: functions have no hosts. Give trafficRoutingConfig.",
            )
        config = DeploymentConfig(
            call.account,
            call.region,
            name,
            id=str(uuid.uuid4()),
            created=self._clock.now(),
            shifting=shifting.parse(input.get("trafficRoutingConfig") or {}),
        )
        if config.key in self._configs:
            raise AWSError(
                "DeploymentConfigAlreadyExistsException", f"Deployment configuration already exists: {name}"
            )
        await self._store.commit(self._configs.put(config.key, config))
        return {"deploymentConfigId": config.id}

    async def get_deployment_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        config = self._config(call, input["deploymentConfigName"])
        shown = {
            "deploymentConfigId": config.id,
            "deploymentConfigName": config.name,
            "createTime": config.created,
            "computePlatform": "Lambda",
            "trafficRoutingConfig": shifting.shown(config.shifting),
        }
        return {"deploymentConfigInfo": shown}

    async def list_deployment_configs(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        names = [*shifting.BUILT_IN]
        names += [config.name for config in self._configs.under(f"{call.account}/{call.region}/")]
        return page(
            names, input, key=lambda name: name, member="deploymentConfigsList", shown=lambda name: name
        )

    async def delete_deployment_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Deleting one that isn't there succeeds, as in CodeDeploy."""
        name = input["deploymentConfigName"]
        if name in shifting.BUILT_IN:
            raise AWSError("InvalidOperationException", "Cannot delete predefined configurations.")
        place = f"{call.account}/{call.region}/"
        if any(group.config == name for group in self._groups.under(place)):
            raise AWSError(
                "DeploymentConfigInUseException", f"The deployment configuration {name} is in use."
            )
        if f"{place}{name}" in self._configs:
            await self._store.commit(self._configs.remove(f"{place}{name}"))
        return {}

    def _config(self, call: Call, name: str) -> DeploymentConfig:
        """Raises DeploymentConfigDoesNotExistException."""
        if name in shifting.BUILT_IN:
            number = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
            built = shifting.BUILT_IN[name]
            return DeploymentConfig(
                call.account, call.region, name, id=number, created=_BUILT, shifting=built
            )
        found = self._configs.get(f"{call.account}/{call.region}/{name}")
        if found is None:
            raise AWSError(
                "DeploymentConfigDoesNotExistException", f"No Deployment Configuration found for name: {name}"
            )
        return found

    def _with_settings(self, call: Call, group: DeploymentGroup, input: Mapping[str, Any]) -> DeploymentGroup:
        """The group with what `input` gives, checked."""
        for member in _NOT_FOR_FUNCTIONS:
            if input.get(member):
                raise AWSError(
                    "InvalidInputException", f"{member}: the compute platform Lambda has none; leave it out."
                )
        changes: dict[str, Any] = {}
        if input.get("deploymentConfigName"):
            self._config(call, input["deploymentConfigName"])
        if "serviceRoleArn" in input:
            if _ROLE.fullmatch(input["serviceRoleArn"]) is None:
                raise AWSError(
                    "InvalidRoleException", f"serviceRoleArn: {input['serviceRoleArn']} is not a role."
                )
            changes["role"] = input["serviceRoleArn"]
        _check_style(input.get("deploymentStyle") or {})
        if input.get("alarmConfiguration") is not None:
            changes["alarms"] = alarms(input["alarmConfiguration"])
        if input.get("autoRollbackConfiguration") is not None:
            changes["rollback"] = rollback(input["autoRollbackConfiguration"])
        if input.get("triggerConfigurations") is not None:
            triggers = tuple(input["triggerConfigurations"])
            if len(triggers) > _MOST_TRIGGERS:
                raise AWSError(
                    "TriggerTargetsLimitExceededException", f"At most {_MOST_TRIGGERS} triggers are allowed."
                )
            for trigger in triggers:
                if ":sns:" not in trigger.get("triggerTargetArn", ""):
                    raise AWSError(
                        "InvalidTriggerConfigException",
                        "triggerTargetArn: it is not the ARN of an SNS topic.",
                    )
            changes["triggers"] = triggers
        return msgspec.structs.replace(group, **changes)

    async def _check_role(self, group: DeploymentGroup) -> None:
        """Raises InvalidRoleException where CodeDeploy can't act as the group's role."""
        if not await self._roles.assumable(group.role, region=group.region, service=_SERVICE):
            raise AWSError(
                "InvalidRoleException",
                f"AWS CodeDeploy does not have the permissions required to assume the role {group.role}.",
            )

    def _group_shown(self, group: DeploymentGroup) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "applicationName": group.application,
            "deploymentGroupId": group.id,
            "deploymentGroupName": group.name,
            "deploymentConfigName": group.config,
            "serviceRoleArn": group.role,
            "triggerConfigurations": list(group.triggers),
            "alarmConfiguration": alarms_shown(group.alarms),
            "autoRollbackConfiguration": rollback_shown(group.rollback),
            "deploymentStyle": STYLE,
            "outdatedInstancesStrategy": "UPDATE",
            "computePlatform": "Lambda",
        }
        deployed = sorted(self._of_group(group), key=lambda each: each.created)
        done = [each for each in deployed if each.status == "Succeeded"]
        for member, found in (("lastAttemptedDeployment", deployed), ("lastSuccessfulDeployment", done)):
            if found:
                last = found[-1]
                shown[member] = {
                    "deploymentId": last.name,
                    "status": last.status,
                    "createTime": last.created,
                }
                if last.completed is not None:
                    shown[member]["endTime"] = last.completed
        if done:
            shown["targetRevision"] = done[-1].revision
        return shown

    def _of_group(self, group: DeploymentGroup) -> list[Deployment]:
        place = f"{group.account}/{group.region}/"
        wanted = (group.application, group.name)
        return [each for each in self._deployments.under(place) if (each.application, each.group) == wanted]


STYLE = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}


def _check_style(given: Mapping[str, Any]) -> None:
    if any(given.get(member, wanted) != wanted for member, wanted in STYLE.items()):
        raise AWSError(
            "InvalidDeploymentStyleException",
            "deploymentStyle: for the compute platform Lambda it is BLUE_GREEN, WITH_TRAFFIC_CONTROL.",
        )


def alarms(given: Mapping[str, Any]) -> Alarms:
    """Raises AlarmsLimitExceededException and InvalidAlarmConfigException."""
    names = tuple(alarm["name"] for alarm in given.get("alarms") or () if alarm.get("name"))
    if len(names) > _MOST_ALARMS:
        raise AWSError("AlarmsLimitExceededException", f"At most {_MOST_ALARMS} alarms are allowed.")
    if len(set(names)) < len(names):
        raise AWSError("InvalidAlarmConfigException", "alarms: an alarm is named twice.")
    return Alarms(names, bool(given.get("enabled", False)), bool(given.get("ignorePollAlarmFailure", False)))


def rollback(given: Mapping[str, Any]) -> Rollback:
    """Raises InvalidAutoRollbackConfigException."""
    events = tuple(given.get("events") or ())
    if given.get("enabled") and not events:
        raise AWSError(
            "InvalidAutoRollbackConfigException", "events: name at least one where enabled is true."
        )
    return Rollback(bool(given.get("enabled", False)), events)


def alarms_shown(kept: Alarms) -> dict[str, Any]:
    return {
        "enabled": kept.enabled,
        "ignorePollAlarmFailure": kept.ignore_unknown,
        "alarms": [{"name": name} for name in kept.names],
    }


def rollback_shown(kept: Rollback) -> dict[str, Any]:
    return {"enabled": kept.enabled, "events": list(kept.events)}
