"""Errors become answers in the protocol of the service that was asked, in this one place."""

from __future__ import annotations

import logging

from lambay.api import errors, model
from lambay.api.chain import Exchange, Handler
from lambay.api.errors import Fault
from lambay.api.model import ServiceModel
from lambay.api.protocols import registry
from lambay.aws import AWSError
from lambay.http import Request, Response

_log = logging.getLogger("lambay.api")


async def refuse(exchange: Exchange, after: Handler) -> Response:
    try:
        return await after(exchange)
    except AWSError as error:
        return _answer(exchange, error)
    except Exception:
        # What broke is for the log alone: a traceback tells a client nothing and an attacker something.
        _log.exception(
            "an operation broke: %s",
            exchange.route.operation_name if exchange.route else exchange.request.path,
            extra={"request_id": exchange.request_id},
        )
        return _answer(exchange, errors.internal(exchange.route.model if exchange.route else None))


def _answer(exchange: Exchange, error: AWSError) -> Response:
    route, request = exchange.route, exchange.request
    service: ServiceModel | None = None
    if route is None:
        protocol = _guess(request)
    else:
        protocol = route.protocol
        service = route.model
        if service is None and protocol == "rest-xml":
            # S3's error document differs from all others'.
            service = model.load(route.service)
    fault = Fault.of(error, service)
    return registry.protocol(protocol).render_error(service, fault, exchange.request_id, request.headers)


def _guess(request: Request) -> str:
    """The protocol of a request that could not be routed, so that its client can read why."""
    if "x-amz-target" in request.headers:
        return "json"
    if "smithy-protocol" in request.headers:
        return "smithy-rpc-v2-cbor"
    if "Action=" in request.query or "x-www-form-urlencoded" in request.headers.get("content-type", ""):
        return "query"
    return "rest-json"
