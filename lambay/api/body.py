"""A request's body that is handed on as it comes, with what is not taken yet kept small."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

_BUFFERED = 64 << 10


class TooLarge(Exception):
    """A streamed body is larger than allowed."""


class Body:
    """A request's body that is handed on as it comes."""

    def __init__(self, taken: Callable[[], None], limit: int) -> None:
        """`taken` is called whenever there may be room again."""
        self._taken = taken
        self._limit = limit
        self._parts: deque[bytes] = deque()
        self._buffered = 0
        self._size = 0
        self._complete = False
        self._lost = False
        self._came: asyncio.Future[None] | None = None

    def add(self, part: bytes) -> None:
        self._size += len(part)
        # Beyond the limit nothing is kept: what is there tells it already.
        if self._size <= self._limit:
            self._parts.append(part)
            self._buffered += len(part)
        self._wake()

    @property
    def full(self) -> bool:
        """Whether nothing more should come for now."""
        return self._buffered > _BUFFERED

    def complete(self) -> None:
        self._complete = True
        self._wake()

    def lose(self) -> None:
        self._lost = not self._complete
        self._wake()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises TooLarge, and ConnectionResetError where the client goes away before the end."""
        while True:
            if self._size > self._limit:
                raise TooLarge
            if self._parts:
                part = self._parts.popleft()
                self._buffered -= len(part)
                self._taken()
                yield part
            elif self._complete:
                return
            elif self._lost:
                raise ConnectionResetError("the client went away")
            else:
                self._came = asyncio.get_running_loop().create_future()
                await self._came

    def _wake(self) -> None:
        if self._came is not None and not self._came.done():
            self._came.set_result(None)
