"""The steps that follow an answered request: Pending → Active, InProgress → Successful, clearing up.

A step runs as a task under the function's lock. One that a crash cut short is taken up again by `resume`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.functions.admission import Admission
from lambay.functions.code import CodeStore
from lambay.functions.errors import conflict
from lambay.functions.images import Images
from lambay.functions.interfaces import Interfaces
from lambay.functions.names import FunctionName
from lambay.functions.ports import Fleet
from lambay.functions.records import Version, revision
from lambay.functions.rendering import environment_key
from lambay.functions.resources import Resources
from lambay.runtime import (
    EnvironmentFailure,
    EnvironmentSpec,
    FileSystemLost,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
    RuntimeUnavailable,
)
from lambay.runtime.images import ImageUnusable

_log = logging.getLogger(__name__)

CREATING = "The function is being created."
CREATING_CODE = "Creating"
RESTORING_CODE = "Restoring"

# EC2's error codes as a function's StateReasonCode tells them.
_NETWORK_REASONS = {
    "InsufficientFreeAddressesInSubnet": "SubnetOutOfIPAddresses",
    "InvalidGroup.NotFound": "InvalidSecurityGroup",
    "InvalidSubnetID.NotFound": "InvalidSubnet",
    "NetworkInterfaceLimitExceeded": "EniLimitExceeded",
}


class ImageGone(Exception):
    """The registry no longer has a function's image."""


