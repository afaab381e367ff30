"""fsd's network door: what can be mounted by NFS, and on which sockets; kept over restarts of fsd."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path
from typing import Any

import msgspec

from lambay.fsd.connection import Connection, FsdError
from lambay.fsd.protocol import NfsExport, NfsTls

_log = logging.getLogger("lambay.fsd")

_CALL_SECONDS = 30.0


class NfsDoor:
    """What fsd's NFS door was told, to tell a new fsd again.

    A listening socket stays open here as well: clients that come while fsd is away wait in its backlog.
    """

    def __init__(self, state: Path, control: Path) -> None:
        self._state = str(state)
        self._control = control
        self.exports: dict[str, NfsExport] = {}
        self._listeners: dict[str, tuple[socket.socket, str | None, NfsTls | None]] = {}

    def export_fields(self, export: NfsExport) -> dict[str, Any]:
        return {"state": self._state, **msgspec.to_builtins(export)}

    async def restore(self, connection: Connection) -> None:
        """Tell an fsd that has just started. Raises FsdError where it has ended again."""
        for export in list(self.exports.values()):
            try:
                await connection.call("nfs.export", self.export_fields(export), timeout=_CALL_SECONDS)
            except FsdError as error:
                if error.code in ("ServerDied", "Timeout"):
                    raise
                _log.error("cannot offer %s by NFS again: %s", export.export, error)
        for name in list(self._listeners):
            await self.hand_over(name)

    async def listen(
        self, name: str, listening: socket.socket, export: str | None, tls: NfsTls | None
    ) -> None:
        """Raises FsdError; then the socket is still the caller's."""
        before = self._listeners.get(name)
        self._listeners[name] = (listening, export, tls)
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

    async def hand_over(self, name: str) -> None:
        listening, export, tls = self._listeners[name]
        fields = {"tls": msgspec.to_builtins(tls), "listener": name, "export": export}
        await asyncio.to_thread(self._send, "nfs.listen", fields, listening.fileno())

    async def serve(self, connected: socket.socket, export: str) -> None:
        # Whoever closes his meanwhile must not have another descriptor of that number sent.
        own = connected.dup()

        def send() -> None:
            with own:
                self._send("nfs.serve", {"export": export}, own.fileno())

        await asyncio.to_thread(send)

    def _send(self, operation: str, fields: dict[str, Any], descriptor: int) -> None:
        request = json.dumps({"id": 1, "op": operation, "state": self._state, **fields}).encode() + b"\n"
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
