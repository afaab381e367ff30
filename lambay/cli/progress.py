"""A stack's resources while they are made, changed or deleted: a tree with states and times."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

# The API has no event to wait for.
_LOOK_SECONDS = 0.2
_ENDED = ("_COMPLETE", "_FAILED", "_SKIPPED")
_STACK = "AWS::CloudFormation::Stack"


@dataclass
class Row:
    """A resource of a stack, or the stack itself."""

    name: str
    type: str
    status: str = ""
    reason: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    inside: dict[str, Row] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        if self.began is None or self.ended is None:
            return None
        return (self.ended - self.began).total_seconds()


class Progress:
    """Follows the events of `stack` (its ARN) that come after those it has now, until the stack rests."""

    def __init__(self, cloudformation: Any, stack: str, name: str) -> None:
        self._cloudformation = cloudformation
        self._stack = stack
        self.root = Row(name, _STACK)
        self.failures: list[tuple[str, str]] = []
        self._seen = {event["EventId"] for event in self._events(stack)}
        self._nested: dict[str, Row] = {}

    def follow(self, console: Console) -> str:
        """The status in which the stack rests; "DELETE_COMPLETE" where it is gone."""
        if not console.is_terminal:
            return self._follow_in_lines(console)
        with Live(self.tree(), console=console, refresh_per_second=10) as live:
            while True:
                status = self._status()
                self._look()
                live.update(self.tree())
                if _rests(status):
                    return status
                time.sleep(_LOOK_SECONDS)

    def tree(self) -> Tree:
        made = Tree(_line(self.root))
        _grow(made, self.root)
        return made

    def _follow_in_lines(self, console: Console) -> str:
        while True:
            status = self._status()
            for row in self._look():
                console.print(
                    Text(f"{row.status:<22} {row.type:<34} {row.name}  {row.reason}".rstrip()), soft_wrap=True
                )
            if _rests(status):
                return status
            sys.stdout.flush()
            time.sleep(_LOOK_SECONDS)

    def _status(self) -> str:
        from botocore.exceptions import ClientError

        try:
            found = self._cloudformation.describe_stacks(StackName=self._stack)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return "DELETE_COMPLETE"
            raise
        return str(found[0]["StackStatus"])

    def _look(self) -> list[Row]:
        """Rows as each new event leaves them, oldest first."""
        changed = self._take(self._stack, self.root)
        for nested, row in list(self._nested.items()):
            changed += self._take(nested, row)
        return changed

    def _take(self, stack: str, parent: Row) -> list[Row]:
        changed = []
        for event in reversed(self._events(stack)):
            if event["EventId"] in self._seen:
                continue
            self._seen.add(event["EventId"])
            own = event["PhysicalResourceId"] == event["StackId"] if "PhysicalResourceId" in event else False
            name = event["LogicalResourceId"]
            row = parent if own else parent.inside.setdefault(name, Row(name, event["ResourceType"]))
            self._turn(row, event)
            if not own and row.type == _STACK and event.get("PhysicalResourceId"):
                self._nested.setdefault(event["PhysicalResourceId"], row)
            changed.append(Row(row.name, row.type, row.status, row.reason))
        return changed

    def _turn(self, row: Row, event: dict[str, Any]) -> None:
        row.status = event["ResourceStatus"]
        row.reason = event.get("ResourceStatusReason", "")
        if row.status.endswith("_IN_PROGRESS") and (row.began is None or row.ended is not None):
            row.began, row.ended = event["Timestamp"], None
        elif row.status.endswith(_ENDED):
            row.ended = event["Timestamp"]
        if row.status.endswith("_FAILED") and row.reason:
            self.failures.append((row.name, row.reason))

    def _events(self, stack: str) -> list[dict[str, Any]]:
        """Newest first, as far back as the first one known."""
        from botocore.exceptions import ClientError

        found: list[dict[str, Any]] = []
        try:
            for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack):
                for event in page["StackEvents"]:
                    if event["EventId"] in getattr(self, "_seen", ()):
                        return found
                    found.append(event)
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
        return found


def _rests(status: str) -> bool:
    return not status.endswith("_IN_PROGRESS")


def _grow(tree: Tree, row: Row) -> None:
    for inside in row.inside.values():
        _grow(tree.add(_line(inside)), inside)


def _line(row: Row) -> Text:
    bad = "FAILED" in row.status or "ROLLBACK" in row.status
    mark, colour = (
        ("✗", "red") if bad else ("✓", "green") if row.status.endswith("_COMPLETE") else ("…", "yellow")
    )
    line = Text()
    line.append(f"{mark} ", colour)
    line.append(row.name, "bold")
    line.append(f"  {row.type}  ", "dim")
    line.append(row.status, colour)
    if row.seconds is not None:
        line.append(f"  {row.seconds:.1f} s", "dim")
    if row.reason and bad:
        line.append(f"\n{row.reason}", "red")
    return line
