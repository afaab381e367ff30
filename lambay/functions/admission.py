"""Concurrency: how many invocations may run at once, by function and by account."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from lambay.aws import AWSError
from lambay.functions.resources import Resources

_UNRESERVED_MINIMUM = 100
_INVOCATIONS_A_SECOND = 10


class Admission:
    """Counts what runs. A function with reserved concurrency has its own room; the others share what is left.

    See "Understanding Lambda function scaling" in the Developer Guide. It is called on every invocation, so
    the shares are computed once for each change of the records.
    """

    def __init__(self, resources: Resources, account_limit: int) -> None:
        self._resources = resources
        self.account_limit = account_limit
        self._rates: dict[str, tuple[float, float]] = {}
        self._running: Counter[str] = Counter()
        self._shared: Counter[str] = Counter()
        self._unreserved: dict[str, int] = {}
        self._builds: Counter[str] = Counter()
        self._codes: dict[str, frozenset[str]] = {}
        self._waiters: dict[str, asyncio.Event] = {}
        resources.on_change(self._unreserved.clear)

    def enter(
        self, function_key: str, place: str, reserved: int | None, *, provisioned: bool = False
    ) -> bool:
        """Count one more invocation; whether it counts in the shared part, as `leave` wants to know.

        `place` is `ACCOUNT/REGION`. A `provisioned` one has its place already, beside the shared part.
        Raises TooManyRequestsException.
        """
        running = self._running[function_key]
        if reserved is not None and running >= reserved:
            raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
        if reserved is not None:
            self._pace(function_key, reserved)
        shared = reserved is None and not provisioned
        if shared and self._shared[place] >= self.unreserved(place):
            raise throttled("ConcurrentInvocationLimitExceeded")
        self._shared[place] += shared
        self._running[function_key] = running + 1
        return shared

    @property
    def unreserved_minimum(self) -> int:
        """What of the account's concurrency functions can't reserve."""
        return min(_UNRESERVED_MINIMUM, self.account_limit)

    def _pace(self, function_key: str, reserved: int) -> None:
        """Ten invocations a second for each reserved execution, as many at once. Raises TooManyRequestsException."""
        most = float(reserved * _INVOCATIONS_A_SECOND)
        now = time.monotonic()
        left, since = self._rates.get(function_key, (most, now))
        left = min(left + (now - since) * most, most)
        if left < 1:
            raise throttled("ReservedFunctionInvocationRateLimitExceeded")
        self._rates[function_key] = (left - 1, now)

    def leave(self, function_key: str, place: str, shared: bool) -> None:
        """An invocation that `enter` counted is over."""
        if self._running[function_key] > 1:
            self._running[function_key] -= 1
        else:
            del self._running[function_key]
        if shared:
            self._shared[place] -= 1

    def begin(self, build: str, codes: frozenset[str]) -> None:
        """An invocation uses the environments of this build, and so its packages (their digests)."""
        self._builds[build] += 1
        self._codes[build] = codes

    def end(self, build: str) -> None:
        if self._builds[build] > 1:
            self._builds[build] -= 1
            return
        del self._builds[build], self._codes[build]
        if build in self._waiters:
            self._waiters.pop(build).set()

    def codes(self) -> set[str]:
        """The digests of the packages that invocations use now."""
        return set().union(*self._codes.values())

    async def ended(self, build: str) -> None:
        """When no invocation uses this build any more."""
        while self._builds[build]:
            await self._waiters.setdefault(build, asyncio.Event()).wait()

    def running(self, function_key: str) -> int:
        return self._running[function_key]

    def total(self) -> int:
        return sum(self._running.values())

    def unreserved(self, place: str) -> int:
        """The account's concurrency in a Region less what functions have reserved or provisioned."""
        known = self._unreserved.get(place)
        if known is None:
            functions = self._resources.functions.under(f"{place}/")
            taken = sum(function.reserved_concurrency or 0 for function in functions)
            without = {function.key for function in functions if function.reserved_concurrency is None}
            taken += sum(
                config.wanted
                for config in self._resources.provisioned.under(f"{place}/")
                if config.function_key in without
            )
            known = self._unreserved[place] = self.account_limit - taken
        return known

    def allocated(self, place: str) -> int:
        """What functions have reserved or provisioned of a Region's concurrency."""
        return self.account_limit - self.unreserved(place)


def throttled(reason: str, message: str = "Rate Exceeded.") -> AWSError:
    return AWSError("TooManyRequestsException", message, Reason=reason, Type="User", retryAfterSeconds="1")
