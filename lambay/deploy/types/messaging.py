"""AWS::SQS::*, AWS::SNS::*, AWS::Events::*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.aws import AWSError
from lambay.deploy.template.functions import text
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    as_list,
    gone,
    rest,
    tag_changes,
    tag_map,
    take,
)
from lambay.deploy.types.ec2 import as_json
from lambay.deploy.types.plain import Plain


class Queue(ResourceType):
    name = "AWS::SQS::Queue"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "sqs",
            "CreateQueue",
            QueueName=self._name(at, properties),
            Attributes=_attributes(properties) or None,
            tags=tag_map(properties.get("Tags")) or None,
        )
        return self._made(at, made["QueueUrl"])

    def _name(self, at: At, properties: Properties) -> str:
        fifo = ".fifo" if properties.get("FifoQueue") else ""
        return str(properties.get("QueueName") or at.name(80 - len(fifo)) + fifo)

    def _made(self, at: At, url: str) -> Made:
        name = url.rpartition("/")[2]
        return Made(url, {"Arn": at.arn("sqs", name), "QueueName": name, "QueueUrl": url})

    extra_attributes = frozenset({"QueueName"})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given, earlier = _attributes(properties), _attributes(before)
        for name in earlier:
            given.setdefault(name, _QUEUE_DEFAULTS.get(name, ""))
        given.pop("FifoQueue", None)
        if given:
            await at.call("sqs", "SetQueueAttributes", QueueUrl=id, Attributes=given)
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            await at.call("sqs", "TagQueue", QueueUrl=id, Tags=put)
        if removed:
            await at.call("sqs", "UntagQueue", QueueUrl=id, TagKeys=removed)
        return self._made(at, id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("sqs", "DeleteQueue", QueueUrl=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            return [(await at.call("sqs", "GetQueueUrl", QueueName=self._name(at, properties)))["QueueUrl"]]
        except AWSError:
            return ()


_QUEUE_DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}


def _attributes(properties: Properties) -> dict[str, str]:
    made: dict[str, str] = {}
    for name, value in rest(properties, "QueueName", "Tags").items():
        if name == "FifoQueue" and not value:
            continue
        made[name] = str(as_json(value)) if isinstance(value, dict) else text(value)
    return made


class QueuePolicy(ResourceType):
    name = "AWS::SQS::QueuePolicy"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, at.name(80), properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        policy = {"Policy": as_json(properties["PolicyDocument"])}
        for url in as_list(properties["Queues"]):
            await at.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=policy)
        for url in as_list(before.get("Queues")):
            if url not in as_list(properties["Queues"]):
                await gone(at.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": ""}))
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        for url in as_list(properties["Queues"]):
            await gone(at.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": ""}))


class Topic(ResourceType):
    name = "AWS::SNS::Topic"
    _ATTRIBUTES = (
        "ContentBasedDeduplication",
        "DeliveryPolicy",
        "DisplayName",
        "FifoTopic",
        "KmsMasterKeyId",
        "SignatureVersion",
        "TracingConfig",
    )

    def _attributes(self, properties: Properties) -> dict[str, str]:
        given = take(properties, *self._ATTRIBUTES)
        return {
            key: str(as_json(item)) if isinstance(item, dict) else text(item) for key, item in given.items()
        }

    async def create(self, at: At, properties: Properties) -> Made:
        fifo = ".fifo" if properties.get("FifoTopic") else ""
        name = properties.get("TopicName") or at.name(256 - len(fifo)) + fifo
        made = await at.call(
            "sns",
            "CreateTopic",
            Name=name,
            Attributes=self._attributes(properties) or None,
            Tags=properties.get("Tags"),
        )
        arn = made["TopicArn"]
        await self._subscribe(at, arn, properties, {})
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    async def _subscribe(self, at: At, arn: str, properties: Properties, before: Properties) -> None:
        new, old = as_list(properties.get("Subscription")), as_list(before.get("Subscription"))
        for one in new:
            if one not in old:
                await at.call(
                    "sns", "Subscribe", TopicArn=arn, Protocol=one["Protocol"], Endpoint=one["Endpoint"]
                )
        gone_ones = [(one["Protocol"], one["Endpoint"]) for one in old if one not in new]
        if gone_ones:
            listed = await at.call("sns", "ListSubscriptionsByTopic", TopicArn=arn)
            for one in listed["Subscriptions"]:
                if (one["Protocol"], one["Endpoint"]) in gone_ones:
                    await gone(at.call("sns", "Unsubscribe", SubscriptionArn=one["SubscriptionArn"]))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        earlier = self._attributes(before)
        given = self._attributes(properties)
        for name in {**earlier, **given}:
            if earlier.get(name) != given.get(name):
                await at.call(
                    "sns",
                    "SetTopicAttributes",
                    TopicArn=id,
                    AttributeName=name,
                    AttributeValue=given.get(name, ""),
                )
        await self._subscribe(at, id, properties, before)
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            tags = [{"Key": key, "Value": value} for key, value in put.items()]
            await at.call("sns", "TagResource", ResourceArn=id, Tags=tags)
        if removed:
            await at.call("sns", "UntagResource", ResourceArn=id, TagKeys=removed)
        return Made(id, {"TopicArn": id, "TopicName": id.rpartition(":")[2]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """With its subscriptions, as SNS does it."""
        if properties.get("Subscription"):
            await gone(self._subscribe(at, id, {}, properties))
        await gone(at.call("sns", "DeleteTopic", TopicArn=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        fifo = ".fifo" if properties.get("FifoTopic") else ""
        return [at.arn("sns", properties.get("TopicName") or at.name(256 - len(fifo)) + fifo)]


class TopicPolicy(ResourceType):
    name = "AWS::SNS::TopicPolicy"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(at, at.name(80), properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        policy = as_json(properties["PolicyDocument"])
        for arn in as_list(properties["Topics"]):
            await at.call(
                "sns", "SetTopicAttributes", TopicArn=arn, AttributeName="Policy", AttributeValue=policy
            )
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """The topics get their owner's policy back."""
        for arn in as_list(properties["Topics"]):
            statement = {
                "Sid": "__default_statement_ID",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": [
                    "SNS:Publish",
                    "SNS:Subscribe",
                    "SNS:GetTopicAttributes",
                    "SNS:SetTopicAttributes",
                ],
                "Resource": arn,
                "Condition": {"StringEquals": {"AWS:SourceOwner": at.account}},
            }
            policy = as_json({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})
            await gone(
                at.call(
                    "sns", "SetTopicAttributes", TopicArn=arn, AttributeName="Policy", AttributeValue=policy
                )
            )


