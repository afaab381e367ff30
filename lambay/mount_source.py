"""What a mount of an EFS access point, or of a whole file system, consists of, to every room that reads one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Owner(Protocol):
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


class Creation(Owner, Protocol):
    """Owner and permissions of a root directory that the first mount makes."""

    @property
    def mode(self) -> int: ...


class PosixUser(Owner, Protocol):
    """Replaces the client's identity on every operation."""

    @property
    def gids(self) -> tuple[int, ...]: ...


class MountTarget(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def vpc(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def state(self) -> str: ...


class MountSource(Protocol):
    """`mount_targets` are by Availability Zone name; without an access point it is the file system's own root."""

    @property
    def volume(self) -> str: ...
    @property
    def backing(self) -> Path: ...
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
    def create(self) -> Creation | None: ...
    @property
    def posix(self) -> PosixUser | None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def mount_targets(self) -> Mapping[str, MountTarget]: ...
