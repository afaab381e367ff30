"""Why no environment came about, in the function's own log, where its owner looks first."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence

from lambay.clock import Clock
from lambay.runtime import EnvironmentSpec

_log = logging.getLogger(__name__)

# Account, Region, group, stream, [(ms, text)].
WriteLog = Callable[[str, str, str, str, Sequence[tuple[int, str]]], Awaitable[None]]


class FailureLog:
    """Each reason in a stream of its own, named as an environment's: there was none to write into."""

    def __init__(self, write: WriteLog | None, clock: Clock) -> None:
        self._write = write
        self._clock = clock

    async def note(self, spec: EnvironmentSpec, reason: str) -> None:
        """Never raises: the invocation fails for its own reason."""
        if self._write is None:
            return
        now = self._clock.now()
        stream = f"{now:%Y/%m/%d}/[{spec.version}]{uuid.uuid4().hex}"
        event = (int(now.timestamp() * 1000), f"{reason}\n")
        try:
            await self._write(spec.account, spec.region, spec.group, stream, [event])
        except Exception:
            _log.exception("%s: its log cannot be written", spec.function_arn)
