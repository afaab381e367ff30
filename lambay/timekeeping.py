"""Lambay's clock as its users move it: `/_lambay/clock`. How far it is ahead of the host's is kept in the store."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.store import Store

_KEY = "ahead"
# Past it, nothing would expire that has not long before.
_MOST_SECONDS = 100 * 365 * 86400.0


class Ahead(msgspec.Struct, frozen=True):
    """Seconds that the clock is ahead of the host's."""

    seconds: float


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST."""

    advance_seconds: float


class Timekeeping:
    """Owns the clock that everybody asks, so that a restart does not turn it back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = store.collection("clock", Ahead)
        known = self._kept.get(_KEY)
        self.clock = Clock(ahead=known.seconds if known else 0.0)

    async def show(self, request: Request) -> Response:
        """GET /_lambay/clock: `{"now": RFC 3339, "ahead_seconds": N}`."""
        return self._answer()

    async def advance(self, request: Request) -> Response:
        """POST /_lambay/clock `{"advance_seconds": N}`: what falls due in between happens now. Raises AWSError."""
        try:
            seconds = msgspec.json.decode(request.body, type=Advance).advance_seconds
        except msgspec.DecodeError as error:
            raise AWSError("InvalidRequest", str(error), status=400) from None
        if not 0 <= seconds <= _MOST_SECONDS:
            raise AWSError(
                "InvalidRequest",
                f"advance_seconds: {seconds:g} is not between 0 and {_MOST_SECONDS:g}; time never goes back",
                status=400,
            )
        await self._store.commit(self._kept.put(_KEY, Ahead(self.clock.ahead + seconds)))
        self.clock.advance(timedelta(seconds=seconds))
        return self._answer()

    def _answer(self) -> Response:
        content = {"now": self.clock.now().isoformat(), "ahead_seconds": self.clock.ahead}
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode(content) + b"\n")
