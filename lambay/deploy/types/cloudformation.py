"""AWS::CloudFormation::*: waiting, custom resources, stacks within stacks."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.deploy.template.functions import text
from lambay.deploy.types.base import At, Made, Properties, ResourceType, gone, tag_map, take

_HOUR = 3600
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")


def failed(reason: str, physical: str = "") -> AWSError:
    """Why a resource is not made, where no service said it; `physical` is what is there all the same."""
    return AWSError("GeneralServiceException", reason, physical=physical)


def duration(given: Any) -> float:
    """The seconds of `PT#H#M#S`. Raises AWSError."""
    parts = _DURATION.fullmatch(str(given))
    if parts is None or not any(parts.groups()):
        raise failed(f"CreationPolicy: Timeout {given} is not a duration in ISO 8601, such as PT5M")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


class WaitConditionHandle(ResourceType):
    name = "AWS::CloudFormation::WaitConditionHandle"

    async def create(self, at: At, properties: Properties) -> Made:
        return Made(await at.signals.open(at.token))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await at.signals.close(id.rpartition("/")[2])


class WaitCondition(ResourceType):
    name = "AWS::CloudFormation::WaitCondition"

    async def create(self, at: At, properties: Properties) -> Made:
        signal = at.creation_policy.get("ResourceSignal")
        if isinstance(signal, Mapping):
            # SignalResource names the condition itself.
            token, count = at.token, int(signal.get("Count", 1))
            seconds = duration(signal.get("Timeout", "PT5M"))
            await at.signals.open(token)
        elif "Handle" in properties:
            token, count = properties["Handle"].rpartition("/")[2], properties.get("Count", 1)
            seconds = float(properties.get("Timeout", _HOUR))
        else:
            raise failed("WaitCondition: a Handle, or a CreationPolicy with a ResourceSignal, is needed.")
        answers = await at.unless_ending(at.signals.wait(token, count, seconds))
        if answers is None:
            if isinstance(signal, Mapping):
                raise failed(f"Failed to receive {count} resource signal(s) within the specified duration")
            raise failed(f"WaitCondition timed out. Received 0 conditions when expecting {count}")
        told: dict[str, str] = {}
        for number, (unique, body) in enumerate(answers.items()):
            status = body.get("Status")
            if status != "SUCCESS":
                raise failed(
                    f"WaitCondition received failed message: '{body.get('Reason', '')}' for uniqueId: {unique}"
                )
            told[unique or str(number)] = text(body.get("Data"))
        return Made(f"{at.stack_arn}/{at.resource}", {"Data": msgspec.json.encode(told).decode()})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        raise failed("Update to resource type AWS::CloudFormation::WaitCondition is not supported.")

    def replaced_by(self, before: Properties, after: Properties) -> frozenset[str]:
        return frozenset()

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """Nothing is there but where its signals arrived."""
        await at.signals.close(at.token)


class CustomResource(ResourceType):
    """`Custom::…` too: a function or a topic makes it and answers to a URL."""

    name = "AWS::CloudFormation::CustomResource"

    def attributes(self) -> None:
        return None

    def coerce(self, properties: Properties) -> dict[str, Any]:
        return dict(properties)

    def faults(self, properties: Properties) -> list[str]:
        return [] if "ServiceToken" in properties else ["#: required key [ServiceToken] not found"]

    def replaced_by(self, before: Properties, after: Properties) -> frozenset[str]:
        """It replaces itself, by answering an update with another id."""
        return frozenset()

    async def create(self, at: At, properties: Properties) -> Made:
        return await self._ask(at, "Create", properties, {})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        old = {"PhysicalResourceId": id, "OldResourceProperties": _texts(before)}
        return await self._ask(at, "Update", properties, old)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        try:
            await self._ask(at, "Delete", properties, {"PhysicalResourceId": id})
        except AWSError as error:
            # Its function is gone: nobody can be asked.
            if error.code not in ("ResourceNotFoundException", "NotFound"):
                raise

    async def _ask(self, at: At, kind: str, properties: Properties, old: Mapping[str, Any]) -> Made:
        request_id = str(uuid.uuid4())
        token = request_id.replace("-", "")
        url = await at.signals.open(token, inside=True)
        message = {
            "RequestType": kind,
            "ServiceToken": properties["ServiceToken"],
            "ResponseURL": url,
            "StackId": at.stack_arn,
            "RequestId": request_id,
            "LogicalResourceId": at.resource,
            "ResourceType": at.type_name,
            **old,
            "ResourceProperties": _texts(properties),
        }
        body = msgspec.json.encode(message)
        service_token = str(properties["ServiceToken"])
        try:
            if ":sns:" in service_token:
                await at.call(
                    "sns",
                    "Publish",
                    TopicArn=service_token,
                    Message=body.decode(),
                    Subject="AWS CloudFormation custom resource request",
                )
            else:
                await at.call(
                    "lambda", "Invoke", FunctionName=service_token, InvocationType="Event", Payload=body
                )
            timeout = float(properties.get("ServiceTimeout", _HOUR))
            answers = await at.signals.wait(token, 1, timeout)
        finally:
            await at.signals.close(token)
        if answers is None:
            raise failed(
                "CloudFormation did not receive a response from your Custom Resource. Please check your logs "
                f"for requestId [{request_id}]."
            )
        answer = next(iter(answers.values()))
        physical = text(answer.get("PhysicalResourceId"))
        if answer.get("Status") != "SUCCESS":
            reason = text(answer.get("Reason")) or "Failed"
            raise failed(
                f"Received response status [FAILED] from custom resource. Message returned: {reason} "
                f"(RequestId: {request_id})",
                physical,
            )
        if kind != "Delete" and not physical:
            raise failed("Invalid PhysicalResourceId")
        data = answer.get("Data") or {}
        return Made(physical, dict(data) if isinstance(data, dict) else {})


def _texts(value: Any) -> Any:
    """Custom resources get every scalar as text."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return text(value)


