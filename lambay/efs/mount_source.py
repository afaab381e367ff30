"""What a mount of a file system consists of, for those who mount it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lambay.efs.records import LifeCycleState
from lambay.fsd import Create, PosixIdentity


@dataclass(frozen=True, slots=True)
class MountTargetAddress:
    """One mount target of a source, for the zone that it serves."""

    id: str
    address: str
    state: LifeCycleState
    subnet: str
    vpc: str
    zone: str
    security_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSource:
    """What a mount of an access point, or of a whole file system, consists of.

    `volume` is open in fsd with `backing` beneath it; `create` and `posix` go to fsd as they are.
    `kms_key` is the ARN of the key that the file system is encrypted with. `mount_targets` are by Availability Zone
    name. `read_only` is true for a replication's destination.
    """

    volume: str
    file_system: str
    file_system_arn: str
    file_system_policy: str | None
    kms_key: str | None = None
    access_point: str | None
    access_point_arn: str | None
    root: str
    create: Create | None
    posix: PosixIdentity | None
    read_only: bool
    backing: Path
    mount_targets: dict[str, MountTargetAddress]
