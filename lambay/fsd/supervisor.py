"""Keeps one fsd running: starts it, speaks to it, and clears up and starts again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lambay.fsd.connection import Connection, FsdError
from lambay.fsd.fuse_mounts import abort_mounts, end_mounts
from lambay.fsd.nfs import NfsDoor, OnLine
from lambay.fsd.process import end_earlier, forward_log, forward_output, kill, until_serving
from lambay.fsd.protocol import (
    Hello,
    Ledger,
    Limited,
    Limits,
    Mount,
    Mounted,
    NfsAnswer,
    NfsExport,
    NfsKnown,
    NfsTls,
    Permissions,
    Report,
    Stats,
    Turned,
    Usage,
)
from lambay.settings import Settings

R = TypeVar("R")

_log = logging.getLogger("lambay.fsd")

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_CALL_SECONDS = 30.0
_RESET_SECONDS = 600.0
_PROBE_SECONDS = 10.0
_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 5.0
# A server that lived this long had started well: its death begins a new series of attempts.
_HEALTHY_SECONDS = 10.0


OnDeath = Callable[[Sequence[str]], None]


class Fsd:
    """The file server as the rooms above use it. Every method raises FsdError.

    When the process dies, pending mounts and resets fail with `ServerDied`, the FUSE connections it left are
    aborted (so that no process hangs on them), listeners learn which mounts are lost, and a new process
    starts with all volumes open again. Calls made meanwhile wait for it, and so do those that may be made
    twice. A lost mount stays in its place, failing, until `unmount` or a new mount there: what is beneath is
    an empty directory, which nobody may take for the file system.
    """

    def __init__(self, settings: Settings, *, binary: Path | None = None) -> None:
        self._binary = binary or Path(sys.executable).parent / "fsd"
        self._run_dir = settings.run_dir
        self._socket = settings.run_dir / "fsd.sock"
        self._pid_file = settings.run_dir / "fsd.pid"
        # Mount points outside of the run directory, for the start after a crash of both processes.
        self._elsewhere_file = settings.run_dir / "fsd.mounts"
        self._arguments = (
            "--socket",
            str(self._socket),
            # Its log passes through ours, which has a level of its own; "serving" must come in any case.
            "--log-level",
            "debug" if settings.log_level == "debug" else "info",
            "--transport",
            "classic" if settings.transport == "classic" else "auto",
        )
        self._passthrough: bool | str = "auto" if settings.passthrough else False
        self._volumes: dict[str, str] = {}
        self._limits: dict[str, Limits] = {}
        self._mounts: dict[str, Mount] = {}
        self._lost: dict[str, Mount] = {}
        self._listeners: list[OnDeath] = []
        self._process: asyncio.subprocess.Process | None = None
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hello: Hello | None = None
        self._nfs = NfsDoor(settings.data_dir.absolute() / "nfs", self._socket)

    def on_death(self, listener: OnDeath) -> None:
        """Have `listener` called, in the event loop, with the ids of the mounts that a death took along."""
        self._listeners.append(listener)

    @property
    def running(self) -> Hello | None:
        """Who serves at the moment; None while nobody does."""
        return self._hello if self._up.is_set() else None

    async def start(self) -> None:
        """Clear what an earlier server left, start fsd and return when it answers."""
        if not os.access(self._binary, os.X_OK):
            raise FsdError("NotRunning", f"no file server at {self._binary}; `make setup` builds it")
        self._run_dir.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._end_leftovers)
        self._stopping.clear()
        try:
            await self._spawn()
            await self._call("cleanup", {"prefix": str(self._run_dir)}, dict)
        except BaseException:
            await self._end_process()
            raise
        self._supervision = asyncio.create_task(self._supervise(), name="fsd supervision")

    async def stop(self) -> None:
        """Unmount everything and end the process; safe to call twice."""
        self._stopping.set()
        if self._supervision is not None:
            await self._supervision
            self._supervision = None
        await asyncio.to_thread(self._end_leftovers)
        with suppress(OSError):
            # What others keep there is theirs to remove.
            self._run_dir.rmdir()
        self._volumes.clear()
        self._limits.clear()
        self._nfs.forget_all()

    async def hello(self) -> Hello:
        return await self._ask("hello", {}, Hello)

    async def open_volume(self, volume: str, backing: Path) -> None:
        """Serve the directory `backing` as `volume`; it stays open over restarts of fsd. Idempotent."""
        await self._ask("volume.open", self._volume_fields(volume, str(backing)), dict)
        self._volumes[volume] = str(backing)

    async def close_volume(self, volume: str) -> None:
        self._volumes.pop(volume, None)
        self._limits.pop(volume, None)
        await self._ask("volume.close", {"volume": volume}, dict)

    async def usage(self, volume: str) -> Usage:
        return await self._ask("volume.usage", {"volume": volume}, Usage)

    async def limit(self, volume: str, limits: Limits) -> Report:
        """Hold an open volume to `limits`, at once and over restarts of fsd."""
        fields = {"volume": volume, **msgspec.to_builtins(limits)}
        report = (await self._ask("volume.limits", fields, Limited)).limits
        self._limits[volume] = msgspec.structs.replace(limits, ledger=report.ledger)
        return report

    async def set_clock(self, nanoseconds: int) -> None:
        """What the time is, since 1970: credits accrue by it."""
        await self._ask("clock", {"now": nanoseconds}, dict)

    async def mount(self, mount: Mount) -> Mounted:
        for lost in [each for each in self._lost.values() if each.mountpoint == mount.mountpoint]:
            await self.unmount(lost.mount)
        self._mounts[mount.mount] = mount
        if not Path(mount.mountpoint).is_relative_to(self._run_dir):
            self._note_elsewhere()
        try:
            return await self._call("mount", msgspec.to_builtins(mount), Mounted)
        except FsdError as error:
            self._mounts.pop(mount.mount, None)
            if error.code == "ServerDied":
                await asyncio.to_thread(end_mounts, lambda path: path == Path(mount.mountpoint))
            raise
        except asyncio.CancelledError:
            # It may come to stand after all, and nobody is left who would undo it.
            self._keep(self.unmount(mount.mount))
            raise

    async def unmount(self, mount: str) -> None:
        """Detach lazily, abort the connection and release its locks. Idempotent."""
        self._mounts.pop(mount, None)
        lost = self._lost.pop(mount, None)
        if lost is not None:
            await asyncio.to_thread(end_mounts, lambda path: path == Path(lost.mountpoint))
            return
        if self._connection is None:
            return
        try:
            await self._call("unmount", {"mount": mount}, dict)
        except FsdError as error:
            # No mount outlives its server.
            if error.code not in ("ServerDied", "NotRunning"):
                raise

    async def permit(self, mount: str, permissions: Permissions) -> Turned:
        """Change what a mount may do, from its next request on. `MountNotFound` where it does not stand."""
        return await self._call("mount.permit", {"mount": mount, **msgspec.to_builtins(permissions)}, Turned)

    async def stall(self, mount: str) -> Turned:
        """Leave the mount's requests unserved: they wait until `resume` or `fail`, and a signal ends the wait."""
        return await self._call("mount.stall", {"mount": mount}, Turned)

    async def resume(self, mount: str) -> Turned:
        """Serve what waits, and what comes."""
        return await self._call("mount.resume", {"mount": mount}, Turned)

    async def fail(self, mount: str) -> Turned:
        """Fail what waits and what comes with EIO, and release the mount's locks."""
        return await self._call("mount.fail", {"mount": mount}, Turned)

    def mounts_of(self, volume: str) -> list[str]:
        """The ids of the volume's mounts that stand or are being made."""
        return [mount.mount for mount in self._mounts.values() if mount.volume == volume]

    async def nfs_export(self, export: NfsExport) -> None:
        """Let NFS clients mount it, from now on and over restarts of fsd; its volume is open. Idempotent.

        What was exported under that name before is replaced; where only the permissions differ, clients go on.
        """
        await self._ask("nfs.export", self._nfs.export_fields(export), dict)
        self._nfs.exports[export.export] = export

    async def nfs_unexport(self, export: str) -> None:
        """Idempotent; file handles of it are stale from now on."""
        self._nfs.exports.pop(export, None)
        await self._ask("nfs.unexport", {"export": export}, dict)

    async def nfs_listen(
        self,
        listener: str,
        listening: socket.socket,
        *,
        export: str | None = None,
    ) -> None:
        """Serve NFS on a bound, listening socket, of any network namespace; it is fsd's and ours from now on.

        Connections see `export` as their root, or without it a directory of all exports. Connections that never
        speak are kept.
        """
        if not self._up.is_set():
            await self._wait_until_up("nfs.listen")
        await self._nfs.listen(listener, listening, export)

    async def nfs_tls(self, identities: Sequence[NfsTls]) -> None:
        """Let clients of connections made from now on have TLS, over restarts of fsd.

        Clients are shown the identity that has the name they ask for; where none has, the first if they ask for TLS
        (RFC 9289), the last if they begin with it.
        """
        await self._ask("nfs.tls", self._nfs.identify(identities), dict)

    async def nfs_questions(self, on_line: OnLine) -> None:
        """Have `on_line` called, in the event loop, when a client shows a certificate, which `nfs_answer` answers.

        Over restarts of fsd; those who waited for an answer then come again.
        """
        if not self._up.is_set():
            await self._wait_until_up("nfs.questions")
        await self._nfs.ask(on_line)

    async def nfs_answer(self, answer: NfsAnswer) -> bool:
        """Say who a client is, or what it may do from now on; False where it is gone."""
        return (await self._call("nfs.answer", msgspec.to_builtins(answer), NfsKnown)).known

    async def nfs_serve(self, connected: socket.socket, *, export: str) -> None:
        """Speak NFS on a connection that is accepted already, with `export` as its root.

        fsd has a descriptor of its own from then on, and ends the connection at its end of file or on nonsense.
        Where fsd dies it is for whoever has `connected` to end it (`on_death`).
        """
        if not self._up.is_set():
            await self._wait_until_up("nfs.serve")
        await self._nfs.serve(connected, export)

    async def nfs_close(self, listener: str) -> None:
        """Accept no more connections there; those that stand go on. Idempotent."""
        self._nfs.forget(listener)
        await self._ask("nfs.close", {"listener": listener}, dict)

    async def stats(self) -> Stats:
        stats = await self._ask("stats", {}, Stats)
        for volume, limits in self._limits.items():
            report = stats.volumes.get(volume, {}).get("limits")
            if report is not None:
                ledger = msgspec.convert(report["ledger"], Ledger)
                self._limits[volume] = msgspec.structs.replace(limits, ledger=ledger)
        return stats

    async def reset(self, volume: str) -> None:
        """Empty the volume, however long that takes; it may have no mounts."""
        await self._call("reset", {"volume": volume}, dict, timeout=_RESET_SECONDS)

    def _volume_fields(self, volume: str, backing: str) -> dict[str, Any]:
        return {
            "volume": volume,
            "backing": backing,
            "passthrough": self._passthrough,
            "nfs_state": self._nfs.state,
        }

    async def _ask(self, operation: str, fields: dict[str, Any], answer: type[R]) -> R:
        """`_call` for what may be asked twice: if the server dies, it is asked again when it is back."""
        try:
            return await self._call(operation, fields, answer)
        except FsdError as error:
            if error.code != "ServerDied":
                raise
        return await self._call(operation, fields, answer)

    async def _call(
        self, operation: str, fields: dict[str, Any], answer: type[R], *, timeout: float | None = None
    ) -> R:
        if self._connection is not None and not self._connection.is_open:
            # Dead, and supervision has not come round to it yet.
            self._up.clear()
        if not self._up.is_set():
            await self._wait_until_up(operation)
        connection = self._connection
        if connection is None:
            raise FsdError("NotRunning", f"the file server is not running; {operation} was not sent")
        try:
            text = await connection.call(operation, fields, timeout=timeout or _CALL_SECONDS)
        except FsdError as error:
            if error.code == "Timeout" and connection is self._connection:
                await self._end_if_stuck()
            raise
        return msgspec.json.decode(text, type=answer, strict=False)

    async def _end_if_stuck(self) -> None:
        """Kill a server that does not even say hello to a newcomer; supervision does the rest."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                probe = await Connection.open(self._socket)
                try:
                    await probe.call("hello", {}, timeout=_PROBE_SECONDS)
                finally:
                    await probe.close()
        except (FsdError, OSError, TimeoutError):
            if process is self._process and process.returncode is None:
                _log.error("the file server, pid %d, does not answer; it is ended", process.pid)
                kill(process)

    async def _wait_until_up(self, operation: str) -> None:
        if self._stopping.is_set() or self._supervision is None:
            raise FsdError("NotRunning", f"the file server is not running; {operation} was not sent")
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._up.wait()
        except TimeoutError:
            message = f"not back within {_CALL_SECONDS:g} s; {operation} was not sent"
            raise FsdError("NotRunning", message) from None

    async def _spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            str(self._binary),
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C at the terminal is for Lambay, which then ends fsd in its turn.
            start_new_session=True,
        )
        self._process = process
        self._pid_file.write_text(str(process.pid))
        assert process.stdout is not None
        assert process.stderr is not None
        serving = asyncio.Event()
        self._keep(forward_log(process.stderr, serving))
        self._keep(forward_output(process.stdout, serving))
        await until_serving(process, serving)
        connection = await Connection.open(self._socket)
        self._connection = connection
        answer = await connection.call("hello", {}, timeout=_START_SECONDS)
        hello = self._hello = msgspec.json.decode(answer, type=Hello)
        for volume, backing in self._volumes.items():
            await self._reopen(connection, volume, backing)
        await self._nfs.restore(connection)
        self._up.set()
        _log.info("file server %s up, pid %d, transport %s", hello.version, process.pid, hello.transport)

    async def _reopen(self, connection: Connection, volume: str, backing: str) -> None:
        try:
            await connection.call("volume.open", self._volume_fields(volume, backing), timeout=_CALL_SECONDS)
            if volume in self._limits:
                limits = {"volume": volume, **msgspec.to_builtins(self._limits[volume])}
                await connection.call("volume.limits", limits, timeout=_CALL_SECONDS)
        except FsdError as error:
            if error.code in ("ServerDied", "Timeout"):
                raise
            # One unreadable directory must not take the other file systems along.
            _log.error("cannot reopen volume %s at %s: %s", volume, backing, error)

    async def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF
        started = time.monotonic()
        while not await self._ended():
            backoff = _FIRST_BACKOFF if time.monotonic() - started > _HEALTHY_SECONDS else backoff
            if await self._stopped_within(backoff):
                return
            backoff = min(backoff * 2, _LONGEST_BACKOFF)
            started = time.monotonic()
            try:
                await self._spawn()
            except (FsdError, OSError) as error:
                _log.error("cannot restart the file server: %s", error)

    async def _ended(self) -> bool:
        """Wait for the end of the process and clear up after it; whether it was wanted."""
        if self._connection is not None and self._up.is_set():
            closed = asyncio.create_task(self._connection.closed())
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({closed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            stopping.cancel()
        self._up.clear()
        wanted = self._stopping.is_set()
        if wanted:
            await self._shut_down()
        await self._end_process()
        if not wanted:
            await self._clear_after_death()
        return wanted

    async def _shut_down(self) -> None:
        if self._connection is None or self._process is None:
            return
        try:
            await self._connection.call("shutdown", {}, timeout=_STOP_SECONDS)
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except (FsdError, TimeoutError) as error:
            # It will be killed; the kernel and _end_leftovers undo what it leaves.
            _log.warning("the file server did not shut down: %s", error)

    async def _end_process(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                kill(self._process)
            status = await self._process.wait()
            if not self._stopping.is_set():
                _log.error("the file server, pid %d, ended with status %d", self._process.pid, status)
            self._process = None
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _clear_after_death(self) -> None:
        lost = self._mounts
        self._mounts = {}
        self._lost |= lost
        mountpoints = {Path(mount.mountpoint) for mount in lost.values()}
        await asyncio.to_thread(abort_mounts, lambda path: path in mountpoints)
        for listener in self._listeners:
            try:
                listener(list(lost))
            except Exception:
                _log.exception("a listener failed on the file server's death")

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _note_elsewhere(self) -> None:
        mountpoints = (mount.mountpoint for mount in (self._mounts | self._lost).values())
        kept = [each for each in mountpoints if not Path(each).is_relative_to(self._run_dir)]
        self._elsewhere_file.write_bytes(msgspec.json.encode(kept))

    def _end_mounts(self) -> None:
        mountpoints = {Path(mount.mountpoint) for mount in (self._mounts | self._lost).values()}
        self._mounts.clear()
        self._lost.clear()
        end_mounts(lambda path: path in mountpoints or path.is_relative_to(self._run_dir))

    def _end_leftovers(self) -> None:
        """End what a server on this run directory left: the process, its mounts, its socket."""
        end_earlier(self._pid_file, str(self._socket))
        if self._elsewhere_file.exists():
            elsewhere = {Path(each) for each in msgspec.json.decode(self._elsewhere_file.read_bytes())}
            end_mounts(lambda path: path in elsewhere)
            self._elsewhere_file.unlink()
        self._end_mounts()
        self._socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