class NestedStack(ResourceType):
    name = "AWS::CloudFormation::Stack"
    always_updates = True

    def attributes(self) -> None:
        """`Outputs.NAME` of any name."""
        return

    async def create(self, at: At, properties: Properties) -> Made:
        name = at.name(128)
        made = await at.call("cloudformation", "CreateStack", StackName=name, **self._input(properties))
        await at.nested.adopt(made["StackId"], at.stack_arn)
        status, described = await self._ended(at, made["StackId"])
        if status != "CREATE_COMPLETE":
            raise failed(
                f"Embedded stack {made['StackId']} was not successfully created: "
                f"{described.get('StackStatusReason', status)}",
                made["StackId"],
            )
        return Made(made["StackId"], self._outputs(described))

    def _input(self, properties: Properties) -> dict[str, Any]:
        parameters = [
            {
                "ParameterKey": key,
                "ParameterValue": ",".join(map(text, item)) if isinstance(item, list) else text(item),
            }
            for key, item in properties.get("Parameters", {}).items()
        ]
        return {
            "TemplateURL": properties["TemplateURL"],
            "Parameters": parameters,
            "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            **take(properties, "NotificationARNs"),
            "Tags": [{"Key": key, "Value": value} for key, value in tag_map(properties.get("Tags")).items()],
        }

    async def _ended(self, at: At, arn: str) -> tuple[str, dict[str, Any]]:
        found: dict[str, Any] = {}

        async def look() -> bool:
            nonlocal found
            found = (await at.call("cloudformation", "DescribeStacks", StackName=arn))["Stacks"][0]
            return not str(found["StackStatus"]).endswith("_IN_PROGRESS")

        await at.until(look)
        return str(found["StackStatus"]), found

    def _outputs(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {f"Outputs.{item['OutputKey']}": item["OutputValue"] for item in described.get("Outputs", ())}

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        try:
            await at.call("cloudformation", "UpdateStack", StackName=id, **self._input(properties))
        except AWSError as error:
            if error.message != "No updates are to be performed.":
                raise
        status, described = await self._ended(at, id)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise failed(
                f"Embedded stack {id} was not successfully updated. Currently in {status} with reason: "
                f"{described.get('StackStatusReason', '')}"
            )
        return Made(id, self._outputs(described))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        if not await gone(at.call("cloudformation", "DeleteStack", StackName=id)):
            return
        status, described = await self._ended(at, id)
        if status != "DELETE_COMPLETE":
            raise failed(
                f"Embedded stack {id} was not successfully deleted: {described.get('StackStatusReason', status)}"
            )

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        try:
            found = await at.call("cloudformation", "DescribeStacks", StackName=at.name(128))
        except AWSError:
            return ()
        return [one["StackId"] for one in found["Stacks"]]


class CdkMetadata(ResourceType):
    """What the CDK says about itself."""

    name = "AWS::CDK::Metadata"

    async def create(self, at: At, properties: Properties) -> Made:
        return Made(at.token[:12])

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """Nothing is there."""


TYPES: tuple[ResourceType, ...] = (
    WaitConditionHandle(),
    WaitCondition(),
    CustomResource(),
    NestedStack(),
    CdkMetadata(),
)
