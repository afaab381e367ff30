"""What a version's environments mount and what they may do there, kept true while EFS and IAM change.

EFS decides at every mount, and again for those that stand: "Using IAM to control access to file systems".
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from lambay.aws import Arn, AWSError
from lambay.causes import no_mount_target
from lambay.fsd import Permissions
from lambay.functions.ports import FileSystems, Fleet, MountPermit, MountPermits
from lambay.functions.records import Version
from lambay.functions.rendering import environment_key
from lambay.mount_source import MountSource
from lambay.runtime import (
    CreationInfo,
    FileSystemMount,
    MountConnectivityFailure,
    MountFailure,
    MountTarget,
    MountTargets,
    PosixUser,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unlimited:
    """The permit of a room without IAM."""

    read_only: bool = False
    root_squash: bool = False
    refusal: str = ""


class Everything:
    """The permits of a room without IAM."""

    async def permit(self, role_arn: str, session_name: str, source: Any, vpc: str) -> Unlimited:
        return Unlimited()


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system as a version's environments get it now, and what that was made of."""

    source: MountSource
    permit: MountPermit
    mount: FileSystemMount


class Mounting:
    """`permits` decides; environments that stand follow within moments of `recheck`."""

    def __init__(self, file_systems: FileSystems, fleet: Fleet, permits: MountPermits) -> None:
        self._file_systems = file_systems
        self._fleet = fleet
        self._permits = permits
        self._standing: dict[str, tuple[Version, FileSystemMount]] = {}
        self._again = False
        self._checking: asyncio.Task[None] | None = None

    async def mounted(self, version: Version, known: Mounted | None) -> Mounted:
        """What the version's environments mount now: `known` itself where nothing changed.

        Raises MountFailure with the one thing to change, MountConnectivityFailure.
        """
        mounted = await self._mounted(version, known)
        if mounted is not known or environment_key(version) not in self._standing:
            await self._settle(version, mounted)
        vpc = version.configuration.vpc
        if vpc is not None and vpc.zones and not any(_serves(mounted.source, zone) for zone in vpc.zones):
            raise MountConnectivityFailure(no_mount_target(mounted.source.volume, vpc.zones))
        if mounted.permit.refusal:
            raise MountFailure(mounted.permit.refusal)
        return mounted

    def recheck(self) -> None:
        """Something changed that mounts' permissions rest on: have those that stand follow soon."""
        if not self._standing:
            return
        self._again = True
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check(), name="mount permissions")

    async def stop(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        self._standing.clear()

    async def _check(self) -> None:
        try:
            while self._again:
                self._again = False
                for version, _ in list(self._standing.values()):
                    await self._check_version(version)
        finally:
            self._checking = None

    async def _check_version(self, version: Version) -> None:
        try:
            await self._settle(version, await self._mounted(version, None))
        except MountFailure as failure:
            # The access point or the file system is gone, and with it what its mounts stood on.
            _log.info("%s: %s", version.key, failure)
        except Exception:
            _log.exception("%s: the permissions of its mounts could not be decided", version.key)

    async def _mounted(self, version: Version, known: Mounted | None) -> Mounted:
        configured = version.configuration.file_systems[0]
        try:
            source = await self._file_systems.mount_source(
                configured.arn, account=version.account, region=version.region
            )
        except AWSError as error:
            _log.info("%s: mount of %s refused: %s", version.key, configured.arn, error)
            raise MountFailure(error.message) from error
        vpc = version.configuration.vpc
        permit = await self._permits.permit(
            version.configuration.role, version.name, source, vpc.vpc_id if vpc else ""
        )
        if (
            known is not None
            and permit == known.permit
            and (source is known.source or source == known.source)
        ):
            return known
        create, posix = source.create, source.posix
        mount = FileSystemMount(
            volume=source.volume,
            mount_path=configured.local_mount_path,
            root=source.root,
            create=CreationInfo(create.uid, create.gid, create.mode) if create else None,
            posix=PosixUser(posix.uid, posix.gid, posix.gids) if posix else None,
            read_only=source.read_only,
            permissions=Permissions(read_only=permit.read_only, root_squash=permit.root_squash),
            backing=source.backing,
            targets=_targets(configured.arn, source),
        )
        return Mounted(source, permit, mount)

    async def _settle(self, version: Version, mounted: Mounted) -> None:
        """Environments that stand have these permissions after, or have ended."""
        key = environment_key(version)
        standing = self._standing.get(key)
        self._standing[key] = (version, mounted.mount)
        if mounted.permit.refusal:
            # Nothing stands any more then; the next mount is a new decision.
            del self._standing[key]
            if standing is not None:
                await self._fleet.permit(key, None)
        elif standing is not None and standing[1].permissions != mounted.mount.permissions:
            await self._fleet.permit(key, mounted.mount)


def _targets(access_point_arn: str, source: MountSource) -> MountTargets:
    place = Arn.parse(access_point_arn)
    return MountTargets(
        place.account,
        place.region,
        {
            zone: MountTarget(target.id, target.address, zone)
            for zone, target in source.mount_targets.items()
            if target.state == "available"
        },
    )


def _serves(source: MountSource, zone: str) -> bool:
    target = source.mount_targets.get(zone)
    return target is not None and target.state == "available"
