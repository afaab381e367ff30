"""What policies leave a client of a mount source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lambay.aws import Principal
from lambay.fsd import Permissions
from lambay.mount_source import MountSource

ANONYMOUS = Principal(kind="anonymous", account="", arn="", user_id="anonymous")


class Decision(Protocol):
    @property
    def client_mount(self) -> bool: ...
    @property
    def client_write(self) -> bool: ...
    @property
    def client_root_access(self) -> bool: ...


class Deciding(Protocol):
    async def may_mount(
        self,
        principal: Principal,
        file_system_arn: str,
        file_system_policy: str | None,
        *,
        access_point_arn: str | None = None,
        secure_transport: bool,
        keys: Mapping[str, str | None] | None = None,
    ) -> Decision: ...


async def permissions(
    deciding: Deciding,
    principal: Principal,
    source: MountSource,
    keys: Mapping[str, str | None],
    *,
    secure: bool,
) -> Permissions:
    """`keys` are further condition keys of the client's, such as `aws:SourceVpc`."""
    if source.file_system_policy is None and principal.kind == "anonymous":
        return Permissions(read_only=source.read_only)
    decision = await deciding.may_mount(
        principal,
        source.file_system_arn,
        source.file_system_policy,
        access_point_arn=source.access_point_arn,
        secure_transport=secure,
        keys=keys,
    )
    return Permissions(
        read_only=source.read_only or not decision.client_write,
        root_squash=not decision.client_root_access,
        denied=not decision.client_mount,
    )
