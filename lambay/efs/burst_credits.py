"""Burst credits shown and set by hand, for `lambay fs credits`: handlers of `/_lambay/credits/fs-…`.

On AWS it takes hours to spend what a file system has. Who wants to see his functions, metrics and alarms without
credits sets the balance. The pages are for whoever holds the root credentials, which the caller checks.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from lambay.aws import AWSError
from lambay.fsd import FsdError, Report
from lambay.http import Request, Response

# 2.1 TiB a TiB stored, of a file system with all that EFS ever promised.
_MOST_BYTES = 1 << 60


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, and metered bytes a second; `permitted` is None where the throughput mode has no limit."""

    file_system: str
    credits: int
    permitted: int | None


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST."""

    credits: int


class Ledgers(Protocol):
    async def burst_credits(self, file_system: str) -> Report:
        """Raises AWSError (FileSystemNotFound), FsdError."""
        ...

    async def put_burst_credits(self, file_system: str, credit_bytes: int) -> Report:
        """Raises AWSError (FileSystemNotFound), FsdError."""
        ...


class BurstCredits:
    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers

    async def show(self, request: Request) -> Response:
        """GET /_lambay/credits/fs-…. Raises AWSError."""
        file_system = _named(request)
        return await _answer(file_system, self._ledgers.burst_credits(file_system))

    async def put(self, request: Request) -> Response:
        """POST /_lambay/credits/fs-… `{"credits": BYTES}`; more than there may be is cut. Raises AWSError."""
        try:
            wanted = msgspec.json.decode(request.body, type=Asked).credits
        except msgspec.DecodeError as error:
            raise AWSError("InvalidRequest", str(error), status=400) from None
        if not 0 <= wanted <= _MOST_BYTES:
            raise AWSError(
                "InvalidRequest", f"credits: {wanted} is not between 0 and {_MOST_BYTES} bytes", status=400
            )
        file_system = _named(request)
        return await _answer(file_system, self._ledgers.put_burst_credits(file_system, wanted))


def _named(request: Request) -> str:
    return request.path.rpartition("/")[2]


async def _answer(file_system: str, asked: Awaitable[Report]) -> Response:
    try:
        report = await asked
    except FsdError as error:
        raise AWSError("ServiceUnavailable", f"the file server: {error.message}", status=503) from None
    shown = Shown(
        file_system=file_system, credits=report.burst_credit_balance, permitted=report.permitted_throughput
    )
    return Response(200, {"content-type": "application/json"}, msgspec.json.encode(shown) + b"\n")
