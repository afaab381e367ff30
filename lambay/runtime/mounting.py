"""One environment's connection to its file system: made before Init, ended with the environment."""

from __future__ import annotations

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