class Lifecycle:
    """Runs the steps; `stop` waits for none of them, since each can be taken up again."""

    def __init__(
        self,
        resources: Resources,
        code: CodeStore,
        interfaces: Interfaces,
        fleet: Fleet,
        admission: Admission,
        clock: Clock,
        drain_s: float,
    ) -> None:
        self._admission = admission
        self._clock = clock
        self._drain_s = drain_s
        self._superseded: dict[str, Version] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self.images: Images | None = None
        self.spec_of: Callable[[Version], Awaitable[EnvironmentSpec]] | None = None
        self._resources = resources
        self._code = code
        self._interfaces = interfaces
        self._fleet = fleet
        self._tasks: set[asyncio.Task[None]] = set()

    def settle(self, function_key: str) -> None:
        """Bring the function's versions to Active or Failed, and its update to Successful or Failed, soon."""
        self._spawn(self._settle(function_key), f"settle {function_key}")

    def retire(self, *versions: Version) -> None:
        """End the environments of changed or deleted versions, then remove what nothing uses any more."""
        self._spawn(self._retire([environment_key(version) for version in versions]), "retire")

    def supersede(self, *versions: Version) -> None:
        """`retire` after the draining time: until then their idle environments keep their connections.

        See the Developer Guide, "Configuring file system access": new instances are there some time before
        the old ones close their connections.
        """
        if not self._drain_s:
            self.retire(*versions)
            return
        self._superseded.update((environment_key(version), version) for version in versions)
        draining = asyncio.get_running_loop().create_task(
            self._drain([environment_key(version) for version in versions]), name="lambda: draining"
        )
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)

    async def _drain(self, keys: list[str]) -> None:
        await self._clock.sleep(self._drain_s)
        for key in keys:
            self._superseded.pop(key, None)
        self._spawn(self._retire(keys), "retire")

    def resume(self) -> None:
        """Take up what a crash interrupted, and remove what an interrupted deletion left."""
        unsettled = {
            version.function_key
            for version in self._resources.versions
            if version.state == "Pending" or version.update_status == "InProgress"
        }
        if len(self._resources.interfaces):
            self._spawn(self._interfaces.resume(), "network interfaces")
        for function_key in unsettled:
            self.settle(function_key)
        self.retire()
        for runtime in {version.configuration.runtime for version in self._resources.versions} - {""}:
            self._spawn(self._prepare(runtime), f"prepare {runtime}")

    async def _prepare(self, runtime: str) -> None:
        try:
            await self._fleet.prepare(runtime)
        except RuntimeUnavailable as error:
            _log.warning("%s: functions that need it will fail", error)

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._draining]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._superseded.clear()

    async def idle(self) -> None:
        """When every step that was begun has ended."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, step: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(step, name=f"lambda: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def _settle(self, function_key: str) -> None:
        async with self._resources.exclusive(function_key):
            changes, replaced = [], []
            for version in self._resources.versions_of(function_key):
                if version.state == "Pending" or version.update_status == "InProgress":
                    settled = await self._settled(version)
                    changes.append(self._resources.versions.put(version.key, settled))
                    if settled.running.build != version.running.build:
                        replaced.append(version.running)
            if changes:
                await self._resources.commit(*changes)
            if replaced:
                self.supersede(*replaced)

    async def _settled(self, version: Version) -> Version:
        """The version after its code and interfaces are in place, or as Failed with the reason."""
        failure: tuple[str, str] | None = None
        try:
            if version.code.image_uri:
                await self._image(version)
            else:
                await self._code.ensure(version.code)
            for layer in version.configuration.layers:
                await self._code.ensure(layer.code)
            await self._interfaces.attach(version)
            if version.configuration.runtime:
                await self._fleet.prepare(version.configuration.runtime)
            if version.state_reason_code == RESTORING_CODE and version.configuration.file_systems:
                await self._try_mount(version)
        except EnvironmentFailure as error:
            failure = (_mount_reason(error), str(error))
        except ImageGone as error:
            failure = ("ImageDeleted", str(error))
        except ImageUnusable as error:
            failure = ("InvalidImage", str(error))
        except FileNotFoundError as error:
            failure = ("InvalidZipFileException", f"The deployment package {error.filename} is missing.")
        except OSError as error:
            failure = ("InternalError", f"The deployment package could not be unpacked: {error}")
        except AWSError as error:
            failure = (_NETWORK_REASONS.get(error.code, "InternalError"), error.message)
        changed: dict[str, Any] = {"revision_id": revision()}
        if failure and version.state == "Pending":
            restoring = version.state_reason_code == RESTORING_CODE
            changed |= _state("Inactive" if restoring else "Failed", failure)
        elif not failure:
            # An update that works mends a function that had failed.
            changed |= _state("Active", None) | {"previous": None}
        if version.state_reason_code != RESTORING_CODE:
            changed |= _update("Failed", failure) if failure else _update("Successful", None)
        return msgspec.structs.replace(version, **changed)

    async def _try_mount(self, version: Version) -> None:
        """A first environment of a version that comes back: its file system has to be there again.

        Raises EnvironmentFailure.
        """
        assert self.spec_of is not None
        self._fleet.release(await self._fleet.acquire(await self.spec_of(version)))

    async def _image(self, version: Version) -> None:
        """Raises ImageGone."""
        try:
            assert self.images is not None
            await self.images.ready(version.code)
        except FileNotFoundError:
            raise ImageGone(f"The image {version.code.resolved_uri} was deleted.") from None

    async def _retire(self, keys: list[str]) -> None:
        for key in keys:
            await self._fleet.drain(key)
        for key in keys:
            # An invocation under way may import more of its code.
            await self._admission.ended(key)
        await self._interfaces.collect(self._superseded.values())
        await self._code.collect(self.codes_in_use)
        if self.images is not None:
            await self.images.collect(self.codes_in_use)

    def codes_in_use(self) -> set[str]:
        """The digests of what functions and layers are made of, and of what environments still run."""
        digests = self._resources.codes_in_use() | self._admission.codes()
        for version in self._superseded.values():
            digests.add(version.code.digest)
            digests.update(layer.code.digest for layer in version.configuration.layers)
        return digests


def _mount_reason(failure: EnvironmentFailure) -> str:
    """StateReasonCode for an environment that could not be had."""
    for kind, code in (
        (RuntimeUnavailable, "InvalidRuntime"),
        (MountConnectivityFailure, "EFSMountConnectivityError"),
        (MountTimeout, "EFSMountTimeout"),
        (MountFailure, "EFSMountFailure"),
        (FileSystemLost, "EFSIOError"),
    ):
        if isinstance(failure, kind):
            return code
    return "InternalError"


def _state(state: str, failure: tuple[str, str] | None) -> dict[str, Any]:
    code, reason = failure or ("", "")
    return {"state": state, "state_reason": reason, "state_reason_code": code}


def _update(status: str, failure: tuple[str, str] | None) -> dict[str, Any]:
    code, reason = failure or ("", "")
    return {"update_status": status, "update_reason": reason, "update_reason_code": code}


def check_not_updating(version: Version, name: FunctionName) -> None:
    """Raises ResourceConflictException while a creation or update is under way."""
    if version.state == "Pending":
        raise conflict(
            "The operation cannot be performed at this time. The function is currently in the following "
            "state: Pending"
        )
    if version.update_status == "InProgress":
        raise conflict(
            "The operation cannot be performed at this time. An update is in progress for resource: "
            f"{name.arn}"
        )
