"""Every answer carries its request id, and every request is one line in the access log."""

from __future__ import annotations

import logging

from lambay.api.chain import Exchange, Handler, Step
from lambay.clock import Clock
from lambay.http import Response

_log = logging.getLogger("lambay.api")


def identify(clock: Clock) -> Step:
    async def step(exchange: Exchange, after: Handler) -> Response:
        started = clock.monotonic()
        response = await after(exchange)
        if not any(name.lower() == "x-amzn-requestid" for name in response.headers):
            response.headers["x-amzn-RequestId"] = exchange.request_id
        if _log.isEnabledFor(logging.INFO):
            _record(exchange, response.status, (clock.monotonic() - started) * 1000)
        return response

    return step


def _record(exchange: Exchange, status: int, milliseconds: float) -> None:
    route = exchange.route
    service = route.service if route is not None else ""
    operation = route.operation_name if route is not None else ""
    _log.info(
        "%s.%s %d %.1f ms",
        service or exchange.request.method,
        operation or exchange.request.path,
        status,
        milliseconds,
        extra={
            "request_id": exchange.request_id,
            "service": service,
            "operation": operation,
            "status": status,
            "ms": round(milliseconds, 3),
        },
    )
