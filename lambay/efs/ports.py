"""What the room needs from the others, each as narrow as its use here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lambay.fsd import Limits, Mount, Mounted, Report, Stats, Usage


class FileServer(Protocol):
    """fsd; every method raises FsdError."""

    async def open_volume(self, volume: str, backing: Path) -> None: ...
    async def close_volume(self, volume: str) -> None: ...
    async def usage(self, volume: str) -> Usage: ...
    async def mount(self, mount: Mount) -> Mounted: ...
    async def unmount(self, mount: str) -> None: ...
    async def limit(self, volume: str, limits: Limits) -> Report: ...
    async def set_clock(self, nanoseconds: int) -> None: ...
    async def stats(self) -> Stats: ...
    def mounts_of(self, volume: str) -> list[str]: ...


class Subnet(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def vpc(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def zone_id(self) -> str: ...


class Interface(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def address(self) -> str: ...


class Network(Protocol):
    """VPCs. Errors are AWSErrors with EC2's codes (`InvalidSubnetID.NotFound`, …)."""

    async def subnet(self, subnet: str, *, account: str, region: str) -> Subnet: ...

    async def default_security_group(self, vpc: str, *, account: str, region: str) -> str: ...

    async def check_security_groups(
        self, groups: Sequence[str], vpc: str, *, account: str, region: str
    ) -> None: ...

    async def create_interface(
        self,
        subnet: str,
        security_groups: Sequence[str],
        *,
        account: str,
        region: str,
        description: str,
        address: str | None = None,
    ) -> Interface: ...

    async def ensure_interface(
        self,
        interface: str,
        subnet: str,
        security_groups: Sequence[str],
        address: str,
        *,
        account: str,
        region: str,
        description: str,
    ) -> None: ...

    async def set_interface_groups(
        self, interface: str, security_groups: Sequence[str], *, account: str, region: str
    ) -> None: ...

    async def delete_interface(self, interface: str, *, account: str, region: str) -> None: ...
