"""Creating, describing, updating and deleting file systems."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call, resource_id
from lambay.efs.errors import bad_request
from lambay.efs.lifecycle import Lifecycle
from lambay.efs.paging import MOST, page_of
from lambay.efs.records import FileSystem, MountTarget
from lambay.efs.resources import tag_list, tag_map, timestamp, with_name
from lambay.efs.throughput import RESTRICTION_SECONDS, check_throughput, restricts
from lambay.fsd import FsdError

_log = logging.getLogger("lambay.efs")

_DEFAULT_KEY = "alias/aws/elasticfilesystem"


class FileSystemOperations(Lifecycle):
    """A file system is a directory; it is `available` once that is durable and open in fsd."""

    async def create_file_system(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        zone = input.get("AvailabilityZoneName")
        mode = input.get("ThroughputMode", "bursting")
        performance = input.get("PerformanceMode", "generalPurpose")
        provisioned = input.get("ProvisionedThroughputInMibps")
        check_throughput(mode, provisioned, performance, self._limits.provisioned_mibps)
        if zone is not None and performance == "maxIO":
            raise bad_request("PerformanceMode: maxIO is not supported for One Zone file systems.")
        tags = tag_map(input.get("Tags", ()))
        self._check_creation_token(call, input["CreationToken"])
        zone_id = await self._zone_id(call, zone) if zone is not None else None
        kms_key = await self._kms_key(call, input.get("Encrypted", False), input.get("KmsKeyId"))
        file_system = FileSystem(
            id=resource_id("fs"),
            account=call.account,
            region=call.region,
            creation_token=input["CreationToken"],
            created=self._clock.time(),
            state="creating",
            performance_mode=performance,
            throughput_mode=mode,
            provisioned_mibps=provisioned,
            encrypted=kms_key is not None,
            kms_key=kms_key,
            zone=zone,
            zone_id=zone_id,
            tags=tags,
            # One Zone file systems are backed up unless the caller declines.
            backup=input.get("Backup", True if zone is not None else None) or None,
        )
        return await self._create(call, file_system)

    async def describe_file_systems(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "FileSystemId" in input and "CreationToken" in input:
            raise bad_request("FileSystemId and CreationToken are mutually exclusive.")
        if "FileSystemId" in input:
            found = [self._file_system(call, input["FileSystemId"])]
        elif "CreationToken" in input:
            found = [self._by_creation_token(call, input["CreationToken"])]
        else:
            found = self._file_systems.under(f"{call.account}/{call.region}/")
        page, following = page_of(found, _identity, input.get("Marker"), input.get("MaxItems", MOST))
        output: dict[str, Any] = {
            "FileSystems": list(await asyncio.gather(*(self._describe(file_system) for file_system in page)))
        }
        if "Marker" in input:
            output["Marker"] = input["Marker"]
        if following is not None:
            output["NextMarker"] = following
        return output

    async def update_file_system(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        before = self._available_file_system(call, input["FileSystemId"])
        if "ThroughputMode" not in input and "ProvisionedThroughputInMibps" not in input:
            raise bad_request("Give ThroughputMode, ProvisionedThroughputInMibps or both.")
        mode = input.get("ThroughputMode", before.throughput_mode)
        provisioned = input.get("ProvisionedThroughputInMibps")
        if provisioned is None and mode == before.throughput_mode:
            provisioned = before.provisioned_mibps
        check_throughput(mode, provisioned, before.performance_mode, self._limits.provisioned_mibps)
        if (mode, provisioned) == (before.throughput_mode, before.provisioned_mibps):
            raise bad_request(f"File system '{before.id}' has this throughput mode and amount already.")
        if mode != "elastic" and "TransitionToArchive" in dict(before.lifecycle):
            raise bad_request(
                "ThroughputMode: a lifecycle policy moves files to Archive, which needs elastic throughput."
            )
        self._check_24_hours(before, mode, provisioned)
        since = before.throughput_restricted_from
        after = replace(
            before,
            throughput_mode=mode,
            provisioned_mibps=provisioned,
            throughput_restricted_from=self._clock.time() if mode == "provisioned" else since,
        )
        await self._save(after)
        try:
            await self._throughput.switch(after)
        except FsdError as error:
            # It is on record, and holds from the next start of the volume.
            _log.error("file system %s keeps its former throughput for now: %s", after.id, error)
        return await self._describe(replace(after, state="updating"))

    async def delete_file_system(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._file_system(call, input["FileSystemId"])
        if file_system.state == "deleting":
            return {}
        if self._mount_targets_of(file_system):
            raise AWSError(
                "FileSystemInUse",
                f"File system '{file_system.id}' has mount targets; delete them before the file system.",
            )
        if self._replication_of(file_system) is not None:
            raise AWSError(
                "FileSystemInUse",
                f"File system '{file_system.id}' is part of a replication configuration; delete that first.",
            )
        await self._delete(file_system)
        return {}

    async def update_file_system_protection(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        wanted = input.get("ReplicationOverwriteProtection")
        if wanted not in ("ENABLED", "DISABLED"):
            raise bad_request("ReplicationOverwriteProtection: give ENABLED or DISABLED.")
        if file_system.protection == "REPLICATING":
            raise AWSError(
                "ReplicationAlreadyExists",
                f"File system '{file_system.id}' is the destination of a replication configuration.",
            )
        await self._save(replace(file_system, protection=wanted))
        return {"ReplicationOverwriteProtection": wanted}

    async def _create(self, call: Call, file_system: FileSystem) -> dict[str, Any]:
        """Record, directory, volume; the answer shows the state that the request found, as EFS does."""
        # From here to the commit nothing awaits, so a token or the last free place is given away once.
        self._check_creation_token(call, file_system.creation_token)
        owned = f"{file_system.account}/{file_system.region}/"
        count = sum(1 for key, _ in self._file_systems.items() if key.startswith(owned))
        if count >= self._limits.file_systems:
            raise AWSError(
                "FileSystemLimitExceeded",
                f"The account has its limit of {self._limits.file_systems} file systems in this Region.",
            )
        await self._save(file_system)
        try:
            await self._make_available(file_system)
        except (OSError, FsdError) as error:
            await self._commit(self._file_systems.remove(file_system.key))
            raise AWSError("InternalServerError", f"File system was not created: {error}") from error
        return await self._describe(file_system)

    async def _delete(self, file_system: FileSystem) -> None:
        deleting = replace(file_system, state="deleting")
        access_points = self._access_points_under(file_system)
        await self._commit(
            self._file_systems.put(deleting.key, deleting),
            *(self._access_points.remove(access_point.key) for access_point in access_points),
        )
        self._remove_in_background(deleting)

    def _check_creation_token(self, call: Call, token: str) -> None:
        try:
            existing = self._by_creation_token(call, token)
        except AWSError:
            return
        raise AWSError(
            "FileSystemAlreadyExists",
            f"File system '{existing.id}' already exists with creation token '{token}'",
            FileSystemId=existing.id,
        )

    def _by_creation_token(self, call: Call, token: str) -> FileSystem:
        owned = f"{call.account}/{call.region}/"
        for key, file_system in self._file_systems.items():
            mine = file_system.creation_token == token and key.startswith(owned)
            if mine and file_system.state != "deleting":
                return file_system
        raise AWSError("FileSystemNotFound", f"File system with creation token '{token}' does not exist.")

    def _check_24_hours(self, before: FileSystem, mode: str, provisioned: float | None) -> None:
        since = before.throughput_restricted_from
        now = (before.throughput_mode, before.provisioned_mibps)
        if since is None or not restricts(*now, mode, provisioned):
            return
        wait = since + RESTRICTION_SECONDS - self._clock.time()
        if wait > 0:
            raise AWSError(
                "TooManyRequests",
                "Leaving provisioned throughput or decreasing it is possible once in 24 hours; "
                f"file system '{before.id}' can in {wait / 3600:.1f} hours.",
            )

    async def _zone_id(self, call: Call, zone: str) -> str:
        """Raises UnsupportedAvailabilityZone where the Region has no such zone."""
        try:
            answer = await self._neighbours.call(
                "ec2",
                "DescribeAvailabilityZones",
                {"ZoneNames": [zone]},
                account=call.account,
                region=call.region,
            )
            return str(answer["AvailabilityZones"][0]["ZoneId"])
        except (AWSError, LookupError):
            raise AWSError(
                "UnsupportedAvailabilityZone",
                f"AvailabilityZoneName: '{zone}' is not an Availability Zone of {call.region}.",
            ) from None

    async def _kms_key(self, call: Call, encrypted: bool, given: str | None) -> str | None:
        """The ARN of the key that encrypts; None where nothing does. Raises BadRequest."""
        if not encrypted:
            if given is not None:
                raise bad_request("KmsKeyId: the parameter needs Encrypted to be true.")
            return None
        try:
            answer = await self._neighbours.call(
                "kms",
                "DescribeKey",
                {"KeyId": given or _DEFAULT_KEY},
                account=call.account,
                region=call.region,
            )
        except AWSError as error:
            raise bad_request(f"KmsKeyId: {error.message}") from None
        key = answer["KeyMetadata"]
        if not key.get("Enabled", False):
            state = key.get("KeyState", "Disabled")
            raise bad_request(f"KmsKeyId: {key['Arn']} is {state}; it must be Enabled.")
        spec = key.get("KeySpec", "SYMMETRIC_DEFAULT")
        if spec != "SYMMETRIC_DEFAULT":
            raise bad_request(f"KmsKeyId: {key['Arn']} is {spec}; EFS takes symmetric encryption keys only.")
        return str(key["Arn"])

    async def _describe(self, file_system: FileSystem) -> dict[str, Any]:
        served = file_system.state in ("available", "updating")
        size = await self._sizes.of(file_system.id) if served else None
        value = 0 if size is None else size.bytes
        targets: list[MountTarget] = self._mount_targets_of(file_system)
        described: dict[str, Any] = {
            "OwnerId": file_system.account,
            "CreationToken": file_system.creation_token,
            "FileSystemId": file_system.id,
            "FileSystemArn": file_system.arn,
            "CreationTime": timestamp(file_system.created),
            "LifeCycleState": file_system.state,
            "NumberOfMountTargets": len(targets),
            "SizeInBytes": {
                "Value": value,
                "ValueInIA": 0,
                "ValueInStandard": value,
                "ValueInArchive": 0,
            },
            "PerformanceMode": file_system.performance_mode,
            "Encrypted": file_system.encrypted,
            "ThroughputMode": file_system.throughput_mode,
            "Tags": tag_list(file_system.tags),
            "FileSystemProtection": {"ReplicationOverwriteProtection": file_system.protection},
        }
        if size is not None:
            described["SizeInBytes"]["Timestamp"] = timestamp(size.measured_at)
        if file_system.kms_key is not None:
            described["KmsKeyId"] = file_system.kms_key
        if file_system.provisioned_mibps is not None:
            described["ProvisionedThroughputInMibps"] = file_system.provisioned_mibps
        if file_system.zone is not None:
            described |= {"AvailabilityZoneName": file_system.zone, "AvailabilityZoneId": file_system.zone_id}
        return with_name(described, file_system.tags)


def _identity(file_system: FileSystem) -> str:
    return file_system.id
