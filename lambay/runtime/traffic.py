"""What an environment's mount moves, told as attributes of the span that it was moved in."""

from __future__ import annotations

import asyncio
import logging

from lambay.fsd import FsdError
from lambay.runtime.spec import FileServer
from lambay.spans import Span

_SECONDS = 1.0
_KINDS = ("read", "write", "metadata")
_COUNTERS = tuple(f"{kind}_{unit}" for kind in _KINDS for unit in ("bytes", "ops"))

_log = logging.getLogger("lambay.runtime")


class Traffic:
    """Differences of the file server's counters, from one span's end to the next one's."""

    def __init__(self, file_server: FileServer) -> None:
        self._file_server = file_server
        self._last: dict[str, int] = {}
        self._mount = ""

    async def tell(self, span: Span, mount: str | None) -> None:
        """Note on `span` what went through `mount` since the last time; where it cannot be had, nothing."""
        if mount is None:
            return
        try:
            # Whoever waits for an answer does not wait for a file server that is on its way back.
            async with asyncio.timeout(_SECONDS):
                stats = await self._file_server.stats()
        except (FsdError, TimeoutError) as error:
            _log.debug("mount %s: its traffic is not known: %s", mount, error)
            return
        counters = stats.mounts.get(mount)
        if counters is None:
            return
        now = {name: int(counters.get(name, 0)) for name in _COUNTERS}
        # An environment that was reset has mounted anew: counters begin with the mount.
        last = self._last if mount == self._mount else {}
        self._last, self._mount = now, mount
        span.note({f"lambay.efs.{name}": value - last.get(name, 0) for name, value in now.items()})
