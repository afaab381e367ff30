"""What every family of operations stands on: the room's records, its code and its colleagues."""

from __future__ import annotations

from dataclasses import dataclass

from lambay.aws import Neighbours, Service
from lambay.clock import Clock
from lambay.functions.admission import Admission
from lambay.functions.code import CodeStore
from lambay.functions.event_queue import EventQueue
from lambay.functions.lifecycle import Lifecycle
from lambay.functions.locations import Locations
from lambay.functions.ports import Access
from lambay.functions.requirements import Requirements
from lambay.functions.resources import Resources
from lambay.functions.runtimes import Runtimes


@dataclass(frozen=True, slots=True)
class Room:
    resources: Resources
    code: CodeStore
    locations: Locations
    requirements: Requirements
    lifecycle: Lifecycle
    admission: Admission
    queue: EventQueue
    runtimes: Runtimes
    neighbours: Neighbours
    access: Access
    clock: Clock


class Operations(Service):
    """A family of operations; the service, made of all of them, sets what they declare."""

    service_name = "lambda"
    _room: Room

    @property
    def _resources(self) -> Resources:
        return self._room.resources
