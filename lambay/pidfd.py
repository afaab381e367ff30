"""Processes by descriptor; see pidfd_open(2)."""

from __future__ import annotations

import select


def ended(pidfd: int, seconds: float) -> bool:
    """Whether the process has ended, waiting `seconds` for it at most."""
    # Not select(2), which knows no descriptor above 1023: a server with some hundred environments has more.
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
