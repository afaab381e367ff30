"""What is kept of each resource. Collections are keyed by `ACCOUNT/REGION/ID`."""

from __future__ import annotations

from typing import Literal

import msgspec

from lambay.aws import Call, arn

LifeCycleState = Literal["creating", "available", "updating", "deleting", "error"]
Protection = Literal["ENABLED", "DISABLED", "REPLICATING"]
Transition = Literal["TransitionToIA", "TransitionToPrimaryStorageClass", "TransitionToArchive"]


def record_key(account: str, region: str, identifier: str) -> str:
    return f"{account}/{region}/{identifier}"


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """`created` and `throughput_restricted_from` are seconds since the epoch.

    `lifecycle` holds transitions as the API names them (`TransitionToIA`: `AFTER_30_DAYS`); `backup` is None
    where no backup policy was ever set; `zone` is set for One Zone file systems only.
    """

    id: str
    account: str
    region: str
    creation_token: str
    created: float
    state: LifeCycleState
    performance_mode: str
    throughput_mode: str
    provisioned_mibps: float | None = None
    throughput_restricted_from: float | None = None
    encrypted: bool = False
    kms_key: str | None = None
    zone: str | None = None
    zone_id: str | None = None
    tags: dict[str, str] = {}
    policy: str | None = None
    lifecycle: tuple[tuple[Transition, str], ...] = ()
    backup: bool | None = None
    protection: Protection = "ENABLED"

    @property
    def key(self) -> str:
        return record_key(self.account, self.region, self.id)

    @property
    def arn(self) -> str:
        return arn("elasticfilesystem", self.region, self.account, f"file-system/{self.id}")


class MountTarget(msgspec.Struct, frozen=True, kw_only=True):
    """`interface` and `address` are empty until the network interface exists."""

    id: str
    account: str
    region: str
    file_system: str
    subnet: str
    vpc: str
    zone: str
    zone_id: str
    security_groups: tuple[str, ...]
    state: LifeCycleState
    interface: str = ""
    address: str = ""

    @property
    def key(self) -> str:
        return record_key(self.account, self.region, self.id)


class PosixUser(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    gids: tuple[int, ...] = ()


class CreationInfo(msgspec.Struct, frozen=True):
    """`permissions` are octal digits as given ("0755")."""

    uid: int
    gid: int
    permissions: str


class AccessPoint(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    account: str
    region: str
    file_system: str
    client_token: str
    state: LifeCycleState
    root: str = "/"
    creation: CreationInfo | None = None
    posix: PosixUser | None = None
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        return record_key(self.account, self.region, self.id)

    @property
    def arn(self) -> str:
        return arn("elasticfilesystem", self.region, self.account, f"access-point/{self.id}")


class Replication(msgspec.Struct, frozen=True, kw_only=True):
    """From one file system to another, maybe in another Region; kept under the source's key."""

    account: str
    source_region: str
    source: str
    destination_region: str
    destination: str
    created: float
    role_arn: str | None = None

    @property
    def key(self) -> str:
        return record_key(self.account, self.source_region, self.source)

    @property
    def destination_key(self) -> str:
        return record_key(self.account, self.destination_region, self.destination)


class AccountPreferences(msgspec.Struct, frozen=True):
    """Kept under `ACCOUNT/REGION/preferences`."""

    resource_id_type: str


def owned_by(call: Call, identifier: str) -> str:
    """The key that `identifier` has among the resources of the caller's account and Region."""
    return record_key(call.account, call.region, identifier)
