"""Whether a destination of asynchronous invocations is there, and whether the function's role may send to it.

See "Configuring destinations for asynchronous invocations" in the Developer Guide, with the permissions that each
kind of destination wants.
"""

from __future__ import annotations

from typing import Any

from lambay.aws import Arn, AWSError, Neighbours
from lambay.functions.errors import invalid
from lambay.functions.names import FunctionName, function_of
from lambay.functions.ports import Access
from lambay.functions.records import LATEST
from lambay.functions.resources import Resources

# What Lambda does as the role of the function; of these, what a bucket wants concerns its objects.
_ACTIONS = {
    "sqs": "SendMessage",
    "sns": "Publish",
    "events": "PutEvents",
    "lambda": "InvokeFunction",
    "s3": "PutObject",
}


async def lacking(access: Access, role: str, target: Arn, region: str) -> str:
    """Why the role may not send there, empty where it may."""
    resource = f"{target}/*" if target.service == "s3" else str(target)
    return await access.lacking(role, f"{target.service}:{_ACTIONS[target.service]}", resource, region=region)


class Destinations:
    """Every refusal is an InvalidParameterValueException with Lambda's words."""

    def __init__(self, resources: Resources, neighbours: Neighbours, access: Access) -> None:
        self._resources = resources
        self._neighbours = neighbours
        self._access = access

    async def check(self, name: FunctionName, role: str, target: str) -> None:
        """The target's ARN, of a service that destinations may be of, names what is there and the role may reach."""
        arn = Arn.parse(target)
        if not await self._there(name, arn):
            raise invalid(f"The destination ARN {target} is invalid.")
        if await lacking(self._access, role, arn, name.region):
            raise invalid(
                f"The function's execution role does not have permissions to call {_ACTIONS[arn.service]} on {target}"
            )

    async def _there(self, name: FunctionName, arn: Arn) -> bool:
        if arn.service == "lambda":
            return self._is_function(arn)
        operation, input = _question(arn)
        account, region = arn.account or name.account, arn.region or name.region
        try:
            await self._neighbours.call(arn.service, operation, input, account=account, region=region)
        except AWSError:
            return False
        return True

    def _is_function(self, arn: Arn) -> bool:
        kind, _, given = arn.resource.partition(":")
        if kind != "function" or not given:
            return False
        function = function_of(str(arn))
        key = f"{function.key}/{function.qualifier or LATEST}"
        return key in self._resources.versions or key in self._resources.aliases


def _question(arn: Arn) -> tuple[str, dict[str, Any]]:
    """The call that fails where the thing isn't there."""
    match arn.service:
        case "sqs":
            return "GetQueueUrl", {"QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account}
        case "sns":
            return "GetTopicAttributes", {"TopicArn": str(arn)}
        case "events":
            return "DescribeEventBus", {"Name": arn.resource.removeprefix("event-bus/")}
        case _:
            return "HeadBucket", {"Bucket": arn.resource}
