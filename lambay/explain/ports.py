"""What an explanation asks of the rooms, each as narrow as its use here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lambay.aws import Call
from lambay.mount_source import MountSource


class Lambda(Protocol):
    async def get_function_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]: ...


class FileSystems(Protocol):
    async def mount_source(self, identifier: str, *, account: str, region: str) -> MountSource: ...

    def place_of(self, identifier: str) -> tuple[str, str] | None: ...


class Subnet(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def zone(self) -> str: ...


class Verdict(Protocol):
    @property
    def allowed(self) -> bool: ...
    @property
    def sentence(self) -> str: ...


class Network(Protocol):
    async def subnet(self, subnet: str, *, account: str, region: str) -> Subnet: ...

    async def reach_mount_target(
        self, subnet: str, groups: Sequence[str], address: str, *, account: str, region: str
    ) -> Verdict:
        """Whether a function in the subnet, with these security groups, reaches the address on 2049."""
        ...


class Access(Protocol):
    async def assumable(self, role_arn: str, *, source_arn: str, region: str) -> bool: ...

    async def lacking(
        self, role_arn: str, action: str, resource: str | None = None, *, region: str
    ) -> str: ...


class Permit(Protocol):
    @property
    def read_only(self) -> bool: ...
    @property
    def root_squash(self) -> bool: ...
    @property
    def refusal(self) -> str: ...
    @property
    def refused_by(self) -> str: ...
    @property
    def limits(self) -> tuple[str, ...]: ...


class MountPermits(Protocol):
    async def permit(self, role_arn: str, session_name: str, source: Any, vpc: str) -> Permit: ...

    async def traps(self, role_arn: str, session_name: str, source: Any, vpc: str) -> tuple[str, ...]: ...
