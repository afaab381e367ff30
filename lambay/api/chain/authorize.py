"""Whether the caller may. The action is IAM's name, `elasticfilesystem:CreateFileSystem`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lambay.api import permissions
from lambay.api.chain import Exchange, Handler, Step
from lambay.api.reading import READ_ON_THREAD_BYTES
from lambay.aws import Call
from lambay.http import Response


class Authorizer(Protocol):
    async def authorize(
        self,
        call: Call,
        action: str,
        resources: Iterable[str | None] = ...,
        keys: Mapping[str, Any] | None = ...,
    ) -> None:
        """Raises AWSError where the principal may not do that."""


def authorize(identity: Authorizer, *, by_policies: bool) -> Step:
    """Without `by_policies` nobody asks which resources a request is about, so they are not found out."""

    async def step(exchange: Exchange, after: Handler) -> Response:
        route, call, request = exchange.route, exchange.call, exchange.request
        assert route is not None
        assert call is not None
        if not by_policies or call.principal.kind in ("root", "anonymous"):
            await identity.authorize(call, route.action)
            return await after(exchange)
        if len(request.body) < READ_ON_THREAD_BYTES:
            needed = permissions.needs(route, call, request)
        else:
            needed = await asyncio.to_thread(permissions.needs, route, call, request)
        for need in needed:
            await identity.authorize(call, need.action, need.resources, need.keys)
        return await after(exchange)

    return step
