"""One connection to fsd's control socket: many requests in flight, answers in any order."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec

from lambay.fsd.protocol import Answer

# The counters of thousands of mounts come in one line.
_LONGEST_LINE = 256 * 1024 * 1024


class FsdError(Exception):
    """What fsd refused, or that it is gone.

    `code` is fsd's own (`RootDirectoryMissing`), or one of the client's: `ServerDied` (the process ended
    before it answered), `NotRunning` (it is not up, and will not be), `Timeout`. `errno` is set where a
    system call failed.
    """

    def __init__(self, code: str, message: str, errno: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.errno = errno


class Connection:
    """Requests out, answers in; every pending request fails with `ServerDied` when the socket closes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._closed = False
        self._answers = asyncio.create_task(self._read(), name="fsd answers")

    @classmethod
    async def open(cls, socket: Path) -> Connection:
        """Raises OSError where nobody listens."""
        return cls(*await asyncio.open_unix_connection(str(socket), limit=_LONGEST_LINE))

    @property
    def is_open(self) -> bool:
        return not self._closed

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> bytes:
        """The result object's JSON. Raises FsdError."""
        # uvloop's transports are closed a moment before their reader is told.
        if self._closed or self._writer.is_closing():
            raise FsdError("ServerDied", f"the file server ended before {operation} was sent")
        number = next(self._ids)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            self._writer.write(msgspec.json.encode({"id": number, "op": operation, **fields}) + b"\n")
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise FsdError("Timeout", f"{operation} was not answered within {timeout:g} s") from None
        finally:
            self._pending.pop(number, None)

    async def closed(self) -> None:
        """Return once the other end has closed."""
        await asyncio.shield(self._answers)

    async def close(self) -> None:
        self._writer.close()
        self._answers.cancel()
        await asyncio.gather(self._answers, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._settle(line)
        except (OSError, ValueError):
            # A reset, or a line longer than any answer: either way the stream is of no more use.
            pass
        finally:
            self._closed = True
            self._writer.close()
            for answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(FsdError("ServerDied", "the file server ended before it answered"))

    def _settle(self, line: bytes) -> None:
        answer = msgspec.json.decode(line, type=Answer)
        waiting = self._pending.get(answer.id)
        if waiting is None or waiting.done():
            return
        if answer.error is not None:
            waiting.set_exception(FsdError(answer.error.code, answer.error.message, answer.error.errno))
        elif answer.result is msgspec.UNSET:
            waiting.set_result(line)
        else:
            waiting.set_result(bytes(answer.result))
