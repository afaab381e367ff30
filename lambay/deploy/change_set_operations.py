"""Change sets: what an update or a creation would do, shown first and then done."""

from __future__ import annotations

import uuid
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call, arn
from lambay.deploy.book import stack_arn
from lambay.deploy.changes import changes_of
from lambay.deploy.planning import Place
from lambay.deploy.reading_operations import described_parameters, paged, tags_shown, timestamp
from lambay.deploy.records import Change, ChangeSet, Shape, Stack
from lambay.deploy.stack_operations import StackOperations, tags_of
from lambay.deploy.template import reading
from lambay.deploy.template.errors import invalid

_NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
_USER = "User Initiated"


class ChangeSetOperations(StackOperations):
    async def create_change_set(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        kind = input.get("ChangeSetType", "UPDATE")
        if kind == "IMPORT" or input.get("ResourcesToImport"):
            raise invalid("ChangeSetType IMPORT: resources cannot be imported into stacks by Lambay")
        name = input["ChangeSetName"]
        caller = self._caller(call.principal)
        stack, fresh = self._target(call, input, kind)
        if any(one.name == name for one in self._book.change_sets_of(stack)):
            raise AWSError(
                "AlreadyExistsException", f"ChangeSet {name} cannot be created as it already exists"
            )
        role = input.get("RoleARN", stack.role_arn)
        aws = await self._call_as(caller, role, stack.account, stack.region)
        body = await self._body(input, aws, stack.shape.template or None)
        notified = tuple(input.get("NotificationARNs", stack.shape.notification_arns))
        plan = await self._room.planner.take(
            body,
            input.get("Parameters", ()),
            None if kind == "CREATE" else stack.shape.parameters,
            Place(stack.account, stack.region, stack.name, stack.arn, notified),
            aws,
            tags=tags_of(input["Tags"]) if "Tags" in input else stack.shape.tags,
            capabilities=tuple(input.get("Capabilities", ())),
            notification_arns=notified,
        )
        self._check_capabilities(
            plan.template, input.get("Capabilities", []), reading.read(body).body, change_set=True
        )
        changes = changes_of(plan, {} if fresh else self._book.of(stack))
        self._check_types_kept(changes)
        nothing = (
            not changes
            and kind != "CREATE"
            and plan.shape.tags == stack.shape.tags
            and not self._other_changes(stack, plan)
        )
        made = ChangeSet(
            arn=arn("cloudformation", stack.region, stack.account, f"changeSet/{name}/{uuid.uuid4()}"),
            name=name,
            stack=stack.arn,
            type=kind,
            shape=plan.shape,
            status="FAILED" if nothing else "CREATE_COMPLETE",
            execution="UNAVAILABLE" if nothing else "AVAILABLE",
            created=self._room.clock.time(),
            caller=caller,
            role_arn=role,
            reason=_NO_CHANGES if nothing else "",
            description=input.get("Description", ""),
            changes=changes,
            rollback_configuration=input.get("RollbackConfiguration"),
            on_failure=input.get("OnStackFailure"),
            include_nested=input.get("IncludeNestedStacks", False),
            token=input.get("ClientToken"),
        )
        change = self._book.change_sets.put(f"{stack.key}/{made.id}", made)
        if fresh:
            stack = await self._book.tell_stack(stack, "REVIEW_IN_PROGRESS", _USER)
        await self._book.store.commit(change)
        return {"Id": made.arn, "StackId": stack.arn}

    def _target(self, call: Call, input: dict[str, Any], kind: str) -> tuple[Stack, bool]:
        """The stack, and whether it is a new one."""
        name = input["StackName"]
        existing = self._book.find(call.account, call.region, name)
        if existing is not None and existing.status == "DELETE_COMPLETE":
            existing = None
        if kind == "CREATE":
            if existing is not None and existing.status != "REVIEW_IN_PROGRESS":
                raise invalid(
                    f"Stack [{existing.name}] already exists and cannot be created again with the changeSet "
                    f"[{input['ChangeSetName']}]."
                )
            if existing is not None:
                return existing, False
            return self._reviewed(call, name), True
        if existing is None:
            raise invalid(f"Stack [{name}] does not exist")
        if existing.status == "REVIEW_IN_PROGRESS":
            raise invalid(f"Stack [{existing.name}] is in [REVIEW_IN_PROGRESS] state and can not be updated.")
        self._check_updatable(existing)
        return existing, False

    def _reviewed(self, call: Call, name: str) -> Stack:
        return Stack(
            arn=stack_arn(call.account, call.region, name),
            name=name,
            account=call.account,
            region=call.region,
            caller=self._caller(call.principal),
            shape=Shape(),
            status="REVIEW_IN_PROGRESS",
            created=self._room.clock.time(),
        )

    def _change_set(self, call: Call, input: dict[str, Any]) -> tuple[Stack, ChangeSet]:
        name = input["ChangeSetName"]
        if name.startswith("arn:"):
            for stack in self._book.stacks.under(f"{call.account}/{call.region}/"):
                found = self._book.change_sets.get(f"{stack.key}/{name.rpartition('/')[2]}")
                if found is not None:
                    return stack, found
            raise AWSError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist")
        if "StackName" not in input:
            raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
        stack = self._book.stack(call.account, call.region, input["StackName"])
        for found in self._book.change_sets_of(stack):
            if found.name == name:
                return stack, found
        raise AWSError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist")

    async def describe_change_set(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack, found = self._change_set(call, input)
        page, following = paged(found.changes, input.get("NextToken"), 100)
        shown = {
            "ChangeSetName": found.name,
            "ChangeSetId": found.arn,
            "StackId": stack.arn,
            "StackName": stack.name,
            "CreationTime": timestamp(found.created),
            "ExecutionStatus": found.execution,
            "Status": found.status,
            "StatusReason": found.reason or None,
            "Description": found.description or None,
            "Parameters": described_parameters(found.shape),
            "NotificationARNs": list(found.shape.notification_arns),
            "RollbackConfiguration": found.rollback_configuration or {},
            "Capabilities": list(found.shape.capabilities),
            "Tags": tags_shown(found.shape),
            "Changes": [_shown(change) for change in page],
            "NextToken": following,
            "IncludeNestedStacks": found.include_nested,
            "OnStackFailure": found.on_failure,
        }
        return {key: value for key, value in shown.items() if value is not None}

    async def list_change_sets(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        page, following = paged(self._book.change_sets_of(stack), input.get("NextToken"), 100)
        listed = [
            {
                "StackId": stack.arn,
                "StackName": stack.name,
                "ChangeSetId": one.arn,
                "ChangeSetName": one.name,
                "ExecutionStatus": one.execution,
                "Status": one.status,
                "CreationTime": timestamp(one.created),
                **({"StatusReason": one.reason} if one.reason else {}),
                **({"Description": one.description} if one.description else {}),
                "IncludeNestedStacks": one.include_nested,
            }
            for one in page
        ]
        return {"Summaries": listed, **({"NextToken": following} if following else {})}

    async def delete_change_set(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        try:
            stack, found = self._change_set(call, input)
        except AWSError as error:
            if error.code == "ChangeSetNotFound" and input["ChangeSetName"].startswith("arn:"):
                return {}
            raise
        if found.execution == "EXECUTE_IN_PROGRESS":
            raise AWSError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{found.arn}] cannot be deleted in its current execution status of [{found.execution}]",
            )
        await self._book.store.commit(self._book.change_sets.remove(f"{stack.key}/{found.id}"))
        return {}

    async def execute_change_set(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack, found = self._change_set(call, input)
        if found.execution != "AVAILABLE":
            raise AWSError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{found.arn}] cannot be executed in its current execution status of [{found.execution}]",
            )
        creating = found.type == "CREATE"
        if not creating:
            self._check_updatable(stack)
        elif stack.status != "REVIEW_IN_PROGRESS":
            raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be created.")
        aws = await self._call_as(found.caller, found.role_arn, stack.account, stack.region)
        place = Place(stack.account, stack.region, stack.name, stack.arn, found.shape.notification_arns)
        plan = await self._room.planner.plan(found.shape, place, aws)
        # A change set that was executed makes its stack's others obsolete, and is kept itself.
        others = [
            self._book.change_sets.remove(f"{stack.key}/{one.id}")
            for one in self._book.change_sets_of(stack)
            if one.id != found.id
        ]
        executed = replace(found, execution="EXECUTE_COMPLETE")
        await self._book.store.commit(
            self._book.change_sets.put(f"{stack.key}/{found.id}", executed), *others
        )
        token = input.get("ClientRequestToken")
        common = {"caller": found.caller, "role_arn": found.role_arn, "change_set": found.arn, "token": token}
        disable = input.get("DisableRollback", False)
        rolling = found.rollback_configuration or stack.rollback_configuration
        if creating:
            stack = await self._book.tell_stack(
                stack,
                "CREATE_IN_PROGRESS",
                _USER,
                shape=found.shape,
                description=plan.template.description,
                disable_rollback=disable or found.on_failure == "DO_NOTHING",
                on_failure=found.on_failure or "ROLLBACK",
                retain_except_on_create=input.get("RetainExceptOnCreate", False),
                rollback_configuration=rolling,
                **common,
            )
            await self._launch_creation(stack, plan)
        else:
            stack = await self._book.save(
                replace(self._book.stacks[stack.key], rollback_configuration=rolling, **common)
            )
            await self._launch_update(stack, plan, token, disable)
        return {}


def _shown(change: Change) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Action": change.action,
        "LogicalResourceId": change.name,
        "ResourceType": change.type,
        "Scope": list(change.scope),
        "Details": [dict(detail) for detail in change.details],
    }
    if change.physical:
        made["PhysicalResourceId"] = change.physical
    if change.replacement:
        made["Replacement"] = change.replacement
    return {"Type": "Resource", "ResourceChange": made}
