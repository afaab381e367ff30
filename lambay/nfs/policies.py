"""What policies leave a client of a mount source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lambay.aws import Principal
from lambay.fsd import Create, Permissions, PosixIdentity

ANONYMOUS = Principal(kind="anonymous", account="", arn="", user_id="anonymous")


class MountTarget(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def vpc(self) -> str: ...


class Source(Protocol):
    """A mount source of EFS."""

    @property
    def volume(self) -> str: ...
    @property
    def file_system(self) -> str: ...
    @property
    def file_system_arn(self) -> str: ...
    @property
    def file_system_policy(self) -> str | None: ...
    @property
    def access_point(self) -> str | None: ...
    @property
    def access_point_arn(self) -> str | None: ...
    @property
    def root(self) -> str: ...
    @property
    def create(self) -> Create | None: ...
    @property
    def posix(self) -> PosixIdentity | None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def mount_targets(self) -> Mapping[str, MountTarget]: ...


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
    source: Source,
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