class Subscription(ResourceType):
    name = "AWS::SNS::Subscription"
    _ATTRIBUTES = (
        "DeliveryPolicy",
        "FilterPolicy",
        "FilterPolicyScope",
        "RawMessageDelivery",
        "RedrivePolicy",
        "SubscriptionRoleArn",
    )

    def _attributes(self, properties: Properties) -> dict[str, str]:
        given = take(properties, *self._ATTRIBUTES)
        return {
            key: str(as_json(item)) if isinstance(item, dict) else text(item) for key, item in given.items()
        }

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "sns",
            "Subscribe",
            **take(properties, "TopicArn", "Protocol", "Endpoint"),
            Attributes=self._attributes(properties) or None,
            ReturnSubscriptionArn=True,
        )
        return Made(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        earlier, given = self._attributes(before), self._attributes(properties)
        for name in {**earlier, **given}:
            if earlier.get(name) != given.get(name):
                await at.call(
                    "sns",
                    "SetSubscriptionAttributes",
                    SubscriptionArn=id,
                    AttributeName=name,
                    AttributeValue=given.get(name, "{}"),
                )
        return Made(id, {"Arn": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("sns", "Unsubscribe", SubscriptionArn=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        """A topic has one subscription of a protocol and endpoint."""
        try:
            listed = await at.call("sns", "ListSubscriptionsByTopic", TopicArn=properties["TopicArn"])
        except AWSError:
            return ()
        same = take(properties, "Protocol", "Endpoint").items()
        return [one["SubscriptionArn"] for one in listed["Subscriptions"] if same <= one.items()]


class Rule(ResourceType):
    name = "AWS::Events::Rule"

    async def create(self, at: At, properties: Properties) -> Made:
        return await self._put(at, properties.get("Name") or at.name(64), properties, {})

    async def _put(self, at: At, name: str, properties: Properties, before: Properties) -> Made:
        bus = take(properties, "EventBusName")
        given = take(properties, "Description", "RoleArn", "ScheduleExpression", "State", "Tags")
        pattern = as_json(properties.get("EventPattern"))
        made = await at.call("events", "PutRule", Name=name, **bus, **given, EventPattern=pattern)
        targets = as_list(properties.get("Targets"))
        kept = {target["Id"] for target in targets}
        lost = [target["Id"] for target in as_list(before.get("Targets")) if target["Id"] not in kept]
        if lost:
            await gone(at.call("events", "RemoveTargets", Rule=name, **bus, Ids=lost))
        if targets:
            await at.call("events", "PutTargets", Rule=name, **bus, Targets=targets)
        return Made(name, {"Arn": made["RuleArn"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        return await self._put(at, id, properties, before)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        bus = take(properties, "EventBusName")
        ids = [target["Id"] for target in as_list(properties.get("Targets"))]
        if ids:
            await gone(at.call("events", "RemoveTargets", Rule=id, **bus, Ids=ids))
        await gone(at.call("events", "DeleteRule", Name=id, **bus))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("Name") or at.name(64)]


class EventBus(Plain):
    name = "AWS::Events::EventBus"
    service, made_by, removed_by = "events", "CreateEventBus", "DeleteEventBus"
    id_member = "Name"
    name_property = "Name"
    attribute_paths: ClassVar[Mapping[str, str]] = {"Arn": "EventBusArn"}

    def input(self, at: At, properties: Properties) -> dict[str, Any]:
        return rest(super().input(at, properties), "Policy")


TYPES: tuple[ResourceType, ...] = (
    Queue(),
    QueuePolicy(),
    Topic(),
    TopicPolicy(),
    Subscription(),
    Rule(),
    EventBus(),
)
