"""What environments need of the network: a link for each sandbox, and the connection that a mount lives by."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a function's environments are: behind its interface in one of the subnets of a VPC."""

    account: str
    region: str
    vpc: str
    subnets: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MountTarget:
    """A mount target as a mount goes to it; `zone` is its Availability Zone's name."""

    id: str
    address: str
    zone: str


@dataclass(frozen=True, slots=True)
class MountTargets:
    """Those of a file system, by zone."""

    account: str
    region: str
    by_zone: Mapping[str, MountTarget]


class Mounted(Protocol):
    """Who holds a mount, told what becomes of its connection."""

    def stall(self) -> None:
        """Packets do not pass any more; they may again."""

    def resume(self) -> None: ...

    def lose(self, reason: str) -> None:
        """The connection is gone for good."""


class Lifeline(Protocol):
    """The connection to the mount target, for as long as the mount stands."""

    def close(self) -> None: ...


class Link(Protocol):
    """One sandbox's."""

    async def join(self, placement: Placement | None) -> None:
        """Be part of a VPC or, with None, of the internet. Raises SandboxFailure."""

    async def settle(self) -> None:
        """Return once what the API has acknowledged is in force here."""

    async def open_lifeline(self, targets: MountTargets, mounted: Mounted, seconds: float) -> Lifeline:
        """Connect to the mount target of this link's zone. Raises MountTimeout, MountConnectivityFailure."""

    async def close(self) -> None: ...


class Wiring(Protocol):
    def plug(self, network: int) -> Awaitable[Link]:
        """Give the network namespace of this descriptor a link, which reaches nothing yet. Raises OSError."""
