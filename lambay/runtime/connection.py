"""One environment's connection to its file system: a mount that is its own, made before Init and ended with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from lambay.fsd import FsdError, Permissions
from lambay.runtime.completion import completed
from lambay.runtime.mounting import MountHold, mount_file_system
from lambay.runtime.slot import Slot
from lambay.runtime.spec import EVERYTHING, EnvironmentSpec, FileServer, FileSystemMount, SandboxFailure
from lambay.runtime.traffic import Traffic
from lambay.spans import Attributes, Tracer, span

_log = logging.getLogger("lambay.runtime")


class Connection:
    """`environment` is its id; `lost` is called when the file system is of no more use to what runs.

    An environment that is reset mounts anew: `mount_id` is the present mount's, None where there is none.
    """

    def __init__(
        self,
        environment: str,
        spec: EnvironmentSpec,
        file_server: FileServer,
        lost: Callable[[], None],
        tracer: Tracer | None,
    ) -> None:
        self.mount_id: str | None = None
        self.traffic = Traffic(file_server)
        self._environment = environment
        self._function_arn = spec.function_arn
        self._wanted = spec.file_system
        # As long as an invocation may wait for it.
        self._seconds = spec.timeout_s
        self._file_server = file_server
        self._lost = lost
        self._tracer = tracer
        self._mounts = 0

    async def open(self, slot: Slot) -> None:
        """Mount in the slot's sandbox what the function has, if anything. Raises SandboxFailure, MountFailure."""
        wanted = self._wanted
        if wanted is None:
            return
        mountpoint = slot.tree.mnt / wanted.mount_path.removeprefix("/mnt/")
        try:
            mountpoint.mkdir()
        except OSError as error:
            raise SandboxFailure(f"{self._function_arn}: {error}") from error
        self._mounts += 1
        mount_id = f"{self._environment}-{self._mounts}"
        attributes: Attributes = {
            "aws.efs.file_system.id": wanted.volume,
            "lambay.mount.id": mount_id,
            "lambay.mount.path": wanted.mount_path,
            "lambay.mount.root": wanted.root,
            "lambay.mount.read_only": wanted.read_only or wanted.permissions.read_only,
        }
        with span(self._tracer, "mount", attributes):
            if wanted.targets is not None:
                hold = MountHold(self._file_server, mount_id, self._lost)
                await slot.open_lifeline(wanted.targets, hold, self._seconds)
            self.mount_id = mount_id
            await completed(mount_file_system(self._file_server, mount_id, mountpoint, wanted))
        if self.mount_id != mount_id:
            # It was closed while the mount was on its way, and nothing was there to unmount.
            await self._unmount(mount_id)

    async def close(self) -> None:
        """Unmount, if there is a mount."""
        if self.mount_id is not None:
            mount_id, self.mount_id = self.mount_id, None
            await self._unmount(mount_id)

    async def permit(self, mount: FileSystemMount) -> bool:
        """The mount has the permissions of `mount` from now on; whether that could be had.

        Files that the kernel writes past the file server lose nothing while they are open: where something is
        taken away, the processes that hold them end.
        """
        before = self._wanted.permissions if self._wanted is not None else EVERYTHING
        # An Init phase that is repeated mounts anew.
        self._wanted = mount
        if self.mount_id is None:
            return True
        after = mount.permissions
        try:
            turned = await self._file_server.permit(self.mount_id, after)
        except FsdError as error:
            _log.warning(
                "environment %s: its mount's permissions stay as they are: %s", self._environment, error
            )
            return False
        taken = (after.read_only and not before.read_only, after.root_squash and not before.root_squash)
        if turned.bypassing and any(taken):
            self._lost()
        return True

    def deny(self) -> None:
        """Any further mount is one that nothing can be done with."""
        if self._wanted is not None:
            self._wanted = replace(self._wanted, permissions=Permissions(denied=True))

    async def _unmount(self, mount_id: str) -> None:
        try:
            await self._file_server.unmount(mount_id)
        except FsdError as error:
            _log.warning("environment %s: unmount: %s", self._environment, error)
