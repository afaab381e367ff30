"""Find the service and the operation."""

from __future__ import annotations

from lambay.api.chain import Exchange, Handler, Step
from lambay.api.router import Router
from lambay.http import Response


def direct(router: Router) -> Step:
    async def step(exchange: Exchange, after: Handler) -> Response:
        exchange.route = await router.route(exchange.request)
        return await after(exchange)

    return step
