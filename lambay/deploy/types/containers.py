"""AWS::ECS::*, as far as the service ecs goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lambay.deploy.types.base import At, Made, Properties, ResourceType, gone, lowered
from lambay.deploy.types.plain import Plain

# Maps whose keys are the user's own.
_OWN_KEYS = (
    "options",
    "dockerLabels",
    "driverOpts",
    "labels",
    "Options",
    "DockerLabels",
    "DriverOpts",
    "Labels",
)


class Cluster(Plain):
    name = "AWS::ECS::Cluster"
    service, made_by, removed_by = "ecs", "CreateCluster", "DeleteCluster"
    id_member, name_property = "cluster", "ClusterName"
    name_most = 255
    small = True
    attribute_paths: ClassVar[Mapping[str, str]] = {"Arn": "cluster.clusterArn"}


class TaskDefinition(ResourceType):
    name = "AWS::ECS::TaskDefinition"

    async def create(self, at: At, properties: Properties) -> Made:
        given: dict[str, Any] = lowered(dict(properties), keep=_OWN_KEYS)
        given.setdefault("family", at.name(255))
        for volume in given.get("volumes", []):
            for old, new in (("eFSVolumeConfiguration", "efsVolumeConfiguration"),):
                if old in volume:
                    volume[new] = volume.pop(old)
            settings = volume.get("efsVolumeConfiguration", {})
            if "filesystemId" in settings:
                settings["fileSystemId"] = settings.pop("filesystemId")
            authorization = settings.get("authorizationConfig", {})
            if "iAM" in authorization:
                authorization["iam"] = authorization.pop("iAM")
        made = (await at.call("ecs", "RegisterTaskDefinition", **given))["taskDefinition"]
        arn = made["taskDefinitionArn"]
        return Made(arn, {"TaskDefinitionArn": arn})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("ecs", "DeregisterTaskDefinition", taskDefinition=id))


class EcsService(ResourceType):
    name = "AWS::ECS::Service"

    async def create(self, at: At, properties: Properties) -> Made:
        given = lowered(dict(properties))
        given.setdefault("serviceName", at.name(255))
        made = (await at.call("ecs", "CreateService", **given))["service"]
        return Made(made["serviceArn"], {"Name": made["serviceName"], "ServiceArn": made["serviceArn"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        names = (
            "Cluster",
            "DesiredCount",
            "TaskDefinition",
            "DeploymentConfiguration",
            "NetworkConfiguration",
        )
        given = lowered({name: properties[name] for name in names if name in properties})
        made = (await at.call("ecs", "UpdateService", service=id, **given))["service"]
        return Made(id, {"Name": made["serviceName"], "ServiceArn": made["serviceArn"]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        cluster = {"cluster": properties["Cluster"]} if "Cluster" in properties else {}
        await gone(at.call("ecs", "DeleteService", service=id, force=True, **cluster))


TYPES: tuple[ResourceType, ...] = (Cluster(), TaskDefinition(), EcsService())
