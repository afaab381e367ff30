"""The thread that starts sandboxes, each in a network namespace of its own.

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


@dataclass(frozen=True, slots=True)
class Started:
    """A process in a fresh network namespace (`network` is a descriptor of it) and its listening sockets.

    The namespace lives until the process has ended and the descriptor and the sockets are closed.
    """

    process: subprocess.Popen[bytes]
    network: int
    listeners: tuple[socket.socket, ...]


class Spawner:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambay-spawner")

    async def spawn(
        self,
        command: Callable[[], tuple[Sequence[str], Sequence[int]]],
        ports: Sequence[int],
        *,
        stdin: int,
        output: int,
    ) -> Started:
        """Start what `command` returns (arguments, descriptors to pass on); listen on loopback `ports`.

        `command` runs in the thread, just before the start. Raises OSError.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _spawn, command, ports, stdin, output)

    def stop(self) -> None:
        """End the thread, and with it every process that it started."""
        self._thread.shutdown()


def _spawn(
    command: Callable[[], tuple[Sequence[str], Sequence[int]]], ports: Sequence[int], stdin: int, output: int
) -> Started:
    kernel.unshare_network()
    listeners: list[socket.socket] = []
    network = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
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
        arguments, passed = command()
        # Without preexec_fn this is a vfork, which does not copy Lambay's page tables.
        process = subprocess.Popen(
            arguments,
            pass_fds=passed,
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            stdin=stdin,
            stdout=output,
            stderr=output,
        )
    except BaseException:
        os.close(network)
        for listener in listeners:
            listener.close()
        raise
    return Started(process, network, tuple(listeners))
