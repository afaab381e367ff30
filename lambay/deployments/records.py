"""What the room keeps, under `ACCOUNT/REGION/…`; shapes of the API are made in `rendering`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

BEFORE = "BeforeAllowTraffic"
ALLOW = "AllowTraffic"
AFTER = "AfterAllowTraffic"
EVENTS = (BEFORE, ALLOW, AFTER)

Status = Literal["Created", "InProgress", "Succeeded", "Failed", "Stopped"]
EventStatus = Literal["Pending", "InProgress", "Succeeded", "Failed", "Skipped"]


class Kept(msgspec.Struct, frozen=True):
    """A record of an account in a Region, known by its `name`."""

    account: str
    region: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"


class Application(Kept, frozen=True, kw_only=True):
    id: str
    created: datetime
    tags: dict[str, str] = {}


class Shifting(msgspec.Struct, frozen=True):
    """How traffic moves: `percentage` of it every `minutes`, or once and then the rest."""

    kind: Literal["AllAtOnce", "TimeBasedCanary", "TimeBasedLinear"] = "AllAtOnce"
    percentage: int = 100
    minutes: int = 0


class DeploymentConfig(Kept, frozen=True, kw_only=True):
    id: str
    created: datetime
    shifting: Shifting


class Alarms(msgspec.Struct, frozen=True):
    """Alarms that end a deployment; `ignore_unknown` lets it go on where one is not there."""

    names: tuple[str, ...] = ()
    enabled: bool = False
    ignore_unknown: bool = False


class Rollback(msgspec.Struct, frozen=True):
    """On which `DEPLOYMENT_…` events the alias is given back."""

    enabled: bool = False
    events: tuple[str, ...] = ()

    def wants(self, event: str) -> bool:
        return self.enabled and event in self.events


class DeploymentGroup(Kept, frozen=True, kw_only=True):
    """`triggers` are SNS topics, each with the events that it is told of."""

    application: str
    id: str
    config: str
    role: str
    alarms: Alarms = Alarms()
    rollback: Rollback = Rollback()
    triggers: tuple[dict[str, Any], ...] = ()
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.application}/{self.name}"


class AppSpec(msgspec.Struct, frozen=True):
    """Which alias of which function moves from which version to which; `hooks` are functions by event."""

    function: str
    alias: str
    current: str
    target: str
    hooks: dict[str, str] = {}


class Event(msgspec.Struct, frozen=True):
    """A lifecycle event; `execution` is the id that its hook answers with."""

    name: str
    status: EventStatus = "Pending"
    started: datetime | None = None
    ended: datetime | None = None
    execution: str = ""
    message: str = ""


class Deployment(Kept, frozen=True, kw_only=True):
    """`name` is its id. `percentage` is the target's share of the traffic, in effect."""

    application: str
    group: str
    config: str
    role: str
    shifting: Shifting
    revision: dict[str, Any]
    spec: AppSpec
    created: datetime
    creator: str = "user"
    description: str = ""
    status: Status = "Created"
    started: datetime | None = None
    completed: datetime | None = None
    percentage: float = 0.0
    events: tuple[Event, ...] = ()
    alarms: Alarms = Alarms()
    rollback: Rollback = Rollback()
    error_code: str = ""
    error_message: str = ""
    stopping: str = ""
    rollback_id: str = ""
    rolls_back: str = ""

    @property
    def over(self) -> bool:
        return self.status in ("Succeeded", "Failed", "Stopped")

    def event(self, name: str) -> Event:
        return next(event for event in self.events if event.name == name)

    def with_event(self, name: str, **changes: Any) -> Deployment:
        events = tuple(
            msgspec.structs.replace(event, **changes) if event.name == name else event
            for event in self.events
        )
        return msgspec.structs.replace(self, events=events)


class Revision(msgspec.Struct, frozen=True):
    """A revision that was registered with an application or deployed to it."""

    account: str
    region: str
    application: str
    digest: str
    location: dict[str, Any]
    registered: datetime
    description: str = ""
    first_used: datetime | None = None
    last_used: datetime | None = None
    groups: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.application}/{self.digest}"
