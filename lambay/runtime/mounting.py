"""One environment's connection to its file system: made before Init, ended with the environment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from lambay.causes import root_missing
from lambay.fsd import Create, FsdError, Identity, Mount, PosixIdentity
from lambay.runtime.spec import (
    FileServer,
    FileSystemMount,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
)

_log = logging.getLogger("lambay.runtime")


async def mount_file_system(
    file_server: FileServer, mount_id: str, mountpoint: Path, wanted: FileSystemMount
) -> None:
    """Mount `wanted` on the existing directory. Raises MountFailure and its kinds."""
    create, posix = wanted.create, wanted.posix
    request = Mount(
        mount=mount_id,
        volume=wanted.volume,
        mountpoint=str(mountpoint),
        root=wanted.root,
        create=Create(create.uid, create.gid, create.mode) if create else None,
        posix=PosixIdentity(posix.uid, posix.gid, posix.gids) if posix else None,
        anonymous=Identity(wanted.anonymous.uid, wanted.anonymous.gid),
        read_only=wanted.read_only,
        permissions=wanted.permissions,
    )
    try:
        if wanted.backing is not None:
            await file_server.open_volume(wanted.volume, wanted.backing)
        await file_server.mount(request)
    except FsdError as error:
        if error.code == "RootDirectoryMissing":
            raise MountFailure(root_missing(wanted.volume, wanted.root)) from error
        text = f"{wanted.volume} at {wanted.mount_path}: {error.message}"
        if error.code == "Timeout":
            raise MountTimeout(text) from error
        if error.code in ("ServerDied", "NotRunning"):
            raise MountConnectivityFailure(text) from error
        raise MountFailure(text) from error


class MountHold:
    """What the fate of a mount's connection means for the mount: `wiring.Mounted`.

    `lost` is called once what waits for the file system has been failed.
    """

    def __init__(self, file_server: FileServer, mount_id: str, lost: Callable[[], None]) -> None:
        self._file_server = file_server
        self._mount_id = mount_id
        self._lost = lost
        self._turn: asyncio.Task[None] | None = None

    def stall(self) -> None:
        self._take_turn(self._file_server.stall)

    def resume(self) -> None:
        self._take_turn(self._file_server.resume)

    def lose(self, reason: str) -> None:
        _log.info("mount %s: %s", self._mount_id, reason)
        self._take_turn(self._file_server.fail, self._lost)

    def _take_turn(
        self, turn: Callable[[str], Awaitable[object]], then: Callable[[], None] | None = None
    ) -> None:
        self._turn = asyncio.create_task(self._turned(self._turn, turn, then), name="mount's connection")

    async def _turned(
        self,
        before: asyncio.Task[None] | None,
        turn: Callable[[str], Awaitable[object]],
        then: Callable[[], None] | None,
    ) -> None:
        """Turns are taken in their order."""
        if before is not None:
            await before
        try:
            await turn(self._mount_id)
        except FsdError as error:
            _log.info("mount %s: %s", self._mount_id, error)
        if then is not None:
            then()
