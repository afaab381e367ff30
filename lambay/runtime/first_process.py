"""How a sandbox's processes come to life: by bubblewrap for this sandbox alone, or as copies of a fork server.

Either way process 1 of the sandbox is known by the host's number and a pidfd, and how the function's own
process ended is told once it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lambay.runtime.cgroups import ControlGroup
from lambay.runtime.completion import completed
from lambay.runtime.sandbox import Sandbox
from lambay.runtime.spawner import Spawner
from lambay.runtime.spec import SandboxFailure

# Lambda Developer Guide, "Lambda quotas": file descriptors.
_DESCRIPTORS = 1024


@dataclass(frozen=True, slots=True)
class FirstProcess:
    """`pidfd` is readable once everything in the sandbox has ended. `exited` resolves to the exit status of
    the function's process: 128 and the number, if by a signal."""

    pid: int
    pidfd: int
    exited: asyncio.Future[int]

    def kill(self) -> None:
        """Also if it has not come to its control group yet."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a new process gets: its network namespace, its input, its output (and errors), its control group,
    and the file with the system calls it may make."""

    network: int
    input: int
    output: int
    group: ControlGroup
    seccomp: Path


async def start_alone(sandbox: Sandbox, spawner: Spawner, given: Surroundings) -> FirstProcess:
    """Start bubblewrap for one sandbox. Raises OSError, SandboxFailure."""
    status_end, status = os.pipe2(os.O_CLOEXEC)
    block, release = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(status_end, False)
    try:
        seccomp = os.open(given.seccomp, os.O_RDONLY | os.O_CLOEXEC)
        arguments = os.memfd_create("bwrap", os.MFD_CLOEXEC)

        def command() -> tuple[Sequence[str], Sequence[int]]:
            told = sandbox.arguments(seccomp=seccomp, status=status, block=block)
            os.pwrite(arguments, b"\0".join(part.encode() for part in told) + b"\0", 0)
            # From a file, so that the function does not find the host's paths in /proc/1/cmdline.
            line = ["bwrap", "--args", str(arguments), "--", *sandbox.launch()]
            return line, (seccomp, status, block, arguments)

        try:
            spawn = spawner.spawn(command, stdin=given.input, output=given.output, network=given.network)
            process = await completed(spawn)
        finally:
            for descriptor in (status, block, seccomp, arguments):
                os.close(descriptor)
        exited = exit_of(process)
        try:
            pid = await _first_process(status_end)
            first = FirstProcess(pid, os.pidfd_open(pid), exited)
        except BaseException:
            process.kill()
            await exited
            raise
        _confine(pid, given.group)
        os.write(release, b"1")
        return first
    finally:
        os.close(status_end)
        os.close(release)


def descriptors() -> int:
    """How many a function's process may have open: Lambda's limit, or this host's where that is less."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)


def _confine(pid: int, group: ControlGroup) -> None:
    most = descriptors()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    group.enter(pid)
    # If the machine runs out of memory, functions go first.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def exit_of(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """Resolves to the process's exit status as `Popen` gives it."""
    loop = asyncio.get_running_loop()
    exited: asyncio.Future[int] = loop.create_future()
    pidfd = os.pidfd_open(process.pid)

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        if not exited.done():
            exited.set_result(process.wait())

    loop.add_reader(pidfd, ended)
    return exited


async def _first_process(status: int) -> int:
    """The host's pid of the sandbox's process 1, as bubblewrap tells it; it waits until released."""
    told = b""
    async with contextlib.aclosing(_parts(status)) as read:
        async for part in read:
            told += part
            if b"}" in told:
                return int(msgspec.json.decode(told)["child-pid"])
    raise SandboxFailure("bubblewrap ended at once")


async def _parts(descriptor: int) -> AsyncGenerator[bytes]:
    """What can be read from a non-blocking pipe, to its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                part = os.read(descriptor, 65536)
            except BlockingIOError:
                continue
            if not part:
                return
            yield part
    finally:
        loop.remove_reader(descriptor)
