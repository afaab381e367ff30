"""Mount targets' addresses and the sockets that listen there, each in its VPC's namespace."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

NFS_PORT = 2049


class Door(Protocol):
    """Who serves a mount target's listening socket until closed, connections and all."""

    def close(self) -> None: ...


class Holding:
    """Accepts connections and keeps them: a mount lives by one, and its requests go another way."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._kept: set[socket.socket] = set()
        listening.setblocking(False)
        asyncio.get_running_loop().add_reader(listening, self._accept)

    def close(self) -> None:
        """Who was connected learns of it at once."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._listening.close()
        for kept in list(self._kept):
            self._drop(kept)

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
            if accepted.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(accepted)

    def _drop(self, accepted: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(accepted)
        self._kept.discard(accepted)
        accepted.close()
