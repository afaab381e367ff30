"""What is kept of stacks.

Keys: `ACCOUNT/REGION/STACK-UUID`, and below it `/LOGICAL-ID`, `/EVENT-NUMBER`, `/CHANGE-SET-UUID`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Tag(msgspec.Struct, frozen=True):
    key: str
    value: str


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """The principal that a stack's operation acts as; a `role_arn` of the stack's own wins."""

    kind: str
    account: str
    arn: str
    user_id: str
    access_key_id: str = ""
    role_arn: str | None = None
    session_name: str | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stack should be: everything that an update replaces as a whole."""

    template: str = ""
    processed: str = ""
    parameters: dict[str, str] = {}
    fetched: dict[str, str] = {}
    tags: tuple[Tag, ...] = ()
    capabilities: tuple[str, ...] = ()
    notification_arns: tuple[str, ...] = ()


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    value: str
    description: str = ""
    export: str | None = None


class Stack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`shape` is what is being or has been deployed, `before` what a rollback returns to. Times in seconds."""

    arn: str
    name: str
    account: str
    region: str
    caller: Caller
    shape: Shape
    status: str
    created: float
    reason: str = ""
    before: Shape | None = None
    role_arn: str | None = None
    description: str = ""
    outputs: tuple[Output, ...] = ()
    updated: float | None = None
    deleted: float | None = None
    disable_rollback: bool = False
    on_failure: str = "ROLLBACK"
    retain_except_on_create: bool = False
    timeout_minutes: int | None = None
    termination_protection: bool = False
    policy: str | None = None
    policy_during_update: str | None = None
    rollback_configuration: dict[str, Any] | None = None
    parent: str | None = None
    root: str | None = None
    token: str | None = None
    change_set: str | None = None
    retain: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    events: int = 0
    imports: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.id}"

    @property
    def in_progress(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


class Physical(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One made thing: its id, what it was made of and what Fn::GetAtt gives of it. `id` is empty until known."""

    id: str = ""
    token: str = ""
    properties: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    type: str = ""


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`before` is the thing before this operation, for rollback; None where the operation made it."""

    name: str
    type: str
    status: str
    now: Physical
    before: Physical | None = None
    # Whether this operation has touched it; otherwise `before` says nothing.
    touched: bool = False
    # Things that this operation has put aside; they are removed when it is over.
    retired: tuple[Physical, ...] = ()
    reason: str = ""
    at: float = 0
    needs: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    metadata: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    stack: str
    stack_name: str
    resource: str
    physical: str
    type: str
    at: float
    status: str
    reason: str = ""
    properties: str | None = None
    token: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    action: str
    name: str
    type: str
    physical: str = ""
    replacement: str = ""
    scope: tuple[str, ...] = ()
    details: tuple[dict[str, Any], ...] = ()


class ChangeSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    arn: str
    name: str
    stack: str
    type: str
    shape: Shape
    status: str
    execution: str
    created: float
    caller: Caller
    role_arn: str | None = None
    reason: str = ""
    description: str = ""
    changes: tuple[Change, ...] = ()
    rollback_configuration: dict[str, Any] | None = None
    on_failure: str | None = None
    include_nested: bool = False
    token: str | None = None

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a wait condition's or custom resource's answers arrive; `answers` by unique id."""

    token: str
    account: str
    region: str
    answers: dict[str, str] = {}
