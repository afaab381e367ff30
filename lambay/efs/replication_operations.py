"""Replication configurations: from a source file system to a new or existing destination.

The configuration and the destination are real, and the destination is mounted read-only; the copying itself
is not done yet, which `StatusMessage` and `stored_not_enforced` say.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from lambay.aws import Arn, AWSError, Call, resource_id
from lambay.efs.errors import bad_request, file_system_not_found
from lambay.efs.file_system_operations import FileSystemOperations
from lambay.efs.paging import MOST, page_of
from lambay.efs.records import FileSystem, Replication, record_key
from lambay.efs.resources import timestamp

NOT_COPYING = "The configuration is stored; Lambay does not copy files to the destination yet."


class ReplicationOperations(FileSystemOperations):
    async def create_replication_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        source = self._available_file_system(call, input["SourceFileSystemId"])
        if len(input["Destinations"]) != 1:
            raise AWSError("ValidationException", "Destinations: give exactly one destination.")
        wanted = input["Destinations"][0]
        self._check_unreplicated(source)
        if "FileSystemId" in wanted:
            destination = self._existing_destination(call, source, wanted)
        else:
            destination = await self._new_destination(call, source, wanted)
            try:
                self._check_unreplicated(self._available_file_system(call, source.id))
            except AWSError:
                await self._delete(destination)
                raise
        replication = Replication(
            account=call.account,
            source_region=source.region,
            source=source.id,
            destination_region=destination.region,
            destination=destination.id,
            created=self._clock.time(),
            role_arn=wanted.get("RoleArn"),
        )
        replicating = replace(self._file_systems[destination.key], protection="REPLICATING")
        await self._commit(
            self._replications.put(replication.key, replication),
            self._file_systems.put(replicating.key, replicating),
        )
        return self._describe_replication(replication)

    async def describe_replication_configurations(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "FileSystemId" in input:
            file_system = self._file_system(call, input["FileSystemId"])
            replication = self._replication_of(file_system)
            if replication is None:
                raise _not_found(file_system)
            found = [replication]
        else:
            found = [
                replication
                for replication in self._replications
                if replication.account == call.account
                and call.region in (replication.source_region, replication.destination_region)
            ]
        page, following = page_of(found, _identity, input.get("NextToken"), input.get("MaxResults", MOST))
        output: dict[str, Any] = {
            "Replications": [self._describe_replication(replication) for replication in page]
        }
        if following is not None:
            output["NextToken"] = following
        return output

    async def delete_replication_configuration(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        source = self._file_system(call, input["SourceFileSystemId"])
        replication = self._replications.get(source.key)
        if replication is None:
            raise _not_found(source)
        changes = [self._replications.remove(replication.key)]
        destination = self._file_systems.get(replication.destination_key)
        if destination is not None:
            writable = replace(destination, protection="ENABLED")
            changes.append(self._file_systems.put(writable.key, writable))
        await self._commit(*changes)
        return {}

    def _check_unreplicated(self, file_system: FileSystem) -> None:
        if self._replication_of(file_system) is not None:
            raise AWSError(
                "ReplicationAlreadyExists",
                f"File system '{file_system.id}' is part of a replication configuration already.",
            )

    def _existing_destination(self, call: Call, source: FileSystem, wanted: dict[str, Any]) -> FileSystem:
        """Raises FileSystemNotFound, ConflictException, ValidationException, …"""
        if "AvailabilityZoneName" in wanted or "KmsKeyId" in wanted:
            raise bad_request("Destinations: an existing FileSystemId has its zone and key already.")
        found = self._by_id_or_arn(call, wanted["FileSystemId"], wanted.get("Region", call.region))
        if found.key == source.key:
            raise AWSError("ValidationException", "Destinations: a file system cannot replicate to itself.")
        self._check_unreplicated(found)
        if found.state != "available":
            raise AWSError(
                "IncorrectFileSystemLifeCycleState", f"File system '{found.id}' is in state '{found.state}'."
            )
        if found.protection != "DISABLED":
            raise AWSError(
                "ValidationException",
                f"File system '{found.id}' has replication overwrite protection; disable it with "
                "UpdateFileSystemProtection to make it a destination.",
            )
        if source.encrypted and not found.encrypted:
            raise AWSError(
                "ConflictException",
                f"Source file system '{source.id}' is encrypted; destination '{found.id}' is not.",
            )
        return found

    async def _new_destination(self, call: Call, source: FileSystem, wanted: dict[str, Any]) -> FileSystem:
        """A file system like the source, encrypted as EFS encrypts every new destination."""
        zone = wanted.get("AvailabilityZoneName")
        if "Region" not in wanted and zone is None:
            raise bad_request("Destinations: give Region, AvailabilityZoneName or FileSystemId.")
        there = dataclasses.replace(call, region=wanted.get("Region", call.region))
        identifier = resource_id("fs")
        destination = FileSystem(
            id=identifier,
            account=there.account,
            region=there.region,
            creation_token=f"replication-{identifier}",
            created=self._clock.time(),
            state="creating",
            performance_mode=source.performance_mode if zone is None else "generalPurpose",
            throughput_mode=source.throughput_mode,
            provisioned_mibps=source.provisioned_mibps,
            encrypted=True,
            kms_key=await self._kms_key(there, True, wanted.get("KmsKeyId")),
            zone=zone,
            zone_id=await self._zone_id(there, zone) if zone is not None else None,
            lifecycle=(("TransitionToIA", "AFTER_30_DAYS"),),
        )
        await self._create(there, destination)
        return self._file_systems[destination.key]

    def _by_id_or_arn(self, call: Call, identifier: str, region: str) -> FileSystem:
        account = call.account
        if identifier.startswith("arn:"):
            parts = Arn.parse(identifier)
            account, region = parts.account, parts.region
        found = self._file_systems.get(record_key(account, region, identifier.rpartition("/")[2]))
        if found is None or account != call.account:
            raise file_system_not_found(identifier)
        return found

    def _describe_replication(self, replication: Replication) -> dict[str, Any]:
        source = self._file_systems[replication.key]
        destination: dict[str, Any] = {
            "Status": "ENABLED",
            "FileSystemId": replication.destination,
            "Region": replication.destination_region,
            "OwnerId": replication.account,
            "StatusMessage": NOT_COPYING,
        }
        if replication.role_arn is not None:
            destination["RoleArn"] = replication.role_arn
        return {
            "SourceFileSystemId": source.id,
            "SourceFileSystemRegion": source.region,
            "SourceFileSystemArn": source.arn,
            "OriginalSourceFileSystemArn": source.arn,
            "SourceFileSystemOwnerId": source.account,
            "CreationTime": timestamp(replication.created),
            "Destinations": [destination],
        }


def _identity(replication: Replication) -> str:
    return replication.source


def _not_found(file_system: FileSystem) -> Exception:
    return AWSError(
        "ReplicationNotFound", f"File system '{file_system.id}' is not part of a replication configuration."
    )
