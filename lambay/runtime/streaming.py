"""A response as it comes: one environment writes it, one caller reads it, at the caller's pace.

See the Lambda Developer Guide, "Response streaming for Lambda functions".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

MAX_STREAMED_BYTES = 200 * 1024 * 1024
"""Lambda's limit for a streamed response; its lower speed after the first 6 MB is not imitated."""

_FULL = 1024 * 1024
_EMPTY = _FULL // 4


class ResponseStream:
    """`began` resolves to the content type once the first byte may be passed on, or when it is all over.

    A function that does not stream (`streaming` is False then) answers in one piece. Every method belongs to
    the event loop's thread.
    """

    def __init__(self) -> None:
        self.began: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.streaming = False
        self.size = 0
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._left = False
        self._changed = asyncio.Event()
        self._hold: Callable[[bool], None] | None = None

    @property
    def held(self) -> bool:
        """Whether so much waits for the reader that the function is kept from writing more."""
        return self._held > _FULL

    # The environment's side

    def begin(self, content_type: str, hold: Callable[[bool], None]) -> None:
        """`hold` is called with True when the reader falls behind and with False when it has caught up."""
        self._hold = hold
        self.streaming = True
        if not self.began.done():
            self.began.set_result(content_type)

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._left:
            return
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._changed.set()
        if self._held > _FULL and self._hold is not None:
            self._hold(True)

    def end(self) -> None:
        """Nothing more will come. Safe to call twice."""
        self._ended = True
        self._hold = None
        self._changed.set()
        if not self.began.done():
            self.began.set_result("")

    # The caller's side

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held -= len(chunk)
                if self._held < _EMPTY and self._hold is not None:
                    self._hold(False)
                yield chunk
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def leave(self) -> None:
        """Nobody reads any more; the function goes on, and what it writes is dropped."""
        self._left = True
        self._chunks.clear()
        self._held = 0
        if self._hold is not None:
            self._hold(False)
