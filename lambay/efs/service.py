"""The service `efs`: every group of operations on one set of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.aws import Service
from lambay.efs.access_point_operations import AccessPointOperations
from lambay.efs.errors import file_system_not_found
from lambay.efs.mount_sources import MountSources
from lambay.efs.mount_target_operations import MountTargetOperations
from lambay.efs.policy_operations import PolicyOperations
from lambay.efs.records import FileSystem
from lambay.efs.replication_operations import ReplicationOperations
from lambay.efs.sizes import metered
from lambay.efs.tag_operations import TagOperations
from lambay.efs.throughput_limits import Retire
from lambay.fsd import Report


class FileSystems(
    ReplicationOperations,
    MountTargetOperations,
    AccessPointOperations,
    PolicyOperations,
    TagOperations,
    MountSources,
    Service,
):
    """Amazon EFS, API version 2015-02-01. `start` before the first call, `stop` after the last."""

    service_name: ClassVar[str] = "efs"

    def stored_not_enforced(self, file_system: FileSystem) -> list[str]:
        """Which settings of a file system are kept but have no effect yet, in words for a status page."""
        notes = [
            f"lifecycle: {transition} {after}: files stay in Standard storage"
            for transition, after in file_system.lifecycle
        ]
        if file_system.backup:
            notes.append("backup: no backups are made")
        replication = self._replication_of(file_system)
        if replication is not None:
            notes.append(f"replication {replication.source} → {replication.destination}: nothing is copied")
        if file_system.encrypted:
            notes.append(f"encryption with {file_system.kms_key}: files are stored as they are")
        amount = "" if file_system.provisioned_mibps is None else f" {file_system.provisioned_mibps:g} MiB/s"
        if file_system.throughput_mode != "elastic" and not self._throughput.enforced:
            notes.append(f"throughput {file_system.throughput_mode}{amount}: not limited")
        return notes

    def on_bypass(self, retire: Retire) -> None:
        """Have `retire` called with mounts that have files open past fsd though their throughput is limited."""
        self._throughput.on_bypass(retire)

    async def burst_credits(self, file_system: str) -> Report:
        """How a file system stands to its throughput mode. Raises AWSError, FsdError."""
        return await self._throughput.report(self._usable(file_system))

    async def put_burst_credits(self, file_system: str, credit_bytes: int) -> Report:
        """Set its balance; more than it may have is cut to that. Raises AWSError, FsdError."""
        return await self._throughput.put_credits(self._usable(file_system), credit_bytes)

    def _usable(self, file_system: str) -> str:
        if not any(each.id == file_system for each in self.watched()):
            raise file_system_not_found(file_system)
        return file_system

    def watched(self) -> Sequence[FileSystem]:
        """The file systems of every account and Region that can be used, for who measures them."""
        return [each for each in self._file_systems if each.state in ("available", "updating")]

    async def stored_bytes(self, file_system: str) -> Mapping[str, int] | None:
        """Metered size of a file system by storage class (Standard, IA, Archive); None where nobody knows."""
        size = await self._sizes.of(file_system)
        return None if size is None else {"Standard": size.bytes, "IA": 0, "Archive": 0}

    def metered_size(self, stored: int, objects: int) -> int:
        """What a file system's size is told as where the file server counts so many bytes and objects."""
        return metered(stored, objects)

    async def summary(self) -> Mapping[str, Any]:
        """For `lambay status`: counts, and each file system with its size in bytes and its notes."""
        listed: list[dict[str, Any]] = []
        for file_system in self._file_systems:
            size = await self._sizes.of(file_system.id) if file_system.state == "available" else None
            listed.append(
                {
                    "id": file_system.id,
                    "account": file_system.account,
                    "region": file_system.region,
                    "name": file_system.tags.get("Name"),
                    "state": file_system.state,
                    "bytes": size.bytes if size else None,
                    "objects": size.objects if size else None,
                    "mount_targets": len(self._mount_targets_of(file_system)),
                    "access_points": len(self._access_points_under(file_system)),
                    "stored_not_enforced": self.stored_not_enforced(file_system),
                }
            )
        return {
            "file_systems": listed,
            "mount_targets": len(self._mount_targets),
            "access_points": len(self._access_points),
        }
