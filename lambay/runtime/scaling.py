"""How fast a function may gain environments: Lambda Developer Guide, "Lambda function scaling", scaling rate.

Each function by itself: 1,000 at once, and 1,000 more every 10 seconds, refilled continuously and never beyond 1,000.
"""

from __future__ import annotations

from collections.abc import Callable

ENVIRONMENTS = 1000
SECONDS = 10.0


class ScalingRate:
    """By function; `now` gives seconds."""

    def __init__(
        self, now: Callable[[], float], environments: int = ENVIRONMENTS, seconds: float = SECONDS
    ) -> None:
        self._now = now
        self._most = float(environments)
        self._per_second = environments / seconds
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, function: str) -> bool:
        """Whether one more environment may be started now; it counts if so."""
        now = self._now()
        left, since = self._left.get(function, (self._most, now))
        left = min(self._most, left + max(0.0, now - since) * self._per_second)
        if left < 1.0:
            return False
        self._left[function] = (left - 1.0, now)
        if len(self._left) > 1 and left >= self._most:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Functions that have their whole rate again."""
        whole = [
            function
            for function, (left, since) in self._left.items()
            if left + (now - since) * self._per_second >= self._most
        ]
        for function in whole:
            del self._left[function]
