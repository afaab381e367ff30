"""AWS::EFS::*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambay.aws import AWSError
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    absent,
    changed,
    gone,
    tag_changes,
    tag_map,
    take,
)
from lambay.deploy.types.ec2 import as_json


def _fixed(properties: Properties) -> dict[str, Any]:
    """`LifecyclePolicy`, which guides write for `LifecyclePolicies`."""
    made = dict(properties)
    if "LifecyclePolicy" in made:
        made["LifecyclePolicies"] = made.pop("LifecyclePolicy")
    return made


class FileSystem(ResourceType):
    name = "AWS::EFS::FileSystem"
    extra_properties = frozenset({"LifecyclePolicy"})

    def coerce(self, properties: Properties) -> dict[str, Any]:
        made = super().coerce(properties)
        if "LifecyclePolicy" in made:
            made["LifecyclePolicy"] = super().coerce({"LifecyclePolicies": made["LifecyclePolicy"]})[
                "LifecyclePolicies"
            ]
        return made

    def warnings(self, properties: Properties) -> list[str]:
        if "LifecyclePolicy" not in properties:
            return []
        return [
            "LifecyclePolicy is taken for LifecyclePolicies, which is AWS's spelling; AWS refuses this template."
        ]

    async def create(self, at: At, properties: Properties) -> Made:
        given = _fixed(properties)
        made = await at.call(
            "efs",
            "CreateFileSystem",
            CreationToken=at.token,
            **take(
                given,
                "AvailabilityZoneName",
                "Encrypted",
                "KmsKeyId",
                "PerformanceMode",
                "ProvisionedThroughputInMibps",
                "ThroughputMode",
            ),
            Tags=given.get("FileSystemTags"),
        )
        id = made["FileSystemId"]
        await self._available(at, id)
        await self._settle(at, id, given, {})
        return Made(id, {"Arn": made["FileSystemArn"], "FileSystemId": id})

    async def _available(self, at: At, id: str) -> None:
        async def look() -> bool:
            found = await at.call("efs", "DescribeFileSystems", FileSystemId=id)
            return str(found["FileSystems"][0]["LifeCycleState"]) == "available"

        await at.until(look)

    async def _settle(self, at: At, id: str, given: Properties, before: Properties) -> None:
        if changed(before, given, "LifecyclePolicies"):
            rules = given.get("LifecyclePolicies", [])
            await at.call("efs", "PutLifecycleConfiguration", FileSystemId=id, LifecyclePolicies=rules)
        if changed(before, given, "BackupPolicy"):
            policy = given.get("BackupPolicy", {"Status": "DISABLED"})
            await at.call("efs", "PutBackupPolicy", FileSystemId=id, BackupPolicy=policy)
        if changed(before, given, "FileSystemProtection") and "FileSystemProtection" in given:
            await at.call(
                "efs", "UpdateFileSystemProtection", FileSystemId=id, **given["FileSystemProtection"]
            )
        if changed(before, given, "FileSystemPolicy"):
            if "FileSystemPolicy" in given:
                bypass = take(given, "BypassPolicyLockoutSafetyCheck")
                policy = as_json(given["FileSystemPolicy"])
                await at.call("efs", "PutFileSystemPolicy", FileSystemId=id, Policy=policy, **bypass)
            else:
                await gone(at.call("efs", "DeleteFileSystemPolicy", FileSystemId=id))
        if changed(before, given, "ReplicationConfiguration"):
            if before.get("ReplicationConfiguration"):
                await gone(at.call("efs", "DeleteReplicationConfiguration", SourceFileSystemId=id))
            for destination in given.get("ReplicationConfiguration", {}).get("Destinations", []):
                known = take(
                    destination, "AvailabilityZoneName", "FileSystemId", "KmsKeyId", "Region", "RoleArn"
                )
                await at.call(
                    "efs", "CreateReplicationConfiguration", SourceFileSystemId=id, Destinations=[known]
                )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given, earlier = _fixed(properties), _fixed(before)
        if changed(earlier, given, "ThroughputMode", "ProvisionedThroughputInMibps"):
            mode = given.get("ThroughputMode", "bursting")
            amount = given.get("ProvisionedThroughputInMibps") if mode == "provisioned" else None
            await at.call(
                "efs",
                "UpdateFileSystem",
                FileSystemId=id,
                ThroughputMode=mode,
                ProvisionedThroughputInMibps=amount,
            )
            await self._available(at, id)
        await self._settle(at, id, given, earlier)
        await _retag(at, id, given.get("FileSystemTags"), earlier.get("FileSystemTags"))
        return Made(id, {"Arn": at.arn("elasticfilesystem", f"file-system/{id}"), "FileSystemId": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        if properties.get("ReplicationConfiguration"):
            await gone(at.call("efs", "DeleteReplicationConfiguration", SourceFileSystemId=id))
        if await gone(at.call("efs", "DeleteFileSystem", FileSystemId=id)):
            await at.until(lambda: absent(at.call("efs", "DescribeFileSystems", FileSystemId=id)))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            found = await at.call("efs", "DescribeFileSystems", CreationToken=at.token)
        except AWSError:
            return ()
        return [item["FileSystemId"] for item in found["FileSystems"]]


class MountTarget(ResourceType):
    name = "AWS::EFS::MountTarget"
    extra_attributes = frozenset({"IpAddress"})

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call("efs", "CreateMountTarget", **properties)
        id = made["MountTargetId"]

        async def look() -> bool:
            found = await at.call("efs", "DescribeMountTargets", MountTargetId=id)
            return str(found["MountTargets"][0]["LifeCycleState"]) == "available"

        await at.until(look)
        return Made(id, {"Id": id, "IpAddress": made.get("IpAddress", "")})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        groups = properties.get("SecurityGroups", [])
        await at.call("efs", "ModifyMountTargetSecurityGroups", MountTargetId=id, SecurityGroups=groups)
        found = (await at.call("efs", "DescribeMountTargets", MountTargetId=id))["MountTargets"][0]
        return Made(id, {"Id": id, "IpAddress": found.get("IpAddress", "")})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        if await gone(at.call("efs", "DeleteMountTarget", MountTargetId=id)):
            await at.until(lambda: absent(at.call("efs", "DescribeMountTargets", MountTargetId=id)))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            found = await at.call("efs", "DescribeMountTargets", FileSystemId=properties["FileSystemId"])
        except AWSError:
            return ()
        subnet = properties["SubnetId"]
        return [item["MountTargetId"] for item in found["MountTargets"] if item["SubnetId"] == subnet]


class AccessPoint(ResourceType):
    name = "AWS::EFS::AccessPoint"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "efs",
            "CreateAccessPoint",
            ClientToken=properties.get("ClientToken") or at.token,
            FileSystemId=properties["FileSystemId"],
            PosixUser=properties.get("PosixUser"),
            RootDirectory=properties.get("RootDirectory"),
            Tags=properties.get("AccessPointTags"),
        )
        id = made["AccessPointId"]

        async def look() -> bool:
            found = await at.call("efs", "DescribeAccessPoints", AccessPointId=id)
            return str(found["AccessPoints"][0]["LifeCycleState"]) == "available"

        await at.until(look)
        return Made(id, {"Arn": made["AccessPointArn"], "AccessPointId": id})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await _retag(at, id, properties.get("AccessPointTags"), before.get("AccessPointTags"))
        return Made(id, {"Arn": at.arn("elasticfilesystem", f"access-point/{id}"), "AccessPointId": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        if await gone(at.call("efs", "DeleteAccessPoint", AccessPointId=id)):
            await at.until(lambda: absent(at.call("efs", "DescribeAccessPoints", AccessPointId=id)))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        token = properties.get("ClientToken") or at.token
        try:
            found = await at.call("efs", "DescribeAccessPoints", FileSystemId=properties["FileSystemId"])
        except AWSError:
            return ()
        return [item["AccessPointId"] for item in found["AccessPoints"] if item["ClientToken"] == token]


async def _retag(at: At, id: str, after: Any, before: Any) -> None:
    put, removed = tag_changes(tag_map(before), tag_map(after))
    if put:
        tags: list[Mapping[str, str]] = [{"Key": key, "Value": value} for key, value in put.items()]
        await at.call("efs", "TagResource", ResourceId=id, Tags=tags)
    if removed:
        await at.call("efs", "UntagResource", ResourceId=id, TagKeys=removed)


TYPES: tuple[ResourceType, ...] = (FileSystem(), MountTarget(), AccessPoint())
