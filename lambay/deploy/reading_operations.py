"""Describing and listing stacks, their resources and their events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from lambay.aws import Call
from lambay.deploy.records import Event, Resource, Shape, Stack
from lambay.deploy.room import Operations
from lambay.deploy.template import parameters, reading
from lambay.deploy.template.errors import invalid

T = TypeVar("T")
_HIDDEN = "****"


def timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def paged(items: Sequence[T], token: str | None, most: int) -> tuple[Sequence[T], str | None]:
    """A page; the token is the number of items before it. Raises AWSError where it is none of ours."""
    if token is not None and not token.isdigit():
        raise invalid("NextToken is invalid")
    start = int(token or 0)
    end = start + most
    return items[start:end], str(end) if end < len(items) else None


def tags_shown(shape: Shape) -> list[dict[str, str]]:
    return [{"Key": tag.key, "Value": tag.value} for tag in shape.tags]


def described_parameters(shape: Shape) -> list[dict[str, Any]]:
    """With what SSM held, and NoEcho's values hidden."""
    if not shape.template:
        return []
    body = reading.read(shape.processed or shape.template).body
    declared = parameters.declared(body.get("Parameters") or {})
    shown = []
    for key, value in shape.parameters.items():
        hidden = key in declared and declared[key].no_echo
        item = {"ParameterKey": key, "ParameterValue": _HIDDEN if hidden else value}
        if key in shape.fetched:
            item["ResolvedValue"] = _HIDDEN if hidden else shape.fetched[key]
        shown.append(item)
    return shown


