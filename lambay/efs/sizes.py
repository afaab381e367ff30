"""The metered size of file systems, asked of fsd as seldom as its cost demands.

Metering follows EFS User Guide, "How Amazon EFS reports file system and object sizes": every object (file,
directory, symbolic link) counts 2 KiB of metadata and its data in steps of 4 KiB. fsd reports the data; the
root directory alone makes an empty file system's 6,144 bytes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from lambay.clock import Clock
from lambay.efs.ports import FileServer
from lambay.fsd import FsdError

_log = logging.getLogger("lambay.efs")

_METADATA_BYTES = 2048
_EMPTY_BYTES = 4096 + _METADATA_BYTES
# A measurement is good for this many times what it took, so that measuring takes 1 % of the time at most.
_REUSE = 100


def metered(stored: int, objects: int) -> int:
    """Bytes metered where `objects`, the root directory not among them, hold `stored` bytes."""
    return max(_EMPTY_BYTES, stored + (objects + 1) * _METADATA_BYTES)


@dataclass(frozen=True, slots=True)
class Size:
    """`bytes` metered, `measured_at` in seconds since the epoch, `objects` without the root directory."""

    bytes: int
    objects: int
    measured_at: float
    good_until: float = 0.0


class Sizes:
    def __init__(self, fsd: FileServer, clock: Clock) -> None:
        self._fsd = fsd
        self._clock = clock
        self._known: dict[str, Size] = {}
        self._asking: dict[str, asyncio.Task[Size]] = {}

    async def of(self, volume: str) -> Size | None:
        """The latest size; None where fsd never told one. EFS too reports the latest that it knows."""
        known = self._known.get(volume)
        if known is not None and self._clock.monotonic() < known.good_until:
            return known
        if volume not in self._asking:
            task = self._asking[volume] = asyncio.create_task(self._measure(volume))
            task.add_done_callback(lambda _: self._asking.pop(volume, None))
        try:
            return await asyncio.shield(self._asking[volume])
        except FsdError as error:
            _log.warning("cannot measure %s: %s", volume, error)
            return known

    def forget(self, volume: str) -> None:
        self._known.pop(volume, None)

    async def _measure(self, volume: str) -> Size:
        began = self._clock.monotonic()
        usage = await self._fsd.usage(volume)
        ended = self._clock.monotonic()
        size = Size(
            bytes=metered(usage.bytes, usage.files),
            objects=usage.files,
            measured_at=self._clock.time(),
            good_until=ended + (ended - began) * _REUSE if usage.counted else ended,
        )
        self._known[volume] = size
        return size
