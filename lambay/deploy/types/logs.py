"""AWS::Logs::*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    changed,
    gone,
    lowered,
    tag_changes,
    tag_map,
)


class LogGroup(ResourceType):
    name = "AWS::Logs::LogGroup"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("LogGroupName") or at.name(512)
        await at.call(
            "logs",
            "CreateLogGroup",
            logGroupName=name,
            kmsKeyId=properties.get("KmsKeyId"),
            logGroupClass=properties.get("LogGroupClass"),
            tags=tag_map(properties.get("Tags")) or None,
        )
        await self._settle(at, name, properties, {})
        return self._made(at, name)

    def _made(self, at: At, name: str) -> Made:
        return Made(name, {"Arn": at.arn("logs", f"log-group:{name}:*")})

    async def _settle(self, at: At, name: str, properties: Properties, before: Properties) -> None:
        if changed(before, properties, "RetentionInDays"):
            days = properties.get("RetentionInDays")
            if days is None:
                await at.call("logs", "DeleteRetentionPolicy", logGroupName=name)
            else:
                await at.call("logs", "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
        if changed(before, properties, "DeletionProtectionEnabled"):
            protected = properties.get("DeletionProtectionEnabled", False)
            await at.call(
                "logs",
                "PutLogGroupDeletionProtection",
                logGroupIdentifier=name,
                deletionProtectionEnabled=protected,
            )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._settle(at, id, properties, before)
        if changed(before, properties, "KmsKeyId"):
            key = properties.get("KmsKeyId")
            if key is None:
                await at.call("logs", "DisassociateKmsKey", logGroupName=id)
            else:
                await at.call("logs", "AssociateKmsKey", logGroupName=id, kmsKeyId=key)
        arn = at.arn("logs", f"log-group:{id}")
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            await at.call("logs", "TagResource", resourceArn=arn, tags=put)
        if removed:
            await at.call("logs", "UntagResource", resourceArn=arn, tagKeys=removed)
        return self._made(at, id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("logs", "DeleteLogGroup", logGroupName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("LogGroupName") or at.name(512)]


class LogStream(ResourceType):
    name = "AWS::Logs::LogStream"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("LogStreamName") or at.name(512)
        await at.call("logs", "CreateLogStream", logGroupName=properties["LogGroupName"], logStreamName=name)
        return Made(name)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        group = properties["LogGroupName"]
        await gone(at.call("logs", "DeleteLogStream", logGroupName=group, logStreamName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("LogStreamName") or at.name(512)]


class Filter(ResourceType):
    """What is put on a log group under a name of its own: `Put…`, again to change it, and `Delete…`."""

    kind: ClassVar[str]

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("FilterName") or at.name(512)
        return await self._put(at, name, properties)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        return await self._put(at, id, properties)

    async def _put(self, at: At, name: str, properties: Properties) -> Made:
        await at.call("logs", f"Put{self.kind}", **self.input(properties) | {"filterName": name})
        return Made(name)

    def input(self, properties: Properties) -> dict[str, Any]:
        """The `Put…` input of the type's properties."""
        given: dict[str, Any] = lowered(dict(properties))
        return given

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        group = properties["LogGroupName"]
        await gone(at.call("logs", f"Delete{self.kind}", logGroupName=group, filterName=id))


class MetricFilter(Filter):
    name = "AWS::Logs::MetricFilter"
    kind = "MetricFilter"

    def input(self, properties: Properties) -> dict[str, Any]:
        given = super().input(properties)
        for transformation in given.get("metricTransformations", []):
            dimensions = transformation.get("dimensions")
            if isinstance(dimensions, list):
                transformation["dimensions"] = {item["key"]: item["value"] for item in dimensions}
        return given


class SubscriptionFilter(Filter):
    name = "AWS::Logs::SubscriptionFilter"
    kind = "SubscriptionFilter"


class QueryDefinition(ResourceType):
    name = "AWS::Logs::QueryDefinition"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call("logs", "PutQueryDefinition", **lowered(dict(properties)))
        return Made(made["queryDefinitionId"], {"QueryDefinitionId": made["queryDefinitionId"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("logs", "PutQueryDefinition", queryDefinitionId=id, **lowered(dict(properties)))
        return Made(id, {"QueryDefinitionId": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("logs", "DeleteQueryDefinition", queryDefinitionId=id))


TYPES: tuple[ResourceType, ...] = (
    LogGroup(),
    LogStream(),
    MetricFilter(),
    SubscriptionFilter(),
    QueryDefinition(),
)
