"""How an Init phase or an invocation ends, and the names that Lambda has for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from lambay.runtime.spec import Invocation

Reason = Literal["ready", "response", "error", "too-large", "timeout", "exit", "file-system-lost"]

_KILLED = (-9, 128 + 9)


@dataclass(frozen=True, slots=True)
class Ending:
    """`status` is the exit's, as a shell would give it."""

    reason: Reason
    payload: bytes = b""
    error_type: str | None = None
    status: int = 0

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended the function's process."""
        return self.status in _KILLED

    def named(self, *, out_of_memory: bool) -> str:
        """The error type; `out_of_memory`: the kernel has killed for want of memory."""
        if self.error_type is not None:
            return self.error_type
        if self.reason == "timeout":
            return "Sandbox.Timedout"
        if self.reason == "file-system-lost":
            return "EFSIOException"
        return "Runtime.OutOfMemory" if self.killed and out_of_memory else "Runtime.ExitError"


@dataclass(eq=False, slots=True)
class Running:
    """An invocation under way: `began` and `responded` (the first byte) are monotonic seconds.

    `told`: its START line is written; `delivered`: the runtime has its event.
    """

    invocation: Invocation
    ending: asyncio.Future[Ending]
    began: float
    told: bool = False
    delivered: bool = False
    responded: float | None = None
