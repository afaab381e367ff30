"""What every group of operations stands on: the records, how to find one, and the rooms next door."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lambay.aws import Arn, Call, Neighbours
from lambay.clock import Clock
from lambay.efs.directories import Directories
from lambay.efs.errors import (
    access_point_not_found,
    bad_request,
    file_system_not_found,
    incorrect_file_system_state,
    mount_target_not_found,
)
from lambay.efs.mount_source import MountSource
from lambay.efs.ports import FileServer, Network
from lambay.efs.records import (
    AccessPoint,
    AccountPreferences,
    FileSystem,
    MountTarget,
    Replication,
    owned_by,
)
from lambay.efs.sizes import Sizes
from lambay.efs.throughput_limits import ThroughputLimits
from lambay.settings import Settings
from lambay.store import Change, Store

_TAGS = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas of EFS that an account can run into; see EFS User Guide, "Amazon EFS quotas"."""

    file_systems: int = 1000
    access_points: int = 10_000
    security_groups: int = 5
    provisioned_mibps: float = 3414


class Resources:
    """The records and their indexes; kept up to date by `_commit`."""

    def __init__(
        self,
        store: Store,
        fsd: FileServer,
        network: Network,
        neighbours: Neighbours,
        settings: Settings,
        clock: Clock,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._fsd = fsd
        self._network = network
        self._neighbours = neighbours
        self._clock = clock
        self._limits = limits or Limits()
        self._directories = Directories(settings.data_dir / "file-systems")
        self._sizes = Sizes(fsd, clock)
        self._throughput = ThroughputLimits(
            store, fsd, clock, enforced=settings.quotas, passthrough=settings.passthrough
        )
        self._file_systems = store.collection("efs.file-systems", FileSystem)
        self._mount_targets = store.collection("efs.mount-targets", MountTarget)
        self._access_points = store.collection("efs.access-points", AccessPoint)
        self._replications = store.collection("efs.replications", Replication)
        self._preferences = store.collection("efs.account-preferences", AccountPreferences)
        self._targets_of: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._access_points_of: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._client_tokens: dict[tuple[str, str, str], str] = {}
        # What mount_source told since the last commit: it is asked at every invocation.
        self._known_sources: dict[tuple[str, str, str], MountSource] = {}
        self._listeners: list[Callable[[], None]] = []
        self._removals: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._reindex()

    def _reindex(self) -> None:
        self._targets_of.clear()
        self._access_points_of.clear()
        self._client_tokens.clear()
        for target in self._mount_targets:
            self._targets_of[_parent(target)][target.key] = None
        for access_point in self._access_points:
            self._access_points_of[_parent(access_point)][access_point.key] = None
            self._client_tokens[_token(access_point)] = access_point.key

    async def _commit(self, *changes: Change) -> None:
        """Write durably; the indexes follow as the records do, at once and back again on failure."""
        self._known_sources.clear()
        for change in changes:
            self._index(change)
        try:
            await self._store.commit(*changes)
        except Exception:
            self._known_sources.clear()
            self._reindex()
            raise
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of file systems, mount targets and access points."""
        self._listeners.append(listener)

    def _index(self, change: Change) -> None:
        record = change.after or change.collection.get(change.key)
        if isinstance(record, MountTarget):
            children = self._targets_of[_parent(record)]
        elif isinstance(record, AccessPoint):
            children = self._access_points_of[_parent(record)]
            if change.after is None:
                self._client_tokens.pop(_token(record), None)
            else:
                self._client_tokens[_token(record)] = record.key
        else:
            return
        if change.after is None:
            children.pop(change.key, None)
        else:
            children[change.key] = None

    async def _save(self, *records: FileSystem | MountTarget | AccessPoint) -> None:
        await self._commit(*(self._put(record) for record in records))

    def _put(self, record: FileSystem | MountTarget | AccessPoint) -> Change:
        if isinstance(record, FileSystem):
            return self._file_systems.put(record.key, record)
        if isinstance(record, MountTarget):
            return self._mount_targets.put(record.key, record)
        return self._access_points.put(record.key, record)

    def _file_system(self, call: Call, identifier: str) -> FileSystem:
        """By id or ARN. Raises FileSystemNotFound."""
        found = self._file_systems.get(owned_by(call, _local_id(call, identifier)))
        if found is None:
            raise file_system_not_found(identifier)
        return found

    def _available_file_system(self, call: Call, identifier: str) -> FileSystem:
        """Raises FileSystemNotFound, IncorrectFileSystemLifeCycleState."""
        found = self._file_system(call, identifier)
        if found.state != "available":
            raise incorrect_file_system_state(found.id, found.state)
        return found

    def _mount_target(self, call: Call, identifier: str) -> MountTarget:
        """Raises MountTargetNotFound."""
        found = self._mount_targets.get(owned_by(call, identifier))
        if found is None:
            raise mount_target_not_found(identifier)
        return found

    def _access_point(self, call: Call, identifier: str) -> AccessPoint:
        """By id or ARN. Raises AccessPointNotFound."""
        found = self._access_points.get(owned_by(call, _local_id(call, identifier)))
        if found is None:
            raise access_point_not_found(identifier)
        return found

    def _mount_targets_of(self, file_system: FileSystem) -> list[MountTarget]:
        return [self._mount_targets[key] for key in self._targets_of.get(file_system.key, ())]

    def _access_points_under(self, file_system: FileSystem) -> list[AccessPoint]:
        return [self._access_points[key] for key in self._access_points_of.get(file_system.key, ())]

    def _replication_of(self, file_system: FileSystem) -> Replication | None:
        """The replication that `file_system` is the source or the destination of."""
        for replication in self._replications:
            if file_system.key in (replication.key, replication.destination_key):
                return replication
        return None


def _parent(child: MountTarget | AccessPoint) -> str:
    return f"{child.account}/{child.region}/{child.file_system}"


def _token(access_point: AccessPoint) -> tuple[str, str, str]:
    return access_point.account, access_point.region, access_point.client_token


def _local_id(call: Call, identifier: str) -> str:
    """The id in an id or ARN; an ARN of another account or Region names nothing here."""
    if not identifier.startswith("arn:"):
        return identifier
    try:
        parts = Arn.parse(identifier)
    except ValueError:
        return identifier
    if (parts.account, parts.region) != (call.account, call.region):
        return identifier
    return parts.resource.rpartition("/")[2]


def tag_map(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """`[{Key, Value}]` as a dict. Raises BadRequest for a key given twice or reserved."""
    found: dict[str, str] = {}
    for tag in tags:
        key = tag["Key"]
        if key.lower().startswith("aws:"):
            raise bad_request(f"Tags: the key {key!r} starts with 'aws:', which is reserved.")
        if key in found:
            raise bad_request(f"Tags: the key {key!r} is given twice; each key must be unique.")
        found[key] = tag.get("Value", "")
    return checked_tags(found)


def checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """Raises BadRequest where there are more than a resource may have."""
    if len(tags) > _TAGS:
        raise bad_request(f"Tags: {len(tags)} are more than the {_TAGS} that a resource may have.")
    return tags


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def timestamp(seconds: float) -> datetime:
    """Whole seconds, as EFS reports times."""
    return datetime.fromtimestamp(int(seconds), UTC)


def with_name(description: dict[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """Adds `Name`, the value of the tag of that name."""
    if "Name" in tags:
        description["Name"] = tags["Name"]
    return description
