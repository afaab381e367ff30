"""AWS::KMS::*, AWS::SSM::Parameter, AWS::SecretsManager::Secret."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    changed,
    gone,
    rest,
    tag_changes,
    tag_map,
    take,
)
from lambay.deploy.types.ec2 import as_json


class Key(ResourceType):
    name = "AWS::KMS::Key"
    extra_create_only = frozenset({"KeySpec", "KeyUsage", "MultiRegion", "Origin"})

    async def create(self, at: At, properties: Properties) -> Made:
        own = tag_map(at.system_tags(properties.get("Tags")))
        tags = [{"TagKey": key, "TagValue": value} for key, value in own.items()]
        made = await at.call(
            "kms",
            "CreateKey",
            Policy=as_json(properties.get("KeyPolicy")),
            **take(
                properties,
                "BypassPolicyLockoutSafetyCheck",
                "Description",
                "KeySpec",
                "KeyUsage",
                "MultiRegion",
                "Origin",
            ),
            Tags=tags or None,
        )
        id = made["KeyMetadata"]["KeyId"]
        await self._settle(at, id, properties, {})
        return Made(id, {"Arn": made["KeyMetadata"]["Arn"], "KeyId": id})

    async def _settle(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        if changed(before, properties, "EnableKeyRotation", "RotationPeriodInDays"):
            if properties.get("EnableKeyRotation"):
                period = take(properties, "RotationPeriodInDays")
                await at.call("kms", "EnableKeyRotation", KeyId=id, **period)
            elif before:
                await at.call("kms", "DisableKeyRotation", KeyId=id)
        if changed(before, properties, "Enabled"):
            if not properties.get("Enabled", True):
                await at.call("kms", "DisableKey", KeyId=id)
            elif before:
                await at.call("kms", "EnableKey", KeyId=id)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        if changed(before, properties, "KeyPolicy") and "KeyPolicy" in properties:
            policy = as_json(properties["KeyPolicy"])
            await at.call("kms", "PutKeyPolicy", KeyId=id, PolicyName="default", Policy=policy)
        if changed(before, properties, "Description"):
            await at.call(
                "kms", "UpdateKeyDescription", KeyId=id, Description=properties.get("Description", "")
            )
        await self._settle(at, id, properties, before)
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            tags = [{"TagKey": key, "TagValue": value} for key, value in put.items()]
            await at.call("kms", "TagResource", KeyId=id, Tags=tags)
        if removed:
            await at.call("kms", "UntagResource", KeyId=id, TagKeys=removed)
        return Made(id, {"Arn": at.arn("kms", f"key/{id}"), "KeyId": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """A key is scheduled for deletion, as in AWS."""
        days = properties.get("PendingWindowInDays", 30)
        await gone(
            at.call("kms", "ScheduleKeyDeletion", KeyId=id, PendingWindowInDays=days),
            "KMSInvalidStateException",
        )

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        ours = {"aws:cloudformation:stack-id": at.stack_arn, "aws:cloudformation:logical-id": at.resource}
        found = []
        for key in (await at.call("kms", "ListKeys", Limit=1000))["Keys"]:
            tags = (await at.call("kms", "ListResourceTags", KeyId=key["KeyId"]))["Tags"]
            if ours.items() <= {tag["TagKey"]: tag["TagValue"] for tag in tags}.items():
                found.append(key["KeyId"])
        return found


class Alias(ResourceType):
    name = "AWS::KMS::Alias"

    async def create(self, at: At, properties: Properties) -> Made:
        await at.call("kms", "CreateAlias", **properties)
        return Made(properties["AliasName"])

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("kms", "UpdateAlias", **properties)
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("kms", "DeleteAlias", AliasName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties["AliasName"]]


class Parameter(ResourceType):
    name = "AWS::SSM::Parameter"
    extra_attributes = frozenset({"Type", "Value"})

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("Name") or at.name(512)
        tags = [{"Key": key, "Value": value} for key, value in tag_map(properties.get("Tags")).items()]
        await at.call("ssm", "PutParameter", **{**rest(properties, "Tags"), "Name": name}, Tags=tags or None)
        return Made(name, take(properties, "Type", "Value"))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        if rest(properties, "Tags") != rest(before, "Tags"):
            given = {**rest(properties, "Tags"), "Name": id}
            await at.call("ssm", "PutParameter", **given, Overwrite=True)
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        of = {"ResourceType": "Parameter", "ResourceId": id}
        if put:
            tags = [{"Key": key, "Value": value} for key, value in put.items()]
            await at.call("ssm", "AddTagsToResource", **of, Tags=tags)
        if removed:
            await at.call("ssm", "RemoveTagsFromResource", **of, TagKeys=removed)
        return Made(id, take(properties, "Type", "Value"))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("ssm", "DeleteParameter", Name=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("Name") or at.name(512)]


class Secret(ResourceType):
    name = "AWS::SecretsManager::Secret"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "secretsmanager",
            "CreateSecret",
            Name=properties.get("Name") or at.name(512),
            ClientRequestToken=at.token,
            SecretString=_secret(properties),
            **take(properties, "Description", "KmsKeyId", "Tags"),
        )
        return Made(made["ARN"], {"Id": made["ARN"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given: dict[str, Any] = take(properties, "Description", "KmsKeyId")
        if changed(before, properties, "SecretString", "GenerateSecretString"):
            given["SecretString"] = _secret(properties)
        await at.call(
            "secretsmanager", "UpdateSecret", SecretId=id, ClientRequestToken=uuid.uuid4().hex, **given
        )
        put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
        if put:
            tags = [{"Key": key, "Value": value} for key, value in put.items()]
            await at.call("secretsmanager", "TagResource", SecretId=id, Tags=tags)
        if removed:
            await at.call("secretsmanager", "UntagResource", SecretId=id, TagKeys=removed)
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("secretsmanager", "DeleteSecret", SecretId=id, ForceDeleteWithoutRecovery=True))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            name = properties.get("Name") or at.name(512)
            return [(await at.call("secretsmanager", "DescribeSecret", SecretId=name))["ARN"]]
        except AWSError:
            return ()


def _secret(properties: Properties) -> str | None:
    """The text that is given, or one that is drawn as GenerateSecretString says."""
    if "GenerateSecretString" not in properties:
        text: str | None = properties.get("SecretString")
        return text
    wish = properties["GenerateSecretString"]
    letters = ""
    for kinds, switch in (
        (string.ascii_lowercase, "ExcludeLowercase"),
        (string.ascii_uppercase, "ExcludeUppercase"),
        (string.digits, "ExcludeNumbers"),
        (string.punctuation, "ExcludePunctuation"),
    ):
        letters += "" if wish.get(switch) else kinds
    letters = "".join(letter for letter in letters if letter not in wish.get("ExcludeCharacters", ""))
    drawn = "".join(secrets.choice(letters) for _ in range(int(wish.get("PasswordLength", 32))))
    if "GenerateStringKey" not in wish:
        return drawn
    body = msgspec.json.decode(wish.get("SecretStringTemplate", "{}")) | {wish["GenerateStringKey"]: drawn}
    return msgspec.json.encode(body).decode()


TYPES: tuple[ResourceType, ...] = (Key(), Alias(), Parameter(), Secret())
