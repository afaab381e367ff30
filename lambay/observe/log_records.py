"""What CloudWatch Logs keeps: groups, streams, events.

Times are milliseconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lambay.aws import arn

EVENT_OVERHEAD_BYTES = 26
"""What every event counts beside its message, in PutLogEvents' limit and in `storedBytes`."""

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A log group's name in its account and Region."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return arn("logs", self.region, self.account, f"log-group:{self.name}")


@dataclass(frozen=True, slots=True)
class Group:
    """A log group. `retention_days` None keeps events for ever."""

    id: int
    key: GroupKey
    created_ms: int
    log_class: str = "STANDARD"
    retention_days: int | None = None
    kms_key_id: str | None = None
    protected: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    stored_bytes: int = 0
    metric_filters: int = 0

    def oldest_kept_ms(self, now_ms: int) -> int:
        """Events before this time have expired."""
        return 0 if self.retention_days is None else now_ms - self.retention_days * DAY_MS


@dataclass(frozen=True, slots=True)
class Stream:
    """A log stream; `first_ms`, `last_ms` and `last_ingestion_ms` are None while it has no events."""

    id: int
    group_id: int
    name: str
    created_ms: int
    first_ms: int | None
    last_ms: int | None
    last_ingestion_ms: int | None
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """A log event. `id` orders events of one timestamp as they arrived."""

    id: int
    stream: str
    timestamp: int
    ingested_ms: int
    message: str

    @property
    def place(self) -> Place:
        return Place(self.timestamp, self.id)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A gap in a sequence of events: just before the event of this timestamp and id."""

    timestamp: int
    id: int

    @property
    def after(self) -> Place:
        """The gap behind the event that follows this one."""
        return Place(self.timestamp, self.id + 1)


BEGINNING = Place(0, 0)
END = Place((1 << 63) - 1, 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that go to one stream together; their ids count up from `first_id`."""

    group: GroupKey
    stream: str
    ingested_ms: int
    first_id: int
    events: Sequence[tuple[int, str]]

    def part(self, chosen: slice) -> Batch:
        """The batch of the events in `chosen` (from, to), which keep their ids."""
        start, stop, _ = chosen.indices(len(self.events))
        return Batch(
            self.group, self.stream, self.ingested_ms, self.first_id + start, self.events[start:stop]
        )

    def numbered(self) -> list[Event]:
        return [
            Event(self.first_id + number, self.stream, timestamp, self.ingested_ms, message)
            for number, (timestamp, message) in enumerate(self.events)
        ]


def event_bytes(message: str) -> int:
    """What an event with this message counts."""
    return (len(message) if message.isascii() else len(message.encode())) + EVENT_OVERHEAD_BYTES
