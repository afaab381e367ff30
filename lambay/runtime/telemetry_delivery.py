"""Batches of events on their way to one extension, over HTTP or TCP on the sandbox's loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

# An extension that does not answer for so long has fallen behind.
_ANSWER_SECONDS = 2.0

Post = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Destination:
    protocol: Literal["HTTP", "TCP"]
    host: str
    port: int
    path: str


class Delivery:
    """Sends what was put when there are `most_items` or `most_bytes`, or `seconds` after the first.

    What could not be sent waits for the next time; what waits beyond twice the limits is dropped, the oldest first:
    `dropped` makes the event that tells of so many events and bytes.
    """

    def __init__(
        self,
        destination: Destination,
        open_connection: Callable[[int], Awaitable[Post]],
        *,
        most_items: int,
        most_bytes: int,
        seconds: float,
        dropped: Callable[[int, int], bytes],
    ) -> None:
        self._destination = destination
        self._open_connection = open_connection
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._dropped = dropped
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0, 0
        self._due: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._held = False
        self._stopped = False
        self._kept: Post | None = None

    def put(self, event: bytes) -> None:
        self._waiting.append(event)
        self._size += len(event)
        while len(self._waiting) > 2 * self._most_items or self._size > 2 * self._most_bytes:
            gone = self._waiting.popleft()
            self._size -= len(gone)
            self._lost = self._lost[0] + 1, self._lost[1] + len(gone)
        if len(self._waiting) >= self._most_items or self._size >= self._most_bytes:
            self._send()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._seconds, self._ripe)

    def hold(self, held: bool) -> None:
        self._held = held
        if not held and self._waiting and self._due is None:
            self._send()

    async def flush(self) -> None:
        """Return once what waits now was sent, or could not be."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        self._send()
        if self._sending is not None:
            await asyncio.wait([self._sending])

    def stop(self) -> None:
        self._stopped = True
        if self._due is not None:
            self._due.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self._hang_up()

    def _ripe(self) -> None:
        self._due = None
        self._send()

    def _send(self) -> None:
        if self._held or self._stopped or self._sending is not None or not self._waiting:
            return
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._sending = asyncio.create_task(self._batches(), name="telemetry")

    async def _batches(self) -> None:
        try:
            while self._waiting and not self._held:
                lost, self._lost = self._lost, (0, 0)
                batch = self._next_batch()
                told = [self._dropped(*lost)] if lost[0] else []
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await self._post([*told, *batch])
                except (OSError, TimeoutError, ValueError, EOFError):
                    self._hang_up()
                    self._waiting.extendleft(reversed(batch))
                    self._size += sum(map(len, batch))
                    self._lost = self._lost[0] + lost[0], self._lost[1] + lost[1]
                    break
        finally:
            self._sending = None
            if self._waiting and self._due is None and not self._stopped:
                self._due = asyncio.get_running_loop().call_later(self._seconds, self._ripe)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and len(batch) < self._most_items:
            if batch and size + len(self._waiting[0]) > self._most_bytes:
                break
            size += len(self._waiting[0])
            batch.append(self._waiting.popleft())
        self._size -= size
        return batch

    async def _post(self, batch: list[bytes]) -> None:
        if self._destination.protocol == "TCP":
            await self._write_lines(batch)
        else:
            await self._request(b"[" + b",".join(batch) + b"]")

    async def _write_lines(self, batch: list[bytes]) -> None:
        if self._kept is None:
            self._kept = await self._open_connection(self._destination.port)
        _, writer = self._kept
        writer.write(b"".join(event + b"\n" for event in batch))
        await writer.drain()

    async def _request(self, body: bytes) -> None:
        reader, writer = await self._open_connection(self._destination.port)
        try:
            lines = (
                f"POST {self._destination.path} HTTP/1.1",
                f"Host: {self._destination.host}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                "Connection: close",
                "\r\n",
            )
            writer.write("\r\n".join(lines).encode() + body)
            status = await reader.readline()
            if not status.split()[1:2] or not status.split()[1].startswith(b"2"):
                raise ValueError(f"answered {status!r}")
        finally:
            writer.close()

    def _hang_up(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            with contextlib.suppress(OSError):
                kept[1].close()
