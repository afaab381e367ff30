"""Whether the caller may. The action is IAM's name, `elasticfilesystem:CreateFileSystem`."""

from __future__ import annotations

from typing import Protocol

from lambay.api.chain import Exchange, Handler, Step
from lambay.aws import Call
from lambay.http import Response


class Authorizer(Protocol):
    async def authorize(self, call: Call, action: str) -> None:
        """Raises AWSError where the principal may not do that."""


def authorize(identity: Authorizer) -> Step:
    async def step(exchange: Exchange, after: Handler) -> Response:
        assert exchange.route is not None
        assert exchange.call is not None
        await identity.authorize(exchange.call, exchange.route.action)
        return await after(exchange)

    return step
