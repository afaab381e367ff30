"""AWS::CloudWatch::*, AWS::ApplicationAutoScaling::*, AWS::CodeDeploy::*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.deploy.types.base import At, Made, Properties, ResourceType, gone, lowered, rest, tag_map, take
from lambay.deploy.types.ec2 import as_json
from lambay.deploy.types.plain import Plain


class Alarm(ResourceType):
    name = "AWS::CloudWatch::Alarm"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, properties.get("AlarmName") or at.name(255), properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("cloudwatch", "PutMetricAlarm", **{**properties, "AlarmName": id})
        return Made(id, {"Arn": at.arn("cloudwatch", f"alarm:{id}")})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("cloudwatch", "DeleteAlarms", AlarmNames=[id]))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("AlarmName") or at.name(255)]


class CompositeAlarm(ResourceType):
    name = "AWS::CloudWatch::CompositeAlarm"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, properties.get("AlarmName") or at.name(255), properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("cloudwatch", "PutCompositeAlarm", **{**properties, "AlarmName": id})
        return Made(id, {"Arn": at.arn("cloudwatch", f"alarm:{id}")})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("cloudwatch", "DeleteAlarms", AlarmNames=[id]))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("AlarmName") or at.name(255)]


class Dashboard(ResourceType):
    name = "AWS::CloudWatch::Dashboard"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, properties.get("DashboardName") or at.name(255), properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        body = as_json(properties["DashboardBody"])
        await at.call("cloudwatch", "PutDashboard", DashboardName=id, DashboardBody=body)
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("cloudwatch", "DeleteDashboards", DashboardNames=[id]))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("DashboardName") or at.name(255)]


_TARGET = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class ScalableTarget(ResourceType):
    name = "AWS::ApplicationAutoScaling::ScalableTarget"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(
            at, "|".join(properties[name] for name in _TARGET[1:] + _TARGET[:1]), properties, {}
        )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        target = take(properties, *_TARGET)
        given = rest(properties, "ScheduledActions", "Tags", *_TARGET)
        await at.call("application-autoscaling", "RegisterScalableTarget", **target, **given)
        wanted = {action["ScheduledActionName"]: action for action in properties.get("ScheduledActions", [])}
        for action in wanted.values():
            await at.call("application-autoscaling", "PutScheduledAction", **target, **action)
        for action in before.get("ScheduledActions", []):
            if action["ScheduledActionName"] not in wanted:
                named = take(action, "ScheduledActionName")
                await gone(at.call("application-autoscaling", "DeleteScheduledAction", **target, **named))
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        target = take(properties, *_TARGET)
        await gone(at.call("application-autoscaling", "DeregisterScalableTarget", **target))


class ScalingPolicy(ResourceType):
    name = "AWS::ApplicationAutoScaling::ScalingPolicy"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call("application-autoscaling", "PutScalingPolicy", **self._input(properties))
        return Made(made["PolicyARN"], {"Arn": made["PolicyARN"]})

    def _input(self, properties: Properties) -> dict[str, Any]:
        given = rest(properties, "ScalingTargetId")
        if "ScalingTargetId" in properties:
            resource, dimension, namespace = properties["ScalingTargetId"].split("|")
            given |= {"ResourceId": resource, "ScalableDimension": dimension, "ServiceNamespace": namespace}
        return given

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("application-autoscaling", "PutScalingPolicy", **self._input(properties))
        return Made(id, {"Arn": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        named = take(self._input(properties), "PolicyName", *_TARGET)
        await gone(at.call("application-autoscaling", "DeleteScalingPolicy", **named))


class Application(ResourceType):
    name = "AWS::CodeDeploy::Application"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("ApplicationName") or at.name(100)
        platform = properties.get("ComputePlatform")
        await at.call(
            "codedeploy",
            "CreateApplication",
            applicationName=name,
            computePlatform=platform,
            tags=properties.get("Tags"),
        )
        return Made(name)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("codedeploy", "DeleteApplication", applicationName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("ApplicationName") or at.name(100)]


class DeploymentGroup(ResourceType):
    name = "AWS::CodeDeploy::DeploymentGroup"
    extra_create_only = frozenset({"ApplicationName"})

    def _input(self, properties: Properties) -> dict[str, Any]:
        given = rest(properties, "ApplicationName", "DeploymentGroupName", "Deployment", "Tags")
        return {"applicationName": properties["ApplicationName"], **lowered(given)}

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("DeploymentGroupName") or at.name(100)
        await at.call(
            "codedeploy",
            "CreateDeploymentGroup",
            deploymentGroupName=name,
            **self._input(properties),
            tags=properties.get("Tags"),
        )
        return Made(name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call(
            "codedeploy", "UpdateDeploymentGroup", currentDeploymentGroupName=id, **self._input(properties)
        )
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        application = properties["ApplicationName"]
        named = {"applicationName": application, "deploymentGroupName": id}
        await gone(at.call("codedeploy", "DeleteDeploymentGroup", **named))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("DeploymentGroupName") or at.name(100)]


class DeploymentConfig(ResourceType):
    name = "AWS::CodeDeploy::DeploymentConfig"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("DeploymentConfigName") or at.name(100)
        given = lowered(rest(properties, "DeploymentConfigName"))
        await at.call("codedeploy", "CreateDeploymentConfig", deploymentConfigName=name, **given)
        return Made(name)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("codedeploy", "DeleteDeploymentConfig", deploymentConfigName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("DeploymentConfigName") or at.name(100)]


class BackupVault(Plain):
    name = "AWS::Backup::BackupVault"
    service, made_by, removed_by = "backup", "CreateBackupVault", "DeleteBackupVault"
    id_member = name_property = "BackupVaultName"
    name_most = 50
    attribute_paths: ClassVar[Mapping[str, str]] = {
        "BackupVaultArn": "BackupVaultArn",
        "BackupVaultName": "BackupVaultName",
    }

    def input(self, at: At, properties: Properties) -> dict[str, Any]:
        given = rest(super().input(at, properties), "AccessPolicy", "Notifications", "LockConfiguration")
        return given | (
            {"BackupVaultTags": tag_map(given["BackupVaultTags"])} if "BackupVaultTags" in given else {}
        )


class BackupPlan(Plain):
    name = "AWS::Backup::BackupPlan"
    service, made_by, removed_by = "backup", "CreateBackupPlan", "DeleteBackupPlan"
    id_member, id_path = "BackupPlanId", "BackupPlanId"
    attribute_paths: ClassVar[Mapping[str, str]] = {
        "BackupPlanArn": "BackupPlanArn",
        "BackupPlanId": "BackupPlanId",
        "VersionId": "VersionId",
    }

    def input(self, at: At, properties: Properties) -> dict[str, Any]:
        plan = dict(properties["BackupPlan"])
        rules = [
            {**rest(rule, "TargetBackupVault"), "TargetBackupVaultName": rule["TargetBackupVault"]}
            for rule in plan.pop("BackupPlanRule", [])
        ]
        return {**properties, "BackupPlan": {**plan, "Rules": rules}}


TYPES: tuple[ResourceType, ...] = (
    Alarm(),
    CompositeAlarm(),
    Dashboard(),
    ScalableTarget(),
    ScalingPolicy(),
    Application(),
    DeploymentGroup(),
    DeploymentConfig(),
    BackupVault(),
    BackupPlan(),
)
