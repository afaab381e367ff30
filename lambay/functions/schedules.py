"""EventBridge rules on a schedule: the neighbour keeps them, but nobody there looks at the clock.

Scheduled rules are read whenever EventBridge changes and kept here, so that a start need not ask for them.
What was due while no server ran is not made up for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambay.aws import Arn, AWSError, Neighbours
from lambay.clock import Clock
from lambay.functions import schedule_expression
from lambay.functions.ports import Trigger
from lambay.functions.records import RuleTarget, ScheduledRule
from lambay.functions.resources import Resources

_log = logging.getLogger(__name__)

_PLACEHOLDER = re.compile(r"<([^<>\s]+)>")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A `Trigger`: an event that a rule sends to a function because its hour has come."""

    function_arn: str
    event: Any
    source_arn: str
    source_account: str
    principal: str = "events.amazonaws.com"
    trace_id: str = ""


class Schedules:
    """Fires scheduled rules by the clock: functions through `deliver`, queues and topics through the neighbours."""

    def __init__(
        self,
        resources: Resources,
        neighbours: Neighbours,
        clock: Clock,
        deliver: Callable[[Trigger], Awaitable[None]],
    ) -> None:
        self._resources = resources
        self._neighbours = neighbours
        self._clock = clock
        self._deliver = deliver
        self._due: dict[str, datetime] = {}
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        for rule in self._resources.scheduled_rules:
            self._plan(rule)
        self._spawn(self._serve())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._due.clear()

    def rules_changed(self, account: str, region: str) -> None:
        """EventBridge has changed there."""
        self._spawn(self._read(account, region))

    def forget(self) -> None:
        """After every record was removed."""
        self._due.clear()
        self._changed.set()

    async def _read(self, account: str, region: str) -> None:
        async with self._reading:
            rules = {rule.key: rule for rule in await self._rules(account, region)}
            known = {rule.key: rule for rule in self._resources.scheduled_rules.under(f"{account}/{region}/")}
            collection = self._resources.scheduled_rules
            changes = [collection.remove(key) for key in known if key not in rules]
            for key, rule in rules.items():
                earlier = known.get(key)
                if earlier is not None and earlier.expression == rule.expression:
                    rule = rules[key] = ScheduledRule(**{**_fields(rule), "since": earlier.since})
                if rule != earlier:
                    changes.append(collection.put(key, rule))
            if changes:
                await self._resources.commit(*changes)
            for key in known:
                if key not in rules:
                    self._due.pop(key, None)
            for key, rule in rules.items():
                if known.get(key) is None or known[key].expression != rule.expression:
                    self._plan(rule)

    async def _rules(self, account: str, region: str) -> list[ScheduledRule]:
        """The enabled rules with a schedule, which only the default bus has."""
        found: list[ScheduledRule] = []
        for shown in await self._pages("ListRules", {}, "Rules", account, region):
            if not shown.get("ScheduleExpression") or shown.get("State") == "DISABLED":
                continue
            targets = await self._pages(
                "ListTargetsByRule", {"Rule": shown["Name"]}, "Targets", account, region
            )
            found.append(
                ScheduledRule(
                    account=account,
                    region=region,
                    name=shown["Name"],
                    arn=shown["Arn"],
                    expression=shown["ScheduleExpression"],
                    since=self._clock.now(),
                    targets=tuple(_target(target) for target in targets),
                )
            )
        return found

    async def _pages(
        self, operation: str, input: dict[str, Any], member: str, account: str, region: str
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            given = {**input, "NextToken": token} if token else input
            answer = await self._neighbours.call("events", operation, given, account=account, region=region)
            found += answer.get(member, [])
            token = answer.get("NextToken")
            if not token:
                return found

    def _plan(self, rule: ScheduledRule) -> None:
        try:
            due = schedule_expression.parse(rule.expression).next_after(self._clock.now(), rule.since)
        except (ValueError, KeyError) as error:
            _log.warning("rule %s is never due: %s", rule.arn, error)
            due = None
        if due is None:
            self._due.pop(rule.key, None)
        else:
            self._due[rule.key] = due
        self._changed.set()

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock.now()
            for key in [key for key, due in self._due.items() if due <= now]:
                due, rule = self._due.pop(key), self._resources.scheduled_rules.get(key)
                if rule is not None:
                    self._spawn(self._fire(rule, due))
                    self._plan(rule)
            waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._changed.wait())}
            if self._due:
                seconds = (min(self._due.values()) - self._clock.now()).total_seconds()
                waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _fire(self, rule: ScheduledRule, due: datetime) -> None:
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": rule.account,
            "time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": rule.region,
            "resources": [rule.arn],
            "detail": {},
        }
        for target in rule.targets:
            try:
                await self._send(rule, target, _input(target, event))
            except (AWSError, ValueError) as error:
                _log.warning("rule %s: %s was not reached: %s", rule.arn, target.arn, error)

    async def _send(self, rule: ScheduledRule, target: RuleTarget, event: Any) -> None:
        arn = Arn.parse(target.arn)
        place = (arn.account, arn.region)
        match arn.service:
            case "lambda":
                await self._deliver(Scheduled(target.arn, event, rule.arn, rule.account))
            case "sqs":
                named = {"QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account}
                url = (await self._call("sqs", "GetQueueUrl", named, *place))["QueueUrl"]
                message = {"QueueUrl": url, "MessageBody": json.dumps(event)}
                await self._call("sqs", "SendMessage", message, *place)
            case "sns":
                await self._call(
                    "sns", "Publish", {"TopicArn": target.arn, "Message": json.dumps(event)}, *place
                )
            case _:
                raise ValueError(f"scheduled rules reach functions, queues and topics, not {arn.service}")

    async def _call(
        self, service: str, operation: str, input: dict[str, Any], account: str, region: str
    ) -> dict[str, Any]:
        return await self._neighbours.call(service, operation, input, account=account, region=region)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name="lambda: schedules")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("schedules: a step failed", exc_info=error)


def _fields(rule: ScheduledRule) -> dict[str, Any]:
    return {field: getattr(rule, field) for field in rule.__struct_fields__}


def _target(shown: dict[str, Any]) -> RuleTarget:
    transformer = shown.get("InputTransformer") or {}
    return RuleTarget(
        arn=shown["Arn"],
        input=shown.get("Input", ""),
        input_path=shown.get("InputPath", ""),
        paths=dict(transformer.get("InputPathsMap") or {}),
        template=transformer.get("InputTemplate", ""),
    )


def _input(target: RuleTarget, event: dict[str, Any]) -> Any:
    """A constant, a part of the event, a template with parts of it, or the event."""
    if target.input:
        return json.loads(target.input)
    if target.input_path:
        return _part(target.input_path, event)
    if target.template:
        filled = _filled(target.template, {name: _part(path, event) for name, path in target.paths.items()})
        return json.loads(filled)
    return event


def _part(path: str, event: Any) -> Any:
    for step in path.removeprefix("$").strip(".").split("."):
        if step:
            event = event.get(step) if isinstance(event, dict) else None
    return event


def _filled(template: str, parts: dict[str, Any]) -> str:
    """The template with its `<names>`: as JSON, or within a string as its text."""
    pieces: list[str] = []
    last, quoted = 0, False
    for found in _PLACEHOLDER.finditer(template):
        between = template[last : found.start()]
        quoted ^= (between.count('"') - between.count('\\"')) % 2 == 1
        value = parts.get(found[1])
        text = json.dumps(value)
        pieces += [between, text.strip('"') if quoted else text]
        last = found.end()
    return "".join((*pieces, template[last:]))
