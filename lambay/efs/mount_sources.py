"""What functions and tasks need to mount a file system, and whether their zones can reach it."""

from __future__ import annotations

from collections.abc import Collection

from lambay.aws import Arn, AWSError
from lambay.efs.errors import access_point_not_found, file_system_not_found
from lambay.efs.mount_source import MountSource, MountTargetAddress
from lambay.efs.records import AccessPoint, FileSystem, MountTarget, record_key
from lambay.efs.resources import Resources
from lambay.fsd import Create, PosixIdentity


class MountSources(Resources):
    async def mount_source(self, identifier: str, *, account: str, region: str) -> MountSource:
        """Of an access point or a file system, by id or ARN.

        An ARN speaks for itself; `account` and `region` are those of a bare id. Raises AccessPointNotFound,
        FileSystemNotFound, or IncorrectFileSystemLifeCycleState where it is not available.
        """
        asked = (identifier, account, region)
        known = self._known_sources.get(asked)
        if known is None:
            known = self._known_sources[asked] = self._mount_source(*self._source(*asked))
        return known

    def mountable(self) -> list[MountSource]:
        """Every file system and access point that can be mounted now, of every account and Region."""
        usable = [each for each in self._file_systems if each.state in ("available", "updating")]
        sources = [self._mount_source(file_system, None) for file_system in usable]
        for file_system in usable:
            for access_point in self._access_points_under(file_system):
                if access_point.state == "available":
                    sources.append(self._mount_source(file_system, access_point))
        return sources

    def _mount_source(self, file_system: FileSystem, access_point: AccessPoint | None) -> MountSource:
        if file_system.state not in ("available", "updating"):
            raise AWSError(
                "IncorrectFileSystemLifeCycleState",
                f"File system '{file_system.id}' is in state '{file_system.state}'.",
            )
        return MountSource(
            volume=file_system.id,
            file_system=file_system.id,
            file_system_arn=file_system.arn,
            file_system_policy=file_system.policy,
            kms_key=file_system.kms_key,
            access_point=access_point.id if access_point else None,
            access_point_arn=access_point.arn if access_point else None,
            root=access_point.root if access_point else "/",
            create=_create(access_point),
            posix=_posix(access_point),
            read_only=file_system.protection == "REPLICATING",
            backing=self._directories.path(file_system.id),
            mount_targets={target.zone: _address(target) for target in self._mount_targets_of(file_system)},
        )

    def resource_policy(self, arn: str) -> str | None:
        """The policy of the file system of this ARN, for whoever evaluates access."""
        try:
            file_system, access_point = self._source(arn, "", "")
        except AWSError:
            return None
        return file_system.policy if access_point is None else None

    def place_of(self, identifier: str) -> tuple[str, str] | None:
        """Account and Region of the file system or access point that has this id, in whichever they are."""
        records = self._access_points if identifier.startswith("fsap-") else self._file_systems
        return next(((each.account, each.region) for each in records if each.id == identifier), None)

    async def check_function_zones(
        self, access_point_arn: str, zones: Collection[str], *, account: str, region: str
    ) -> None:
        """Lambda's condition on a function's Availability Zones, given by name.

        Raises InvalidParameterValueException, as CreateFunction and UpdateFunctionConfiguration do.
        """
        try:
            file_system, access_point = self._source(access_point_arn, account, region)
        except AWSError as error:
            raise _invalid(f"EFS access point {access_point_arn} cannot be used: {error.message}") from None
        named = f"EFS file system {file_system.arn}"
        if access_point is not None:
            named += f" referenced by access point {access_point.arn}"
        targets = {target.zone: target for target in self._mount_targets_of(file_system)}
        if not targets.keys() >= set(zones):
            raise _invalid(
                f"{named} does not have mount targets created in all availability zones the function will "
                "execute in. Please create EFS mount targets for each availability zone your function has a "
                "subnet in and try again."
            )
        if any(targets[zone].state != "available" for zone in zones):
            raise _invalid(
                f"{named} has mount targets created in all availability zones the function will execute in, "
                "but not all are in the available life cycle state yet. Please wait for them to become "
                "available and try the request again."
            )

    def _source(self, identifier: str, account: str, region: str) -> tuple[FileSystem, AccessPoint | None]:
        name = identifier
        if identifier.startswith("arn:"):
            try:
                parts = Arn.parse(identifier)
            except ValueError:
                raise access_point_not_found(identifier) from None
            account, region, name = parts.account, parts.region, parts.resource.rpartition("/")[2]
        access_point: AccessPoint | None = None
        if name.startswith("fsap-"):
            access_point = self._access_points.get(record_key(account, region, name))
            if access_point is None:
                raise access_point_not_found(identifier)
            name = access_point.file_system
        file_system = self._file_systems.get(record_key(account, region, name))
        if file_system is None:
            raise file_system_not_found(identifier)
        return file_system, access_point


def _create(access_point: AccessPoint | None) -> Create | None:
    if access_point is None or access_point.creation is None:
        return None
    info = access_point.creation
    return Create(info.uid, info.gid, int(info.permissions, 8))


def _posix(access_point: AccessPoint | None) -> PosixIdentity | None:
    if access_point is None or access_point.posix is None:
        return None
    user = access_point.posix
    return PosixIdentity(user.uid, user.gid, user.gids)


def _address(target: MountTarget) -> MountTargetAddress:
    return MountTargetAddress(
        id=target.id,
        address=target.address,
        state=target.state,
        subnet=target.subnet,
        vpc=target.vpc,
        zone=target.zone,
        security_groups=target.security_groups,
    )


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message, Type="User")
