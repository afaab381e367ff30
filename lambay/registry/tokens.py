"""ECR's authorization tokens: a user name and password for twelve hours, which stand for whoever asked for them."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass

from lambay.aws import Call, Principal
from lambay.clock import Clock

_LIFETIME_S = 12 * 3600
_USER = "AWS"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who may speak to which account's registry in which Region."""

    principal: Principal
    account: str
    region: str
    expires: float


class Tokens:
    """Kept in memory: a restart ends them all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bearers: dict[str, Bearer] = {}

    def issue(self, call: Call, account: str) -> tuple[str, float]:
        """`AWS:PASSWORD` in base64, and when it expires in seconds since the epoch."""
        now = self._clock.time()
        self._bearers = {key: kept for key, kept in self._bearers.items() if kept.expires > now}
        password = secrets.token_urlsafe(48)
        self._bearers[password] = Bearer(call.principal, account, call.region, now + _LIFETIME_S)
        return base64.b64encode(f"{_USER}:{password}".encode()).decode(), now + _LIFETIME_S

    def bearer(self, authorization: str) -> Bearer | None:
        """Who an Authorization header (RFC 7617) stands for; None for one that is not ours or has expired."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        found = self._bearers.get(password)
        return found if user == _USER and found is not None and found.expires > self._clock.time() else None
