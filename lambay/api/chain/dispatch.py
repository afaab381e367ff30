"""The operation itself: an owned service's method between parsing and rendering, or a neighbour."""

from __future__ import annotations

import asyncio
import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lambay.api import errors, validation
from lambay.api.chain import Exchange, Handler, Step
from lambay.api.model import Operation
from lambay.api.protocols import WireProtocol, registry
from lambay.api.router import Route
from lambay.aws import AWSError, Call, Service
from lambay.http import Request, Response

# Reading a larger body takes milliseconds, which other requests should not wait for.
_READ_ON_THREAD_BYTES = 1 << 20
_INFLATED_MAX_BYTES = 64 << 20


class Neighbours(Protocol):
    async def handle(self, call: Call, request: Request) -> Response:
        """Answers for a service that Lambay does not own. Raises AWSError."""


def dispatch(services: Sequence[Service], neighbours: Neighbours) -> Step:
    owned = {service.service_name: service for service in services}

    async def step(exchange: Exchange, _after: Handler) -> Response:
        route, call, request = exchange.route, exchange.call, exchange.request
        assert route is not None
        assert call is not None
        service = owned.get(route.service)
        if service is None:
            return await neighbours.handle(call, request)
        operation = route.operation
        method = getattr(service, operation.method_name, None) if operation is not None else None
        if operation is None or method is None:
            raise errors.not_implemented(route.service, route.operation_name)
        protocol = registry.protocol(route.protocol)
        if len(request.body) < _READ_ON_THREAD_BYTES:
            given = _read(protocol, operation, route, request)
        else:
            given = await asyncio.to_thread(_read, protocol, operation, route, request)
        output: Mapping[str, Any] | None = await method(call, given)
        return protocol.render(operation, output or {}, exchange.request_id, request.headers)

    return step


def _read(protocol: WireProtocol, operation: Operation, route: Route, request: Request) -> dict[str, Any]:
    if operation.request_compression and request.headers.get("content-encoding", "").lower() == "gzip":
        request = dataclasses.replace(request, body=_inflate(request.body))
    try:
        given = protocol.parse(operation, request, route.labels, route.form)
        validation.check(operation, route.protocol, given)
    except RecursionError:
        raise AWSError("SerializationException", "the input is nested too deeply", status=400) from None
    return given


def _inflate(body: bytes) -> bytes:
    """A gzip body, as SDKs send PutMetricData's. Bodies that grow beyond all measure are refused."""
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(body, _INFLATED_MAX_BYTES)
    except zlib.error as error:
        raise AWSError(
            "SerializationException", f"the gzip body cannot be read: {error}", status=400
        ) from None
    if stream.unconsumed_tail:
        raise AWSError(
            "RequestEntityTooLargeException",
            f"the body inflates to over {_INFLATED_MAX_BYTES} bytes",
            status=413,
        )
    return inflated
