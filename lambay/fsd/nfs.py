"""fsd's network door: what can be mounted by NFS, and on which sockets; kept over restarts of fsd."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lambay.fsd.connection import Connection, FsdError
from lambay.fsd.protocol import NfsExport, NfsQuestion, NfsTls, NfsVisitEnded

_log = logging.getLogger("lambay.fsd")

_CALL_SECONDS = 30.0
_LONGEST_QUESTION = 1 << 20

OnLine = Callable[[NfsQuestion | NfsVisitEnded], None]


class NfsDoor:
    """What fsd's NFS door was told, to tell a new fsd again.

    A listening socket stays open here as well: clients that come while fsd is away wait in its backlog.
    """

    def __init__(self, state: Path, control: Path) -> None:
        self.state = str(state)
        self._control = control
        self.exports: dict[str, NfsExport] = {}
        self._listeners: dict[str, tuple[socket.socket, str | None]] = {}
        self._identities: Sequence[NfsTls] = ()
        self._on_line: OnLine | None = None
        self._questions: asyncio.Task[None] | None = None

    def export_fields(self, export: NfsExport) -> dict[str, Any]:
        return {"state": self.state, **msgspec.to_builtins(export)}

    async def restore(self, connection: Connection) -> None:
        """Tell an fsd that has just started. Raises FsdError where it has ended again."""
        for export in list(self.exports.values()):
            try:
                await connection.call("nfs.export", self.export_fields(export), timeout=_CALL_SECONDS)
            except FsdError as error:
                if error.code in ("ServerDied", "Timeout"):
                    raise
                _log.error("cannot offer %s by NFS again: %s", export.export, error)
        if self._identities:
            await connection.call("nfs.tls", self._tls_fields(), timeout=_CALL_SECONDS)
        if self._on_line is not None:
            await self.ask(self._on_line)
        for name in list(self._listeners):
            await self.hand_over(name)

    def _tls_fields(self) -> dict[str, Any]:
        return {"state": self.state, "identities": msgspec.to_builtins(self._identities)}

    def identify(self, identities: Sequence[NfsTls]) -> dict[str, Any]:
        """The fields of the request; the identities are told to every further fsd."""
        self._identities = identities
        return self._tls_fields()

    async def ask(self, on_line: OnLine) -> None:
        """Have questions passed on, of this fsd and of further ones. Raises FsdError."""
        self._on_line = on_line
        if self._questions is not None:
            self._questions.cancel()
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._control), limit=_LONGEST_QUESTION)
        except OSError as error:
            raise FsdError("ServerDied", f"the file server ended before it could ask: {error}") from None
        request = {"id": 1, "op": "nfs.questions", "state": self.state}
        writer.write(msgspec.json.encode(request) + b"\n")
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                answer = await reader.readline()
        except (OSError, TimeoutError):
            answer = b""
        if not answer:
            writer.close()
            raise FsdError("ServerDied", "the file server ended before it could ask")
        self._questions = asyncio.create_task(_read(reader, writer, on_line), name="NFS questions")

    async def listen(self, name: str, listening: socket.socket, export: str | None) -> None:
        """Raises FsdError; then the socket is still the caller's."""
        before = self._listeners.get(name)
        self._listeners[name] = (listening, export)
        try:
            await self.hand_over(name)
        except BaseException:
            self._listeners.pop(name)
            raise
        if before is not None and before[0] is not listening:
            before[0].close()

    def forget(self, name: str) -> None:
        known = self._listeners.pop(name, None)
        if known is not None:
            known[0].close()

    def forget_all(self) -> None:
        for name in list(self._listeners):
            self.forget(name)
        self.exports.clear()
        self._identities = ()
        self._on_line = None
        if self._questions is not None:
            self._questions.cancel()
            self._questions = None

    async def hand_over(self, name: str) -> None:
        listening, export = self._listeners[name]
        fields = {"listener": name, "export": export}
        await asyncio.to_thread(self._send, "nfs.listen", fields, listening.fileno())

    async def serve(self, connected: socket.socket, export: str) -> None:
        # Whoever closes his meanwhile must not have another descriptor of that number sent.
        own = connected.dup()

        def send() -> None:
            with own:
                self._send("nfs.serve", {"export": export}, own.fileno())

        await asyncio.to_thread(send)

    def _send(self, operation: str, fields: dict[str, Any], descriptor: int) -> None:
        request = json.dumps({"id": 1, "op": operation, "state": self.state, **fields}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(_CALL_SECONDS)
                control.connect(str(self._control))
                socket.send_fds(control, [request], [descriptor])
                with control.makefile("rb") as answers:
                    line = answers.readline()
        except OSError as error:
            raise FsdError("ServerDied", f"the file server ended before it had the socket: {error}") from None
        if not line:
            raise FsdError("ServerDied", "the file server ended before it had the socket")
        failure = json.loads(line).get("error")
        if failure is not None:
            raise FsdError(failure["code"], failure["message"], failure.get("errno"))


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_line: OnLine) -> None:
    """Until fsd ends; the next one is asked to ask again."""
    try:
        while line := await reader.readline():
            try:
                on_line(msgspec.json.decode(line, type=NfsQuestion | NfsVisitEnded))
            except Exception:
                _log.exception("a question about an NFS client has no answer")
    except (OSError, ValueError):
        pass
    finally:
        writer.close()
