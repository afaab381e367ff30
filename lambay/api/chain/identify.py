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
        _mark(response, exchange)
        if _log.isEnabledFor(logging.INFO):
            _record(exchange, response.status, (clock.monotonic() - started) * 1000)
        return response

    return step


def _mark(response: Response, exchange: Exchange) -> None:
    """S3 and its like have another name for the id, which their clients look for."""
    present = {name.lower() for name in response.headers}
    if "x-amzn-requestid" not in present:
        response.headers["x-amzn-RequestId"] = exchange.request_id
    if (
        exchange.route is not None
        and exchange.route.protocol == "rest-xml"
        and "x-amz-request-id" not in present
    ):
        response.headers["x-amz-request-id"] = exchange.request_id


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
