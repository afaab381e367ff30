"""Mounts of file systems on the host itself, for `lambay fs`: handlers of `/_lambay/mounts`.

They are for whoever holds the root credentials, which the caller checks. A mount through an access point has
its root directory and identity; one of a file system, or of an access point without a POSIX user, acts as
root. A mount lasts until it is deleted or the server stops, also over a restart of fsd.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from lambay.aws import AWSError, resource_id
from lambay.efs.mount_source import MountSource
from lambay.efs.ports import FileServer
from lambay.fsd import FsdError, Mount, PosixIdentity
from lambay.fsd.supervisor import OnDeath
from lambay.http import Request, Response
from lambay.settings import Settings

_log = logging.getLogger("lambay.efs")

_ROOT = PosixIdentity(0, 0)


class HostMount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount as the list shows it."""

    mount: str
    file_system: str
    access_point: str | None
    mountpoint: str
    read_only: bool


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST: one of `access_point` and `file_system`, by id or ARN.

    `account` and `region` are those of a bare id; the settings' where they are not given.
    """

    mountpoint: str
    access_point: str | None = None
    file_system: str | None = None
    read_only: bool = False
    account: str | None = None
    region: str | None = None


class Sources(Protocol):
    async def mount_source(self, identifier: str, *, account: str, region: str) -> MountSource: ...

    def place_of(self, identifier: str) -> tuple[str, str] | None: ...


class MortalFileServer(FileServer, Protocol):
    """A file server that tells of its deaths."""

    def on_death(self, listener: OnDeath) -> None: ...


class HostMounts:
    def __init__(self, sources: Sources, fsd: MortalFileServer, settings: Settings) -> None:
        self._sources = sources
        self._fsd = fsd
        self._settings = settings
        self._mounts: dict[str, tuple[HostMount, Mount]] = {}
        self._remounts: set[asyncio.Task[None]] = set()
        fsd.on_death(self._died)

    async def create(self, request: Request) -> Response:
        """POST /_lambay/mounts: 201 with the mount as the list shows it. Raises AWSError."""
        asked = _decode(request.body)
        mountpoint = await asyncio.to_thread(self._mountpoint, asked.mountpoint)
        source = await self._source(asked)
        read_only = asked.read_only or source.read_only
        identifier = resource_id("host")
        mount = Mount(
            mount=identifier,
            volume=source.volume,
            mountpoint=str(mountpoint),
            root=source.root,
            create=source.create,
            posix=source.posix or _ROOT,
            read_only=read_only,
        )
        shown = HostMount(
            mount=identifier,
            file_system=source.file_system,
            access_point=source.access_point,
            mountpoint=str(mountpoint),
            read_only=read_only,
        )
        # Known from here on, so that a second request for the same directory is refused.
        self._mounts[identifier] = (shown, mount)
        try:
            await self._fsd.mount(mount)
        except BaseException as error:
            del self._mounts[identifier]
            if isinstance(error, FsdError):
                raise _refusal(source, error) from None
            raise
        return _answer(shown, 201)

    async def list(self, request: Request) -> Response:
        """GET /_lambay/mounts: `{"mounts": […]}`."""
        return _answer({"mounts": [shown for shown, _ in self._mounts.values()]})

    async def delete(self, request: Request) -> Response:
        """DELETE /_lambay/mounts/ID: 200 with the mount that was. Raises AWSError."""
        identifier = request.path.rpartition("/")[2]
        known = self._mounts.pop(identifier, None)
        if known is None:
            raise AWSError("MountNotFound", f"there is no mount '{identifier}'", status=404)
        try:
            await self._fsd.unmount(identifier)
        except FsdError as error:
            self._mounts[identifier] = known
            raise AWSError("FileServerError", error.message, status=500) from None
        return _answer(known[0])

    async def stop(self) -> None:
        """Unmount all; more may be made afterwards."""
        for remount in list(self._remounts):
            remount.cancel()
        await asyncio.gather(*self._remounts, return_exceptions=True)
        mounts = list(self._mounts)
        self._mounts.clear()
        for identifier in mounts:
            try:
                await self._fsd.unmount(identifier)
            except FsdError as error:
                _log.warning("cannot unmount %s: %s", identifier, error)

    async def _source(self, asked: Asked) -> MountSource:
        identifier = asked.access_point or asked.file_system
        if identifier is None or (asked.access_point and asked.file_system):
            raise _invalid("give one of access_point and file_system")
        here = (self._settings.account, self._settings.region)
        account, region = self._sources.place_of(identifier) or here
        return await self._sources.mount_source(
            identifier, account=asked.account or account, region=asked.region or region
        )

    def _mountpoint(self, given: str) -> Path:
        """An existing directory that a mount may cover. Raises AWSError."""
        path = Path(given)
        if not path.is_absolute():
            raise _invalid(f"mountpoint: '{given}' is not an absolute path")
        if not path.is_dir():
            raise _invalid(f"mountpoint: '{given}' is not a directory")
        path = path.resolve()
        for kept in (self._settings.data_dir.resolve(), self._settings.run_dir.resolve()):
            if path.is_relative_to(kept) or kept.is_relative_to(path):
                raise _invalid(f"mountpoint: '{given}' would cover Lambay's own {kept}")
        if os.path.ismount(path) or any(shown.mountpoint == str(path) for shown, _ in self._mounts.values()):
            raise _invalid(f"mountpoint: something is mounted at '{given}' already")
        return path

    def _died(self, lost: Sequence[str]) -> None:
        again = [self._mounts[identifier][1] for identifier in lost if identifier in self._mounts]
        if again:
            task = asyncio.create_task(self._mount_again(again))
            self._remounts.add(task)
            task.add_done_callback(self._remounts.discard)

    async def _mount_again(self, mounts: Sequence[Mount]) -> None:
        for mount in mounts:
            if mount.mount not in self._mounts:
                continue
            try:
                await self._fsd.mount(mount)
            except FsdError as error:
                _log.error("%s is no longer mounted: %s", mount.mountpoint, error)
                self._mounts.pop(mount.mount, None)
            if mount.mount not in self._mounts:
                await self._fsd.unmount(mount.mount)


def _decode(body: bytes) -> Asked:
    try:
        return msgspec.json.decode(body, type=Asked)
    except msgspec.DecodeError as error:
        raise _invalid(str(error)) from None


def _refusal(source: MountSource, error: FsdError) -> AWSError:
    if error.code == "RootDirectoryMissing":
        return AWSError(
            "RootDirectoryMissing",
            f"{source.root} does not exist on {source.file_system}, and the access point has no CreationInfo",
            status=409,
        )
    return AWSError("MountFailed", f"{source.file_system}: {error.message}", status=500)


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidRequest", message, status=400)


def _answer(content: object, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(content) + b"\n")
