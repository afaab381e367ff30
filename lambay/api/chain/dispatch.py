"""The operation itself: an owned service's method between parsing and rendering, or a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lambay.api import errors
from lambay.api.chain import Exchange, Handler, Step
from lambay.api.protocols import registry
from lambay.api.reading import READ_ON_THREAD_BYTES, read
from lambay.aws import Call, Service
from lambay.http import Request, Response


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
        if len(request.body) < READ_ON_THREAD_BYTES:
            given = read(operation, route, request)
        else:
            given = await asyncio.to_thread(read, operation, route, request)
        output: Mapping[str, Any] | None = await method(call, given)
        return protocol.render(operation, output or {}, exchange.request_id, request.headers)

    return step
