"""Creating, updating, rolling back and deleting stacks."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call
from lambay.deploy import policies
from lambay.deploy.book import stack_arn
from lambay.deploy.changes import changes_of
from lambay.deploy.planning import Place, Plan
from lambay.deploy.records import Change, Stack, Tag
from lambay.deploy.room import Operations
from lambay.deploy.template import reading
from lambay.deploy.template.errors import invalid

UPDATABLE = frozenset(
    (
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "CREATE_FAILED",
        "UPDATE_FAILED",
        "IMPORT_COMPLETE",
    )
)
_USER = "User Initiated"


def tags_of(input: Any) -> tuple[Tag, ...]:
    return tuple(Tag(tag["Key"], tag["Value"]) for tag in input or ())


class StackOperations(Operations):
    async def create_stack(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = input["StackName"]
        token = input.get("ClientRequestToken")
        existing = self._book.find(call.account, call.region, name)
        if existing is not None:
            if token is not None and existing.token == token:
                return {"StackId": existing.arn}
            if existing.status != "REVIEW_IN_PROGRESS":
                raise AWSError("AlreadyExistsException", f"Stack [{name}] already exists")
            raise AWSError(
                "AlreadyExistsException", f"Stack [{name}] already exists and cannot be created again"
            )
        if "OnFailure" in input and "DisableRollback" in input:
            raise invalid("You cannot specify both OnFailure and DisableRollback")
        arn = stack_arn(call.account, call.region, name)
        caller = self._caller(call.principal)
        aws = await self._call_as(caller, input.get("RoleARN"), call.account, call.region)
        body = await self._body(input, aws)
        notified = tuple(input.get("NotificationARNs", ()))
        plan = await self._room.planner.take(
            body,
            input.get("Parameters", ()),
            None,
            Place(call.account, call.region, name, arn, notified),
            aws,
            tags=tags_of(input.get("Tags")),
            capabilities=tuple(input.get("Capabilities", ())),
            notification_arns=notified,
        )
        self._check_capabilities(
            plan.template, input.get("Capabilities", []), reading.read(body).body, change_set=False
        )
        policy = await self._policy(input, "StackPolicy", aws)
        # Looked at again: the template's reading has let others in.
        if self._book.find(call.account, call.region, name) is not None:
            raise AWSError("AlreadyExistsException", f"Stack [{name}] already exists")
        stack = Stack(
            arn=arn,
            name=name,
            account=call.account,
            region=call.region,
            caller=caller,
            shape=plan.shape,
            status="CREATE_IN_PROGRESS",
            created=self._room.clock.time(),
            role_arn=input.get("RoleARN"),
            description=plan.template.description,
            disable_rollback=input.get("DisableRollback", False) or input.get("OnFailure") == "DO_NOTHING",
            on_failure=input.get("OnFailure", "ROLLBACK"),
            retain_except_on_create=input.get("RetainExceptOnCreate", False),
            timeout_minutes=input.get("TimeoutInMinutes"),
            termination_protection=input.get("EnableTerminationProtection", False),
            policy=policy,
            rollback_configuration=input.get("RollbackConfiguration"),
            token=token,
        )
        stack = await self._book.tell_stack(stack, "CREATE_IN_PROGRESS", _USER)
        await self._launch_creation(stack, plan)
        return {"StackId": stack.arn}

    async def _launch_creation(self, stack: Stack, plan: Plan) -> None:
        deployment = await self._deployment(stack, plan)
        self._deployments[stack.key] = deployment

        async def timed() -> None:
            minutes = stack.timeout_minutes
            if minutes is None:
                await deployment.create()
                return
            work = asyncio.ensure_future(deployment.create())
            hour = asyncio.ensure_future(self._room.clock.sleep(minutes * 60))
            try:
                await asyncio.wait({work, hour}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    deployment.cancel("Stack creation time exceeded the specified timeout.")
                await work
            finally:
                hour.cancel()
                work.cancel()

        self._begin(stack, timed())

    async def update_stack(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        token = input.get("ClientRequestToken")
        if token is not None and stack.token == token:
            return {"StackId": stack.arn}
        self._check_updatable(stack)
        caller = self._caller(call.principal)
        role = input.get("RoleARN", stack.role_arn)
        aws = await self._call_as(caller, role, stack.account, stack.region)
        plan = await self._next_plan(stack, input, aws)
        during = await self._policy(input, "StackPolicyDuringUpdate", aws)
        policy = await self._policy(input, "StackPolicy", aws)
        changes = changes_of(plan, self._book.of(stack))
        self._check_types_kept(changes)
        if not changes and plan.shape.tags == stack.shape.tags and not self._other_changes(stack, plan):
            raise invalid("No updates are to be performed.")
        stack = await self._book.save(
            replace(
                self._book.stacks[stack.key],
                caller=caller,
                role_arn=role,
                policy=policy or stack.policy,
                policy_during_update=during,
                rollback_configuration=input.get("RollbackConfiguration", stack.rollback_configuration),
            )
        )
        await self._launch_update(stack, plan, token, input.get("DisableRollback", False))
        return {"StackId": stack.arn}

    async def _next_plan(self, stack: Stack, input: dict[str, Any], aws: Any) -> Plan:
        body = await self._body(input, aws, stack.shape.template)
        notified = tuple(input.get("NotificationARNs", stack.shape.notification_arns))
        plan = await self._room.planner.take(
            body,
            input.get("Parameters", ()),
            stack.shape.parameters,
            Place(stack.account, stack.region, stack.name, stack.arn, notified),
            aws,
            tags=tags_of(input["Tags"]) if "Tags" in input else stack.shape.tags,
            capabilities=tuple(input.get("Capabilities", ())),
            notification_arns=notified,
        )
        self._check_capabilities(
            plan.template, input.get("Capabilities", []), reading.read(body).body, change_set=False
        )
        return plan

    def _other_changes(self, stack: Stack, plan: Plan) -> bool:
        """Outputs, conditions and descriptions are updates too; parameters that nothing uses are none."""
        if plan.shape.template == stack.shape.template:
            return False
        before = reading.read(stack.shape.processed or stack.shape.template).body
        after = plan.template.document.body
        return any(before.get(part) != after.get(part) for part in ("Outputs", "Description", "Metadata"))

    def _check_types_kept(self, changes: tuple[Change, ...]) -> None:
        kept = [change.name for change in changes if change.action == "Retype"]
        if kept:
            raise invalid(
                "Update of resource type is not permitted. The new template modifies resource type of the following "
                f"resources: [{', '.join(kept)}]"
            )

    def _check_updatable(self, stack: Stack) -> None:
        if stack.status not in UPDATABLE or (stack.status == "CREATE_FAILED" and not stack.disable_rollback):
            raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be updated.")

    async def _launch_update(
        self, stack: Stack, plan: Plan, token: str | None, disable_rollback: bool
    ) -> None:
        before = stack.shape
        stack = await self._book.tell_stack(
            stack,
            "UPDATE_IN_PROGRESS",
            _USER,
            shape=plan.shape,
            before=before,
            updated=self._room.clock.time(),
            token=token,
            disable_rollback=disable_rollback,
            description=plan.template.description,
        )
        deployment = await self._deployment(stack, plan)
        self._deployments[stack.key] = deployment
        self._begin(stack, deployment.update())

    async def cancel_update_stack(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        deployment = self._deployments.get(stack.key)
        if stack.status != "UPDATE_IN_PROGRESS" or deployment is None:
            raise invalid("CancelUpdateStack cannot be called from current stack status")
        deployment.cancel(_USER)
        return {}

    async def delete_stack(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.find(call.account, call.region, input["StackName"])
        if stack is None or stack.status == "DELETE_COMPLETE":
            return {}
        if stack.termination_protection and stack.parent is None:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status == "DELETE_IN_PROGRESS":
            return {}
        if stack.status == "REVIEW_IN_PROGRESS":
            # There is nothing of it but change sets.
            await self._book.tell_stack(stack, "DELETE_COMPLETE", _USER, deleted=self._book.clock.time())
            return {}
        retain = tuple(input.get("RetainResources", ()))
        if retain and stack.status != "DELETE_FAILED" and input.get("DeletionMode") != "FORCE_DELETE_STACK":
            raise invalid(
                f"Invalid operation on stack [{stack.name}]. RetainResources is for stacks in the state DELETE_FAILED."
            )
        for output in stack.outputs:
            users = (
                []
                if output.export is None
                else self._book.importers(stack.account, stack.region, output.export)
            )
            if users:
                names = " and ".join(one.name for one in users)
                raise invalid(f"Export {output.export} cannot be deleted as it is in use by {names}")
        running = self._tasks.get(stack.key)
        if running is not None:
            # A deletion overtakes a creation or an update.
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if input.get("DeletionMode") == "FORCE_DELETE_STACK":
            retain = (
                *retain,
                *(one.name for one in self._book.of(stack).values() if one.status == "DELETE_FAILED"),
            )
        stack = await self._book.tell_stack(
            stack,
            "DELETE_IN_PROGRESS",
            _USER,
            retain=retain,
            token=input.get("ClientRequestToken"),
            caller=self._caller(call.principal),
            role_arn=input.get("RoleARN", stack.role_arn),
        )
        deployment = await self._deployment(stack)
        self._begin(stack, deployment.delete())
        return {}

    async def continue_update_rollback(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not continue rollback.")
        skip = tuple(input.get("ResourcesToSkip", ()))
        records = self._book.of(stack)
        for name in skip:
            if name not in records or records[name].status != "UPDATE_FAILED":
                raise invalid(
                    f"ResourcesToSkip: {name} is not in the state UPDATE_FAILED; only such can be skipped."
                )
        stack = await self._book.tell_stack(
            stack,
            "UPDATE_ROLLBACK_IN_PROGRESS",
            _USER,
            skip=skip,
            token=input.get("ClientRequestToken"),
            role_arn=input.get("RoleARN", stack.role_arn),
        )
        deployment = await self._deployment(stack)
        self._begin(stack, deployment.roll_back_update())
        return {}

    async def rollback_stack(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Back from a failed creation or update whose rollback was disabled."""
        stack = self._book.stack(call.account, call.region, input["StackName"])
        if stack.status not in ("CREATE_FAILED", "UPDATE_FAILED"):
            raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be rolled back.")
        created = stack.status == "CREATE_FAILED"
        status = "ROLLBACK_IN_PROGRESS" if created else "UPDATE_ROLLBACK_IN_PROGRESS"
        stack = await self._book.tell_stack(stack, status, _USER, token=input.get("ClientRequestToken"))
        deployment = await self._deployment(stack)
        self._begin(stack, deployment.roll_back_creation() if created else deployment.roll_back_update())
        return {"StackId": stack.arn}

    async def update_termination_protection(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        if stack.parent is not None:
            raise invalid("Termination protection cannot be set on a nested stack; set it on the root stack.")
        await self._book.save(replace(stack, termination_protection=input["EnableTerminationProtection"]))
        return {"StackId": stack.arn}

    async def set_stack_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        aws = await self._call_as(self._caller(call.principal), None, call.account, call.region)
        policy = await self._policy(input, "StackPolicy", aws)
        await self._book.save(replace(self._book.stacks[stack.key], policy=policy))
        return {}

    async def get_stack_policy(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        stack = self._book.stack(call.account, call.region, input["StackName"])
        return {} if stack.policy is None else {"StackPolicyBody": stack.policy}

    async def signal_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """For wait conditions: to a handle, or to a condition whose CreationPolicy waits for signals."""
        stack = self._book.stack(call.account, call.region, input["StackName"])
        record = self._book.of(stack).get(input["LogicalResourceId"])
        kind = "" if record is None else record.type.removeprefix("AWS::CloudFormation::")
        waits = kind == "WaitConditionHandle" or (
            kind == "WaitCondition" and record is not None and record.status == "CREATE_IN_PROGRESS"
        )
        if record is None or not waits:
            name = input["LogicalResourceId"]
            raise invalid(f"Resource {name} is not in CREATE_IN_PROGRESS state or takes no signals")
        token = record.now.id.rpartition("/")[2]
        if kind == "WaitCondition":
            token = record.now.token
            await self._room.signals.open(token)
        await self._room.signals.put(
            token,
            {
                "Status": input["Status"],
                "UniqueId": input["UniqueId"],
                "Data": "",
                "Reason": "SignalResource",
            },
        )
        return {}

    async def _policy(self, input: dict[str, Any], name: str, aws: Any) -> str | None:
        given = input.get(f"{name}Body")
        if given is None and f"{name}URL" in input:
            given = await self._body({"TemplateURL": input[f"{name}URL"]}, aws)
        if given is not None:
            policies.check(given)
        return given
