"""Keeps what fsd offers by NFS as EFS's records and file system policies have it.

Every file system is offered as `fs-…` and every access point, with its root and its identity, as `fsap-…`. A
client is the anonymous principal unless it shows a certificate (see `visits`): the file system policy decides what it
may do, and without a policy it may do everything. Who comes by a mount target has the file system as `fs-…@vpc-…`,
which nobody else reaches: for him `aws:SourceVpc` is the mount target's VPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lambay.fsd import Create, FsdError, NfsExport, NfsPlace, NfsTls, Permissions, PosixIdentity
from lambay.mount_source import MountSource
from lambay.nfs.places import Address, places
from lambay.nfs.policies import ANONYMOUS, Deciding, permissions
from lambay.nfs.visits import Visits

_log = logging.getLogger("lambay.nfs")

OUTSIDE = "outside"
_BACKLOG = 512
# Tries again what fsd did not take; policies may be about the time as well.
_AGAIN_SECONDS = 5.0
_SETTLED_SECONDS = 15.0


class Sources(Protocol):
    def mountable(self) -> Sequence[MountSource]: ...
    def on_change(self, listener: Callable[[], None]) -> None: ...


class FileServer(Protocol):
    async def nfs_export(self, export: NfsExport) -> None: ...
    async def nfs_unexport(self, export: str) -> None: ...
    async def nfs_listen(
        self,
        listener: str,
        listening: socket.socket,
        *,
        export: str | None = None,
    ) -> None: ...
    async def nfs_tls(self, identities: Sequence[NfsTls]) -> None: ...
    async def nfs_close(self, listener: str) -> None: ...


class Exports:
    """`address` is "ADDRESS:PORT", or "off" for no socket of our own; who has others calls `offer`.

    `identities` are who the server is to clients that want TLS.
    """

    def __init__(
        self,
        sources: Sources,
        fsd: FileServer,
        deciding: Deciding,
        address: str,
        visits: Visits,
        identities: Callable[[], Sequence[NfsTls]] = tuple,
    ) -> None:
        self._sources = sources
        self._fsd = fsd
        self._deciding = deciding
        self._address = address
        self._identities = identities
        self._visits = visits
        self._encrypted = False
        self._encrypting = asyncio.Lock()
        self._offered: dict[str, NfsExport] = {}
        self._visited: set[str] = set()
        self._changed = asyncio.Event()
        self._true = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self.port: int | None = None
        sources.on_change(self.changed)

    def changed(self) -> None:
        """Records or policies are not what they were."""
        self._true.clear()
        self._changed.set()

    async def start(self) -> None:
        """Offer everything, then listen. Raises OSError naming the address, FsdError."""
        if self._address == "off":
            return
        await self._encrypt()
        self.offer()
        # A file system that cannot be offered keeps nobody from the others.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED_SECONDS):
                await self.settled()
        listening = bound(self._address)
        try:
            await self._fsd.nfs_listen(OUTSIDE, listening)
        except BaseException:
            listening.close()
            raise
        self.port = listening.getsockname()[1]
        _log.info("NFS on %s", self._address)

    async def _encrypt(self) -> None:
        """Once, before the first client can come; those who come meanwhile wait."""
        async with self._encrypting:
            if self._encrypted:
                return
            identities = await asyncio.to_thread(self._identities)
            if identities:
                await self._fsd.nfs_tls(identities)
            await self._visits.start()
            self._encrypted = True

    @property
    def address(self) -> str | None:
        """ADDRESS:PORT of the socket that listens, None where none does."""
        return None if self.port is None else f"{self._address.rpartition(':')[0]}:{self.port}"

    def offer(self) -> None:
        """Keep fsd's exports true from now on: somebody serves NFS on a socket."""
        self._changed.set()
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="nfs exports")

    async def at(self, mount_target: str) -> str | None:
        """The export of those who come by the mount target, offered; None where that is impossible."""
        found = next(
            (
                (source.file_system, target.vpc)
                for source in self._sources.mountable()
                if source.access_point is None
                for target in source.mount_targets.values()
                if target.id == mount_target
            ),
            None,
        )
        if found is None:
            return None
        name = _inside(*found)
        if found[1] not in self._visited:
            self._visited.add(found[1])
            self.changed()
        await self._encrypt()
        if self._keeping is None:
            self.offer()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLED_SECONDS):
                await self.settled()
        return name if name in self._offered else None

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        if self.port is not None:
            self.port = None
            with contextlib.suppress(FsdError):
                await self._fsd.nfs_close(OUTSIDE)

    async def settled(self) -> None:
        """Until fsd offers what the records of this moment say."""
        await self._true.wait()

    async def _keep(self) -> None:
        while True:
            # Some policies know the hour; nobody tells when it strikes.
            timed = self._visits.standing or any(
                "Condition" in (source.file_system_policy or "") for source in self._sources.mountable()
            )
            waiting = _AGAIN_SECONDS if timed else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waiting):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._make_true()
            except FsdError as error:
                _log.warning("NFS exports are not up to date: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
                self._changed.set()
                continue
            if not self._changed.is_set():
                self._true.set()

    async def _make_true(self) -> None:
        wanted: Mapping[str, NfsExport] = {
            export.export: export
            for export in [
                await self._export(source, vpc)
                for source in self._sources.mountable()
                for vpc in ("", *sorted(self._visited & _vpcs(source)))
            ]
        }
        for name in [name for name in self._offered if name not in wanted]:
            await self._fsd.nfs_unexport(name)
            del self._offered[name]
        for name, export in wanted.items():
            if self._offered.get(name) != export:
                await self._offer(export)
        await self._visits.reconsider()

    async def _offer(self, export: NfsExport) -> None:
        try:
            await self._fsd.nfs_export(export)
        except FsdError as error:
            if error.code != "VolumeNotFound":
                raise
            # Its file system is being deleted; the records say so in a moment.
            _log.debug("%s is not offered: %s", export.export, error)
            return
        self._offered[export.export] = export

    async def _export(self, source: MountSource, vpc: str) -> NfsExport:
        """As it is offered outside, or for the mount targets in a VPC."""
        create, posix = source.create, source.posix
        where = [
            NfsPlace(
                network=str(network),
                permissions=await self._permissions(source, vpc, address, secure=False),
                secure_permissions=await self._permissions(source, vpc, address, secure=True),
            )
            for network, address in places(source.file_system_policy)
        ]
        return NfsExport(
            export=_inside(source.file_system, vpc) if vpc else source.access_point or source.file_system,
            listed=not vpc,
            volume=source.volume,
            root=source.root,
            create=None if create is None else Create(create.uid, create.gid, create.mode),
            posix=None if posix is None else PosixIdentity(posix.uid, posix.gid, posix.gids),
            permissions=await self._permissions(source, vpc, None, secure=False),
            secure_permissions=await self._permissions(source, vpc, None, secure=True),
            places=tuple(where),
        )

    async def _permissions(
        self, source: MountSource, vpc: str, address: Address | None, *, secure: bool
    ) -> Permissions:
        """Of a client without a name, at that address."""
        keys = {"aws:SourceVpc": vpc or None, "aws:SourceIp": None if address is None else str(address)}
        return await permissions(self._deciding, ANONYMOUS, source, keys, secure=secure)


def _inside(file_system: str, vpc: str) -> str:
    return f"{file_system}@{vpc}"


def _vpcs(source: MountSource) -> set[str]:
    """Where a file system itself has mount targets; an access point's clients come by TLS, as by efs-utils."""
    if source.access_point is not None:
        return set()
    return {target.vpc for target in source.mount_targets.values()}


def bound(address: str) -> socket.socket:
    """A listening socket. Raises OSError that names the address."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen for NFS on {address}: {error.strerror or error}") from None
    return listening
