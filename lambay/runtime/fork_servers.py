"""Fork servers: for each runtime one small process that has everything imported, and sandboxes as its copies.

Importing the runtime client takes an interpreter far longer than all of a sandbox's namespaces and mounts; a
copy has it already. What a copy inherits is what the fork server holds: an interpreter, its modules, one socket
(closed before the function's code runs), and nothing of Lambay's. bootstrap/fork_server.py is the other side.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lambay.runtime.completion import completed
from lambay.runtime.first_process import FirstProcess, Surroundings, descriptors, exit_of
from lambay.runtime.languages import BOOTSTRAPS, Language
from lambay.runtime.sandbox import HOSTNAME, Sandbox, Tree
from lambay.runtime.spawner import Spawner
from lambay.runtime.spec import SandboxFailure

_KILLED = 128 + signal.SIGKILL

_log = logging.getLogger("lambay.runtime")


class _Answer(msgspec.Struct):
    pid: int = 0
    error: str = ""


class _Ending(msgspec.Struct):
    exit: int = 1
    error: str = ""


class ForkServer:
    """One running fork server. Copies are made one after the other, in the order they are asked for."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, output: int) -> None:
        self._process = process
        self._channel = channel
        self._output = output
        self._waiting: deque[asyncio.Future[tuple[int, int]]] = deque()
        self.ended = exit_of(process)
        self.ended.add_done_callback(lambda _: self._lose())

    @classmethod
    async def start(cls, sandbox: Sandbox, spawner: Spawner) -> ForkServer:
        """Return once it is ready. Raises OSError, SandboxFailure."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, written = os.pipe2(os.O_CLOEXEC)
        arguments = os.memfd_create("bwrap", os.MFD_CLOEXEC)

        def command() -> tuple[Sequence[str], Sequence[int]]:
            told = sandbox.fork_server_arguments()
            os.pwrite(arguments, b"\0".join(part.encode() for part in told) + b"\0", 0)
            return ["bwrap", "--args", str(arguments), "--", *sandbox.command], (arguments,)

        try:
            process = await completed(spawner.spawn(command, stdin=theirs.fileno(), output=written))
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(written)
            os.close(arguments)
        ours.setblocking(False)
        os.set_blocking(output, False)
        server = cls(process, ours, output)
        loop = asyncio.get_running_loop()
        if await loop.sock_recv(ours, 16) == b"ready":
            loop.add_reader(ours, server._hear)
            return server
        await server.ended
        words = server._said()
        await server.stop()
        raise SandboxFailure(f"fork server: {words or 'ended at once'}")

    async def copy(self, given: Surroundings, mounts: Mapping[str, int], uid: int) -> FirstProcess:
        """Process 1 of a new sandbox, with `mounts` (place → a detached mount's descriptor) attached.

        Raises OSError, SandboxFailure.
        """
        status_end, status = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(status_end, False)
        passed = [status]
        try:
            seccomp = os.open(given.seccomp, os.O_RDONLY | os.O_CLOEXEC)
            passed.append(seccomp)
            tasks, unified = given.group.entrances()
            passed += [*tasks, *unified]
            request = {
                "uid": uid,
                "files": descriptors(),
                "hostname": HOSTNAME,
                "mounts": list(mounts),
                "tasks": len(tasks),
                "unified": bool(unified),
            }
            views = mounts.values()
            rights = [status, given.input, given.output, given.network, seccomp, *views, *tasks, *unified]
            answer = self._ask(msgspec.json.encode(request), rights)
        except BaseException:
            os.close(status_end)
            raise
        finally:
            for descriptor in passed:
                os.close(descriptor)
        return await completed(_born(answer, status_end))

    async def stop(self) -> None:
        """End it, and with it every sandbox that is its copy."""
        asyncio.get_running_loop().remove_reader(self._channel)
        if not self.ended.done():
            self._process.kill()
        await self.ended
        self._lose()
        self._channel.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _ask(self, request: bytes, descriptors: Sequence[int]) -> asyncio.Future[tuple[int, int]]:
        if self.ended.done():
            raise SandboxFailure("the fork server has ended")
        answer: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        rights = array.array("i", descriptors)
        # Requests are small, and few are under way: they never fill the socket's buffer.
        self._channel.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self._waiting.append(answer)
        return answer

    def _hear(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, 65536, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            asyncio.get_running_loop().remove_reader(self._channel)
            return
        answer = msgspec.json.decode(message, type=_Answer)
        waiting = self._waiting.popleft()
        if answer.error:
            waiting.set_exception(SandboxFailure(answer.error))
        else:
            waiting.set_result((answer.pid, descriptors[0]))

    def _lose(self) -> None:
        while self._waiting:
            self._waiting.popleft().set_exception(SandboxFailure(f"fork server: {self._said() or 'ended'}"))

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            return "; ".join(os.read(self._output, 65536).decode(errors="replace").split("\n")[-4:]).strip(
                "; "
            )
        return ""


async def _born(answer: asyncio.Future[tuple[int, int]], status: int) -> FirstProcess:
    try:
        pid, pidfd = await answer
    except BaseException:
        os.close(status)
        raise
    return FirstProcess(pid, pidfd, _ending(status))


def _ending(status: int) -> asyncio.Future[int]:
    """Resolves to what process 1 writes into this pipe at its end, or as killed if it cannot any more."""
    loop = asyncio.get_running_loop()
    exited: asyncio.Future[int] = loop.create_future()

    def readable() -> None:
        try:
            told = os.read(status, 65536)
        except BlockingIOError:
            return
        loop.remove_reader(status)
        os.close(status)
        ending = msgspec.json.decode(told, type=_Ending) if told else _Ending(_KILLED)
        if ending.error:
            _log.error("a sandbox could not be built: %s", ending.error)
        if not exited.done():
            exited.set_result(ending.exit)

    loop.add_reader(status, readable)
    return exited


class ForkServers:
    """A fork server for each runtime that has one, started when its first sandbox is wanted."""

    def __init__(self, run_dir: Path, etc: Path, spawner: Spawner) -> None:
        self._directory = run_dir / "fork-servers"
        self._etc = etc
        self._spawner = spawner
        self._running: dict[Language, asyncio.Task[ForkServer]] = {}

    async def of(self, language: Language) -> ForkServer:
        """Raises OSError, SandboxFailure."""
        known = self._running.get(language)
        if known is None or (known.done() and (known.exception() or known.result().ended.done())):
            start = self._start(language, known)
            known = self._running[language] = asyncio.create_task(
                start, name=f"fork server of {language.name}"
            )
        return await asyncio.shield(known)

    async def stop(self) -> None:
        running, self._running = self._running, {}
        if running:
            await asyncio.wait(running.values())
        for language, task in running.items():
            if task.exception() is None:
                await task.result().stop()
            self._tree(language).remove()
        with contextlib.suppress(FileNotFoundError):
            self._directory.rmdir()

    async def _start(self, language: Language, last: asyncio.Task[ForkServer] | None) -> ForkServer:
        if last is not None and last.exception() is None:
            _log.warning("the fork server of %s has ended and is started again", language.name)
            await last.result().stop()
        tree = self._tree(language)
        tree.make(0)
        (tree.tmp).chmod(0o700)
        sandbox = Sandbox(
            tree=tree,
            etc=self._etc,
            uid=0,
            command=(language.waiting[0], "/var/rapid/fork_server.py", language.forks),
            mounts={**dict(language.mounts), "/var/rapid": BOOTSTRAPS},
            masked=language.masked,
            environment=dict(language.variables),
        )
        return await ForkServer.start(sandbox, self._spawner)

    def _tree(self, language: Language) -> Tree:
        return Tree(self._directory / language.name)