class ReadingOperations(Operations):
    async def describe_stacks(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "StackName" in input:
            message = "Stack with id {} does not exist"
            return {
                "Stacks": [
                    _shown(self._book.stack(call.account, call.region, input["StackName"], message=message))
                ]
            }
        page, following = paged(list(self._book.live(call.account, call.region)), input.get("NextToken"), 100)
        return {"Stacks": [_shown(stack) for stack in page], **_next(following)}

    async def list_stacks(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Deleted ones as well."""
        wanted = input.get("StackStatusFilter")
        there = self._book.stacks.under(f"{call.account}/{call.region}/")
        found = [
            stack
            for stack in sorted(there, key=lambda one: -one.created)
            if not wanted or stack.status in wanted
        ]
        page, following = paged(found, input.get("NextToken"), 100)
        listed = []
        for stack in page:
            item: dict[str, Any] = {
                "StackId": stack.arn,
                "StackName": stack.name,
                "CreationTime": timestamp(stack.created),
                "StackStatus": stack.status,
                "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
            }
            if stack.description:
                item["TemplateDescription"] = stack.description
            listed.append(item | _times(stack))
        return {"StackSummaries": listed, **_next(following)}

    async def describe_stack_events(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "StackName" not in input:
            raise invalid(
                "1 validation error detected: Value null at 'stackName' failed to satisfy constraint: "
                "Member must not be null"
            )
        stack = self._book.stack(call.account, call.region, input["StackName"])
        page, following = paged(self._book.history(stack), input.get("NextToken"), 100)
        return {"StackEvents": [_event(event) for event in page], **_next(following)}

    async def describe_events(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """The events of a stack, or of the stack of a change set."""
        stack = self._book.stack(call.account, call.region, input.get("StackName") or input["ChangeSetName"])
        wanted = input.get("Filters", {}).get("FailedEvents")
        found = [event for event in self._book.history(stack) if not wanted or "FAILED" in event.status]
        page, following = paged(found, input.get("NextToken"), 100)
        return {
            "OperationEvents": [{**_event(one), "EventType": "STACK_EVENT"} for one in page],
            **_next(following),
        }

    async def describe_stack_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        record = self._book.of(stack).get(input["LogicalResourceId"])
        if record is None:
            raise invalid(f"Resource {input['LogicalResourceId']} does not exist for stack {stack.name}")
        shown = _resource(stack, record)
        shown["LastUpdatedTimestamp"] = shown.pop("Timestamp")
        if record.metadata:
            shown["Metadata"] = record.metadata
        return {"StackResourceDetail": shown}

    async def describe_stack_resources(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "StackName" in input:
            stack = self._book.stack(
                call.account, call.region, input["StackName"], message="Stack with id {} does not exist"
            )
        else:
            stack = self._of_physical(call, input.get("PhysicalResourceId", ""))
        name = input.get("LogicalResourceId")
        found = [one for one in self._book.of(stack).values() if name is None or one.name == name]
        return {"StackResources": [_resource(stack, record) for record in found]}

    def _of_physical(self, call: Call, physical: str) -> Stack:
        for stack in self._book.live(call.account, call.region):
            if any(one.now.id == physical for one in self._book.of(stack).values()):
                return stack
        raise invalid(f"Stack for {physical} does not exist")

    async def list_stack_resources(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        page, following = paged(list(self._book.of(stack).values()), input.get("NextToken"), 100)
        listed = []
        for record in page:
            shown = _resource(stack, record)
            shown["LastUpdatedTimestamp"] = shown.pop("Timestamp")
            listed.append({key: item for key, item in shown.items() if key not in ("StackId", "StackName")})
        return {"StackResourceSummaries": listed, **_next(following)}

    async def list_exports(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        found = sorted(self._book.exports(call.account, call.region), key=lambda one: one[0])
        page, following = paged(found, input.get("NextToken"), 100)
        listed = [
            {"ExportingStackId": stack.arn, "Name": name, "Value": value} for name, value, stack in page
        ]
        return {"Exports": listed, **_next(following)}

    async def list_imports(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        users = self._book.importers(call.account, call.region, input["ExportName"])
        if not users:
            raise invalid(f"Export '{input['ExportName']}' is not imported by any stack.")
        page, following = paged([stack.name for stack in users], input.get("NextToken"), 100)
        return {"Imports": list(page), **_next(following)}

    async def describe_account_limits(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        limits = {"StackLimit": 2000, "StackOutputsLimit": 200, "ConcurrentResourcesLimit": 2500}
        return {"AccountLimits": [{"Name": name, "Value": value} for name, value in limits.items()]}


def _next(token: str | None) -> dict[str, str]:
    return {} if token is None else {"NextToken": token}


def _times(stack: Stack) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if stack.updated is not None:
        made["LastUpdatedTime"] = timestamp(stack.updated)
    if stack.deleted is not None:
        made["DeletionTime"] = timestamp(stack.deleted)
    if stack.reason:
        made["StackStatusReason"] = stack.reason
    if stack.parent is not None:
        made |= {"ParentId": stack.parent, "RootId": stack.root}
    return made


def _shown(stack: Stack) -> dict[str, Any]:
    made: dict[str, Any] = {
        "StackId": stack.arn,
        "StackName": stack.name,
        "CreationTime": timestamp(stack.created),
        "StackStatus": stack.status,
        "DisableRollback": stack.disable_rollback,
        "NotificationARNs": list(stack.shape.notification_arns),
        "Capabilities": list(stack.shape.capabilities),
        "Tags": tags_shown(stack.shape),
        "EnableTerminationProtection": stack.termination_protection,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
        "RollbackConfiguration": stack.rollback_configuration or {},
        **_times(stack),
    }
    parameters_ = described_parameters(stack.shape)
    if parameters_:
        made["Parameters"] = parameters_
    if stack.description:
        made["Description"] = stack.description
    if stack.change_set is not None:
        made["ChangeSetId"] = stack.change_set
    if stack.role_arn is not None:
        made["RoleARN"] = stack.role_arn
    if stack.timeout_minutes is not None:
        made["TimeoutInMinutes"] = stack.timeout_minutes
    if stack.outputs:
        made["Outputs"] = [
            {
                "OutputKey": output.key,
                "OutputValue": output.value,
                **({"Description": output.description} if output.description else {}),
                **({"ExportName": output.export} if output.export is not None else {}),
            }
            for output in stack.outputs
        ]
    return made


def _event(event: Event) -> dict[str, Any]:
    shown = {
        "StackId": event.stack,
        "EventId": event.id,
        "StackName": event.stack_name,
        "LogicalResourceId": event.resource,
        "PhysicalResourceId": event.physical,
        "ResourceType": event.type,
        "Timestamp": timestamp(event.at),
        "ResourceStatus": event.status,
        "ResourceStatusReason": event.reason or None,
        "ResourceProperties": event.properties,
        "ClientRequestToken": event.token,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _resource(stack: Stack, record: Resource) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "StackName": stack.name,
        "StackId": stack.arn,
        "LogicalResourceId": record.name,
        "ResourceType": record.type,
        "Timestamp": timestamp(record.at),
        "ResourceStatus": record.status,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }
    if record.now.id:
        shown["PhysicalResourceId"] = record.now.id
    if record.reason:
        shown["ResourceStatusReason"] = record.reason
    return shown
