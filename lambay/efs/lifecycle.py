"""Making what is recorded true: at start, after a crash in the middle of something, and at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.efs.records import FileSystem, MountTarget
from lambay.efs.resources import Resources
from lambay.fsd import FsdError

_log = logging.getLogger("lambay.efs")


class Lifecycle(Resources):
    """Records are written before and after the thing itself, so every crash leaves a state to go on from."""

    async def start(self) -> None:
        """Open every volume and finish what was begun.

        The mount targets' interfaces follow in the background: EC2 need not be up for files to be served.
        """
        await self._directories.prepare()
        for file_system in self._file_systems:
            await self._resume(file_system)
        if len(self._mount_targets):
            self._resuming = asyncio.create_task(self._resume_targets())
        self._in_background(self._sweep())
        self._keeping = asyncio.create_task(self._throughput.run())

    async def stop(self) -> None:
        """Removals that are under way go on at the next start."""
        unfinished = list(self._removals)
        unfinished += [task for task in (self._resuming, self._keeping) if task is not None]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._throughput.keep()

    async def reset(self) -> None:
        """Forget every resource of every account, and their files."""
        await self._resumed()
        for target in self._mount_targets:
            await self._drop_target(target)
        file_systems = list(self._file_systems)
        for file_system in file_systems:
            await self._close(file_system)
            await self._directories.discard(file_system.id)
        await self._commit(
            *(self._file_systems.remove(file_system.key) for file_system in file_systems),
            *(self._mount_targets.remove(key) for key, _ in self._mount_targets.items()),
            *(self._access_points.remove(key) for key, _ in self._access_points.items()),
            *(self._replications.remove(key) for key, _ in self._replications.items()),
            *(self._preferences.remove(key) for key, _ in self._preferences.items()),
        )
        await self._throughput.forget(*file_systems)
        self._in_background(self._sweep())

    async def _make_available(self, file_system: FileSystem) -> None:
        """Raises OSError, FsdError."""
        backing = await self._directories.create(file_system.id)
        await self._fsd.open_volume(file_system.id, backing)
        await self._throughput.begin(file_system)
        current = self._file_systems.get(file_system.key)
        if current is not None and current.state != "deleting":
            await self._save(replace(current, state="available"))

    def _remove_in_background(self, file_system: FileSystem) -> None:
        self._in_background(self._remove(file_system))

    async def _remove(self, file_system: FileSystem) -> None:
        await self._close(file_system)
        try:
            await self._directories.discard(file_system.id)
            await self._directories.sweep()
        except OSError as error:
            _log.error("file system %s stays 'deleting' until the next start: %s", file_system.id, error)
            return
        await self._commit(self._file_systems.remove(file_system.key))
        await self._throughput.forget(file_system)

    async def _close(self, file_system: FileSystem) -> None:
        """Sever every client, as a deletion does."""
        self._sizes.forget(file_system.id)
        try:
            for mount in self._fsd.mounts_of(file_system.id):
                await self._fsd.unmount(mount)
            await self._fsd.close_volume(file_system.id)
        except FsdError as error:
            # A file server that is not there serves nobody either.
            _log.warning("closing %s: %s", file_system.id, error)

    async def _resume(self, file_system: FileSystem) -> None:
        if file_system.state == "deleting":
            self._remove_in_background(file_system)
            return
        path = self._directories.path(file_system.id)
        try:
            if file_system.state == "creating":
                await self._make_available(file_system)
                return
            # Not made again: perhaps a disk is not mounted, which an empty directory in its place would hide.
            await self._fsd.open_volume(file_system.id, path)
            await self._throughput.begin(file_system)
        except (OSError, FsdError) as error:
            _log.error("file system %s at %s cannot be served: %s", file_system.id, path, error)
            await self._save(replace(file_system, state="error"))
            return
        if file_system.state != "available":
            await self._save(replace(file_system, state="available"))

    async def _resume_targets(self) -> None:
        # All at once: whoever asks EC2 next then finds every address taken that is.
        outcomes = await asyncio.gather(
            *(self._resume_target(target) for target in self._mount_targets), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                _log.error("a mount target was not resumed", exc_info=outcome)

    async def _resumed(self) -> None:
        """Until the mount targets of before the start are as they were."""
        if self._resuming is not None:
            await asyncio.shield(self._resuming)

    async def _resume_target(self, target: MountTarget) -> None:
        if target.state == "deleting" or not target.interface:
            # A target without an interface was being created when the server ended; nobody was told of it.
            await self._drop_target(target)
            await self._commit(self._mount_targets.remove(target.key))
            return
        try:
            await self._network.ensure_interface(
                target.interface,
                target.subnet,
                target.security_groups,
                target.address,
                account=target.account,
                region=target.region,
                description=interface_description(target),
            )
        except AWSError as error:
            _log.error("mount target %s: %s", target.id, error)
            await self._save(replace(target, state="error"))
            return
        if target.state != "available":
            await self._save(replace(target, state="available"))

    async def _drop_target(self, target: MountTarget) -> None:
        if not target.interface:
            return
        try:
            await self._network.delete_interface(
                target.interface, account=target.account, region=target.region
            )
        except AWSError as error:
            # Gone already, with its subnet or by hand.
            _log.warning("mount target %s: %s", target.id, error)

    async def _sweep(self) -> None:
        try:
            await self._directories.sweep()
        except OSError as error:
            _log.error("deleted files remain until the next start: %s", error)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)


def interface_description(target: MountTarget) -> str:
    """What EFS writes into the description of a mount target's network interface."""
    return f"EFS mount target for {target.file_system} ({target.id})"
