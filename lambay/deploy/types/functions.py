"""AWS::Lambda::*: functions and their code. What stands around them is in `functions_around`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambay.aws import AWSError
from lambay.deploy.inline_code import archive
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    changed,
    gone,
    tag_changes,
    tag_map,
    take,
)

_CONFIGURATION = (
    "DeadLetterConfig",
    "Description",
    "Environment",
    "EphemeralStorage",
    "FileSystemConfigs",
    "Handler",
    "ImageConfig",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "Role",
    "Runtime",
    "SnapStart",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)
# No version of a runtime is kept.
_FREE = {"UpdateRuntimeOn": "Auto"}
# What a property that was taken away goes back to.
_DEFAULTS: dict[str, Any] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "Layers": [],
    "MemorySize": 128,
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "SnapStart": {"ApplyOn": "None"},
}


def code(properties: Properties) -> dict[str, Any]:
    """The Code of CreateFunction, or the same members of UpdateFunctionCode."""
    given = properties["Code"]
    if "ZipFile" in given:
        return {
            "ZipFile": archive(given["ZipFile"], properties.get("Runtime", ""), properties.get("Handler", ""))
        }
    return take(given, "ImageUri", "S3Bucket", "S3Key", "S3ObjectVersion")


class Function(ResourceType):
    name = "AWS::Lambda::Function"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("FunctionName") or at.name(64)
        made = await at.call(
            "lambda",
            "CreateFunction",
            FunctionName=name,
            Code=code(properties),
            **take(properties, *_CONFIGURATION, "Architectures", "CodeSigningConfigArn", "PackageType"),
            KMSKeyArn=properties.get("KmsKeyArn"),
            Tags=tag_map(properties.get("Tags")) or None,
        )
        try:
            await self._settled(at, name)
            await self._around(at, name, properties, {})
        except AWSError:
            await gone(at.call("lambda", "DeleteFunction", FunctionName=name))
            raise
        return Made(name, {"Arn": made["FunctionArn"]})

    async def _settled(self, at: At, name: str) -> None:
        """Until the function is active and its last update is done. Raises AWSError where one of them failed."""

        async def look() -> bool:
            found = await at.call("lambda", "GetFunctionConfiguration", FunctionName=name)
            if found.get("State") == "Failed" or found.get("LastUpdateStatus") == "Failed":
                reason = found.get("StateReason") or found.get("LastUpdateStatusReason") or "Failed"
                raise AWSError("GeneralServiceException", str(reason))
            return found.get("State") != "Pending" and found.get("LastUpdateStatus") != "InProgress"

        await at.until(look)

    async def _around(self, at: At, name: str, properties: Properties, before: Properties) -> None:
        if changed(before, properties, "ReservedConcurrentExecutions"):
            reserved = properties.get("ReservedConcurrentExecutions")
            if reserved is None:
                await at.call("lambda", "DeleteFunctionConcurrency", FunctionName=name)
            else:
                await at.call(
                    "lambda",
                    "PutFunctionConcurrency",
                    FunctionName=name,
                    ReservedConcurrentExecutions=reserved,
                )
        if changed(before, properties, "RuntimeManagementConfig"):
            given = properties.get("RuntimeManagementConfig") or _FREE
            await at.call("lambda", "PutRuntimeManagementConfig", FunctionName=name, **given)
        if changed(before, properties, "RecursiveLoop") and "RecursiveLoop" in properties:
            loop = properties["RecursiveLoop"]
            await at.call("lambda", "PutFunctionRecursionConfig", FunctionName=name, RecursiveLoop=loop)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        if changed(before, properties, "Code", "Architectures") or (
            "ZipFile" in properties["Code"] and changed(before, properties, "Runtime", "Handler")
        ):
            given = code(properties) | take(properties, "Architectures")
            await at.call("lambda", "UpdateFunctionCode", FunctionName=id, **given)
            await self._settled(at, id)
        names = [name for name in _CONFIGURATION if before.get(name) != properties.get(name)]
        given = {name: properties.get(name, _DEFAULTS.get(name)) for name in names}
        if before.get("KmsKeyArn") != properties.get("KmsKeyArn"):
            given["KMSKeyArn"] = properties.get("KmsKeyArn", "")
        if "Runtime" in given and changed(before, properties, "RuntimeManagementConfig"):
            # A runtime whose version is kept can't be exchanged; what is to be kept instead is put afterwards.
            await at.call("lambda", "PutRuntimeManagementConfig", FunctionName=id, **_FREE)
        if given:
            await at.call("lambda", "UpdateFunctionConfiguration", FunctionName=id, **given)
            await self._settled(at, id)
        if changed(before, properties, "CodeSigningConfigArn"):
            signing = properties.get("CodeSigningConfigArn")
            if signing is None:
                await gone(at.call("lambda", "DeleteFunctionCodeSigningConfig", FunctionName=id))
            else:
                await at.call(
                    "lambda", "PutFunctionCodeSigningConfig", FunctionName=id, CodeSigningConfigArn=signing
                )
        await self._around(at, id, properties, before)
        arn = at.arn("lambda", f"function:{id}")
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            await at.call("lambda", "TagResource", Resource=arn, Tags=put)
        if removed:
            await at.call("lambda", "UntagResource", Resource=arn, TagKeys=removed)
        return Made(id, {"Arn": arn})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("lambda", "DeleteFunction", FunctionName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("FunctionName") or at.name(64)]


class LayerVersion(ResourceType):
    name = "AWS::Lambda::LayerVersion"
    extra_attributes = frozenset({"Arn"})

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "lambda",
            "PublishLayerVersion",
            LayerName=properties.get("LayerName") or at.name(64),
            Content=properties["Content"],
            **take(properties, "CompatibleArchitectures", "CompatibleRuntimes", "Description", "LicenseInfo"),
        )
        arn = made["LayerVersionArn"]
        return Made(arn, {"LayerVersionArn": arn, "Arn": arn})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        name, _, version = id.rpartition(":")
        await gone(at.call("lambda", "DeleteLayerVersion", LayerName=name, VersionNumber=int(version)))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        """Under a drawn name all versions are ours; under a given one they may be another's and stay."""
        if "LayerName" in properties:
            return ()
        listed = await at.call("lambda", "ListLayerVersions", LayerName=at.name(64))
        return [version["LayerVersionArn"] for version in listed["LayerVersions"]]


class LayerVersionPermission(ResourceType):
    name = "AWS::Lambda::LayerVersionPermission"

    async def create(self, at: At, properties: Properties) -> Made:
        layer, _, version = properties["LayerVersionArn"].rpartition(":")
        statement = at.name(100)
        await at.call(
            "lambda",
            "AddLayerVersionPermission",
            LayerName=layer,
            VersionNumber=int(version),
            StatementId=statement,
            **take(properties, "Action", "OrganizationId", "Principal"),
        )
        id = f"{properties['LayerVersionArn']}#{statement}"
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        arn, _, statement = id.rpartition("#")
        layer, _, version = arn.rpartition(":")
        given = {"LayerName": layer, "VersionNumber": int(version), "StatementId": statement}
        await gone(at.call("lambda", "RemoveLayerVersionPermission", **given))


TYPES: tuple[ResourceType, ...] = (Function(), LayerVersion(), LayerVersionPermission())
