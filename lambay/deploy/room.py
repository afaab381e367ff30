"""What every family of operations stands on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast

from lambay.aws import AWSError, Principal, Service
from lambay.clock import Clock
from lambay.deploy.book import Book
from lambay.deploy.deployment import Deployment
from lambay.deploy.planning import Place, Plan, Planner
from lambay.deploy.ports import Alarms, Client, Roles
from lambay.deploy.records import Caller, Stack
from lambay.deploy.signals import Signals
from lambay.deploy.template import template
from lambay.deploy.template.errors import invalid
from lambay.deploy.template.template import Template
from lambay.deploy.transforms.include import from_s3
from lambay.deploy.types.base import Call

_log = logging.getLogger("lambay.deploy")
_TEMPLATE_BYTES = 51_200
_FROM_S3_BYTES = 1_048_576
_STRONGER = {"CAPABILITY_IAM": {"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"}}


@dataclass(frozen=True, slots=True)
class Room:
    book: Book
    planner: Planner
    client: Client
    roles: Roles
    alarms: Alarms | None
    signals: Signals
    clock: Clock


class Operations(Service):
    """A family of operations; `Stacks`, made of all of them, sets what they declare."""

    service_name = "cloudformation"
    _room: Room
    _tasks: dict[str, asyncio.Task[None]]
    _deployments: dict[str, Deployment]

    async def adopt(self, stack_arn: str, parent_arn: str) -> None:
        raise NotImplementedError

    @property
    def _book(self) -> Book:
        return self._room.book

    # -- who acts --------------------------------------------------------------------------------------------

    def _caller(self, principal: Principal) -> Caller:
        return Caller(
            kind=principal.kind,
            account=principal.account,
            arn=principal.arn,
            user_id=principal.user_id,
            access_key_id=principal.access_key_id,
            role_arn=principal.role_arn,
            session_name=principal.session_name,
        )

    async def _call_as(self, caller: Caller, role_arn: str | None, account: str, region: str) -> Call:
        """The API as whoever deploys: the role where one was given, else the caller."""
        if role_arn is not None:
            try:
                principal = await self._room.roles.role_principal(role_arn, "AWSCloudFormation")
            except AWSError:
                raise invalid(f"Role {role_arn} is invalid or cannot be assumed") from None
        else:
            principal = Principal(
                cast(Any, caller.kind),
                caller.account,
                caller.arn,
                caller.user_id,
                caller.access_key_id,
                caller.role_arn,
                caller.session_name,
            )

        async def call(service: str, operation: str, input: Mapping[str, Any]) -> dict[str, Any]:
            return await self._room.client(
                principal, service, operation, input, account=account, region=region
            )

        return call

    # -- templates -------------------------------------------------------------------------------------------

    async def _body(self, input: Mapping[str, Any], call: Call, previous: str | None = None) -> str:
        """TemplateBody, TemplateURL or the previous template. Raises AWSError ValidationError."""
        if input.get("UsePreviousTemplate"):
            if previous is None:
                raise invalid("UsePreviousTemplate: there is no previous template")
            return previous
        if "TemplateBody" in input:
            if len(input["TemplateBody"].encode()) > _TEMPLATE_BYTES:
                raise invalid(
                    "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must "
                    "have length less than or equal to 51200"
                )
            return str(input["TemplateBody"])
        if "TemplateURL" in input:
            try:
                body = await from_s3(input["TemplateURL"], call)
            except AWSError as error:
                if error.code == "ValidationError":
                    raise
                raise invalid(f"S3 error: {error.message}") from None
            if len(body.encode()) > _FROM_S3_BYTES:
                raise invalid("Template may not exceed 1000000 bytes in size.")
            return body
        raise invalid("Either Template URL or Template Body must be specified.")

    def _check_capabilities(
        self, made: Template, given: list[str], source: Mapping[str, Any], *, change_set: bool
    ) -> None:
        macros = template.transforms(source)
        if macros and not change_set and "CAPABILITY_AUTO_EXPAND" not in given:
            raise AWSError(
                "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_AUTO_EXPAND]"
            )
        needed, _ = template.capabilities(made)
        for capability in needed:
            if not _STRONGER.get(capability, {capability}) & set(given):
                raise AWSError("InsufficientCapabilitiesException", f"Requires capabilities : [{capability}]")

    # -- deployments -----------------------------------------------------------------------------------------

    def _place(self, stack: Stack) -> Place:
        return Place(stack.account, stack.region, stack.name, stack.arn, stack.shape.notification_arns)

    async def _deployment(self, stack: Stack, plan: Plan | None = None) -> Deployment:
        call = await self._call_as(stack.caller, stack.role_arn, stack.account, stack.region)
        if plan is None:
            plan = await self._room.planner.plan(stack.shape, self._place(stack), call)
        return Deployment(self._book, stack, plan, call, self._room.signals, self, self._alarming)

    def _alarming(self, stack: Stack) -> str | None:
        """The first rollback trigger that is in alarm."""
        triggers = (stack.rollback_configuration or {}).get("RollbackTriggers", [])
        if not triggers or self._room.alarms is None:
            return None
        names = [str(item["Arn"]).rpartition(":")[2] for item in triggers]
        states = self._room.alarms.states(stack.account, stack.region, names)
        return next((name for name in names if states.get(name, "ALARM") == "ALARM"), None)

    def _begin(self, stack: Stack, work: Coroutine[Any, Any, None]) -> None:
        """Run an operation's work beside the request that asked for it."""
        task = asyncio.create_task(self._whole(stack, work), name=f"stack {stack.name}")
        self._tasks[stack.key] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(stack.key) is task:
                del self._tasks[stack.key]
                self._deployments.pop(stack.key, None)

        task.add_done_callback(ended)

    async def _whole(self, stack: Stack, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("the deployment of %s broke", stack.name)
            current = self._book.stacks.get(stack.key)
            if current is not None and current.in_progress:
                status = current.status.removesuffix("_COMPLETE_CLEANUP_IN_PROGRESS").removesuffix(
                    "_IN_PROGRESS"
                )
                await self._book.tell_stack(current, f"{status}_FAILED", "Internal Failure")
