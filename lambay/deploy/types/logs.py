"""AWS::Logs::*."""

from __future__ import annotations

from collections.abc import Sequence

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


class MetricFilter(ResourceType):
    name = "AWS::Logs::MetricFilter"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("FilterName") or at.name(512)
        await self._put(at, name, properties)
        return Made(name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._put(at, id, properties)
        return Made(id)

    async def _put(self, at: At, name: str, properties: Properties) -> None:
        given = lowered({key: item for key, item in properties.items() if key != "FilterName"})
        for transformation in given.get("metricTransformations", []):
            dimensions = transformation.get("dimensions")
            if isinstance(dimensions, list):
                transformation["dimensions"] = {item["key"]: item["value"] for item in dimensions}
        await at.call("logs", "PutMetricFilter", filterName=name, **given)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        group = properties["LogGroupName"]
        await gone(at.call("logs", "DeleteMetricFilter", logGroupName=group, filterName=id))


class SubscriptionFilter(ResourceType):
    name = "AWS::Logs::SubscriptionFilter"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("FilterName") or at.name(512)
        await self._put(at, name, properties)
        return Made(name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._put(at, id, properties)
        return Made(id)

    async def _put(self, at: At, name: str, properties: Properties) -> None:
        given = lowered({key: item for key, item in properties.items() if key != "FilterName"})
        await at.call("logs", "PutSubscriptionFilter", filterName=name, **given)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        group = properties["LogGroupName"]
        await gone(at.call("logs", "DeleteSubscriptionFilter", logGroupName=group, filterName=id))


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
