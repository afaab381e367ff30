"""A mount's TCP connection: made from the environment's own namespace, kept for as long as the mount stands."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from lambay.network.doors import NFS_PORT
from lambay.network.model import Interface
from lambay.runtime import MountConnectivityFailure, MountTarget, MountTimeout
from lambay.runtime.wiring import Mounted

_PROBE_AFTER_SECONDS = 5


class Lifeline:
    """`source` is the interface that it goes out by, `target` where it goes."""

    def __init__(
        self, connected: socket.socket, source: Interface, target: MountTarget, mounted: Mounted
    ) -> None:
        self.source = source
        self.target = target
        self._socket = connected
        self._mounted = mounted
        self._stalled = False
        self._giving_up: asyncio.TimerHandle | None = None
        self._closed = False
        asyncio.get_running_loop().add_reader(connected, self._heard)

    def cut(self, sentence: str, seconds: float) -> None:
        """The way is barred; what is still barred after that time is lost."""
        if self._closed or self._stalled:
            return
        self._stalled = True
        self._mounted.stall()
        self._giving_up = asyncio.get_running_loop().call_later(seconds, self._lose, sentence)

    def mend(self) -> None:
        if self._closed or not self._stalled:
            return
        self._stalled = False
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._mounted.resume()

    def end(self, reason: str) -> None:
        """What it led to is there no more."""
        if not self._closed:
            self._lose(reason)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _heard(self) -> None:
        """A mount target says nothing here: it is the end, by a FIN, a reset or the time without an answer."""
        try:
            if self._socket.recv(4096):
                return
            reason = f"mount target {self.target.id} closed the connection"
        except BlockingIOError:
            return
        except OSError as error:
            reason = f"the connection to mount target {self.target.id} ended: {error.strerror}"
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self.close()
        self._mounted.lose(reason)


async def connect(opened: socket.socket, target: MountTarget, seconds: float, patience: float) -> None:
    """Connect `opened`; `patience` is how long an answer may be missing later on.

    Raises MountTimeout, MountConnectivityFailure.
    """
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_SECONDS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_AFTER_SECONDS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(opened, (target.address, NFS_PORT))
    except TimeoutError:
        raise MountTimeout(
            f"no answer from mount target {target.id} ({target.address}:{NFS_PORT}) within {seconds:g} s"
        ) from None
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            raise MountTimeout(f"no answer from mount target {target.id} ({target.address})") from None
        raise MountConnectivityFailure(
            f"mount target {target.id} ({target.address}:{NFS_PORT}): {error.strerror or error}"
        ) from None


def discard(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.close()
