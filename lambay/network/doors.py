"""Mount targets' addresses and the sockets that listen there, each in its VPC's namespace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Protocol

NFS_PORT = 2049
_PROBE_AFTER_SECONDS = 60

_log = logging.getLogger("lambay.network")


class NfsClients(Protocol):
    """Who speaks NFS with those who connect to mount targets."""

    async def serve(self, connected: socket.socket, mount_target: str) -> None:
        """Return when the connection has ended; `connected` stays open meanwhile."""


class Door:
    """A mount target's: accepts connections and keeps them, for a mount lives by one that says nothing.

    Who says something is an NFS client, and `clients` have him from then on.
    """

    def __init__(self, listening: socket.socket, mount_target: str, clients: NfsClients) -> None:
        self._listening = listening
        self._mount_target = mount_target
        self._clients = clients
        self._kept: set[socket.socket] = set()
        self._served: dict[socket.socket, asyncio.Task[None]] = {}
        listening.setblocking(False)
        asyncio.get_running_loop().add_reader(listening, self._accept)

    def close(self) -> None:
        """Who was connected learns of it at once."""
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        for kept in list(self._kept):
            self._drop(kept)
        for served, task in list(self._served.items()):
            _hang_up(served)
            task.cancel()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError:
                return
            accepted.setblocking(False)
            self._kept.add(accepted)
            asyncio.get_running_loop().add_reader(accepted, self._heard, accepted)

    def _heard(self, accepted: socket.socket) -> None:
        try:
            # What it says is for others to read.
            if accepted.recv(1, socket.MSG_PEEK):
                self._pass_on(accepted)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(accepted)

    def _pass_on(self, accepted: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(accepted)
        self._kept.discard(accepted)
        # A client that vanishes without a word would be served for ever.
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_SECONDS)
        serving = asyncio.create_task(self._serve(accepted), name="NFS client in a VPC")
        self._served[accepted] = serving
        serving.add_done_callback(lambda _: self._served_out(accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._clients.serve(accepted, self._mount_target)
        except Exception:
            _log.exception("an NFS client of mount target %s is not served", self._mount_target)

    def _served_out(self, accepted: socket.socket) -> None:
        del self._served[accepted]
        _hang_up(accepted)
        accepted.close()

    def _drop(self, accepted: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(accepted)
        self._kept.discard(accepted)
        accepted.close()


def _hang_up(connected: socket.socket) -> None:
    """Whoever else has descriptors of it."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
