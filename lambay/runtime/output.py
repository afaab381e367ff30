"""What a sandbox writes, cut into log events.

Standard output and error and the runtime client's log records come through one pipe, which alone keeps them
in order. A record is framed (type 0xa55a00xx, length, timestamp in µs; all big-endian) and becomes one
event; of the rest each line is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_MAGIC = b"\xa5\x5a\x00"
_HEADER = 16
_LONGEST_EVENT = 256 * 1024
"""CloudWatch Logs' limit of an event; a longer line is cut into several."""

_LONGEST_RECORD = 1 << 20
"""Of a longer one no end is awaited: a function could make Lambay hold whatever it claims to send."""

_CHUNK = 1 << 18


class Output:
    """Reads the pipe's other end, which must be non-blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def read(self) -> tuple[list[str], bool]:
        """The whole events that are there by now, and whether the pipe has ended."""
        events: list[str] = []
        while True:
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                return events, False
            if not chunk:
                return events, True
            events += self._cut(chunk)
            if len(chunk) < _CHUNK:
                return events, False

    def rest(self) -> list[str]:
        """What is left without a line's end, as events: for when nothing more will come, or for now."""
        left, self._rest = self._rest, b""
        if left.startswith(_MAGIC):
            left = left[_HEADER:]
        return [_text(left)] if left else []

    def _cut(self, chunk: bytes) -> Iterator[str]:
        pending = self._rest + chunk
        position = 0
        while position < len(pending):
            if pending.startswith(_MAGIC, position):
                if len(pending) < position + _HEADER:
                    break
                size = int.from_bytes(pending[position + 4 : position + 8], "big")
                if size > _LONGEST_RECORD:
                    position += _HEADER
                    continue
                end = position + _HEADER + size
                if len(pending) < end:
                    break
                yield _text(pending[position + _HEADER : end])
                position = end
                continue
            # A record may follow a text without a line's end.
            frame = pending.find(_MAGIC, position)
            line = pending.find(b"\n", position)
            if line >= 0 and (frame < 0 or line < frame):
                end = line + 1
            elif frame >= 0:
                end = frame
            elif len(pending) - position > _LONGEST_EVENT:
                end = len(pending)
            else:
                break
            for start in range(position, end, _LONGEST_EVENT):
                yield _text(pending[start : min(end, start + _LONGEST_EVENT)])
            position = end
        self._rest = pending[position:]


def _text(event: bytes) -> str:
    return event.decode(errors="replace")
