"""NFS clients inside of VPCs: connections to mount targets whose first bytes have come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from lambay.fsd import FsdError
from lambay.nfs.exports import Exports

_log = logging.getLogger("lambay.nfs")


class FileServer(Protocol):
    async def nfs_serve(self, connected: socket.socket, *, export: str) -> None: ...
    def on_death(self, listener: Callable[[Sequence[str]], None]) -> None: ...


class VpcClients:
    """Hands connections to fsd, and ends them where fsd dies: clients come again by new ones."""

    def __init__(self, exports: Exports, fsd: FileServer) -> None:
        self._exports = exports
        self._fsd = fsd
        self._standing: set[socket.socket] = set()
        self._ends: _Ends | None = None
        fsd.on_death(lambda mounts: self._end_all())

    async def serve(self, connected: socket.socket, mount_target: str) -> None:
        """Return when the connection has ended, by whichever side; closing `connected` is the caller's."""
        export = await self._exports.at(mount_target)
        if export is None:
            return
        if self._ends is None:
            self._ends = _Ends()
        self._standing.add(connected)
        try:
            await self._fsd.nfs_serve(connected, export=export)
            await self._ends.of(connected)
        except FsdError as error:
            _log.warning("an NFS client of mount target %s is not served: %s", mount_target, error)
        finally:
            self._standing.discard(connected)

    def _end_all(self) -> None:
        for connected in self._standing:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


class _Ends:
    """Who reads a connection is another process; that it ends is all that is looked for here."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._awaited: dict[int, asyncio.Future[None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._tell)

    async def of(self, connected: socket.socket) -> None:
        number = connected.fileno()
        ended = self._awaited[number] = asyncio.get_running_loop().create_future()
        self._epoll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            await ended
        finally:
            self._awaited.pop(number, None)
            with contextlib.suppress(OSError):
                self._epoll.unregister(number)

    def _tell(self) -> None:
        for number, _ in self._epoll.poll(0):
            ended = self._awaited.get(number)
            if ended is not None and not ended.done():
                ended.set_result(None)
