"""What the network needs of the EC2 neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lambay import aws
from lambay.neighbours import DerivedInterface


class Interfaces(Protocol):
    async def put(self, given: DerivedInterface, *, account: str, region: str) -> DerivedInterface: ...

    async def regroup(self, interface: str, groups: Sequence[str], *, account: str, region: str) -> None: ...

    async def remove(self, interface: str, *, account: str, region: str) -> None: ...


class Neighbours(aws.Neighbours, Protocol):
    @property
    def interfaces(self) -> Interfaces: ...
