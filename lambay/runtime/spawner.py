"""The thread that makes network namespaces and starts processes in them.

It lives as long as Lambay does: a sandbox dies with the *thread* that started it (PR_SET_PDEATHSIG), which is
how nothing outlives a Lambay that was killed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lambay.runtime import kernel

Command = Callable[[], tuple[Sequence[str], Sequence[int]]]
"""Arguments, and descriptors to pass on."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """A fresh network namespace (`network` is a descriptor of it) with its own loopback and listening sockets.

    The namespace lives until its last process has ended and the descriptor and the sockets are closed.
    """

    network: int
    listeners: tuple[socket.socket, ...]


class Spawner:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambay-spawner")

    async def loopback(self, ports: Sequence[int]) -> Loopback:
        """A network namespace in which sockets listen on loopback `ports`. Raises OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _loopback, ports)

    async def socket(self, network: int) -> socket.socket:
        """A stream socket of that network namespace. Raises OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _socket, network)

    async def spawn(
        self, command: Command, *, stdin: int, output: int, network: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start what `command`, called in the thread just before, returns; in a network namespace, or the host's.

        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _spawn, command, stdin, output, network)

    def stop(self) -> None:
        """End the thread, and with it every process that it started."""
        self._thread.shutdown()


def _loopback(ports: Sequence[int]) -> Loopback:
    listeners: list[socket.socket] = []
    home = _own_network()
    try:
        kernel.unshare_network()
        network = _own_network()
        try:
            with socket.socket() as control:
                kernel.bring_up("lo", control.fileno())
            for port in ports:
                listener = socket.socket()
                listeners.append(listener)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen(128)
                listener.setblocking(False)
        except BaseException:
            os.close(network)
            for listener in listeners:
                listener.close()
            raise
        finally:
            kernel.enter_network(home)
    finally:
        os.close(home)
    return Loopback(network, tuple(listeners))


def _spawn(command: Command, stdin: int, output: int, network: int | None) -> subprocess.Popen[bytes]:
    home = _own_network()
    try:
        if network is not None:
            kernel.enter_network(network)
        arguments, passed = command()
        # Without preexec_fn this is a vfork, which does not copy Lambay's page tables.
        return subprocess.Popen(
            arguments,
            pass_fds=passed,
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            stdin=stdin,
            stdout=output,
            stderr=output,
        )
    finally:
        kernel.enter_network(home)
        os.close(home)


def _socket(network: int) -> socket.socket:
    home = _own_network()
    try:
        kernel.enter_network(network)
        made = socket.socket()
        made.setblocking(False)
        return made
    finally:
        kernel.enter_network(home)
        os.close(home)


def _own_network() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
