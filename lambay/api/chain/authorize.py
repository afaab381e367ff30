"""Whether the caller may. The action is IAM's name, `elasticfilesystem:CreateFileSystem`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from lambay.api import permissions
from lambay.api.chain import Exchange, Handler, Step
from lambay.api.reading import READ_ON_THREAD_BYTES
from lambay.aws import Arn, Call
from lambay.http import Response

# What may be done to a function of another account, named by its ARN, with that account's leave.
_ACROSS = "lambda:"


def _where_the_function_is(call: Call, needed: Sequence[permissions.Need]) -> Call:
    """The call as the owner's account sees it, now that its policy has allowed it."""
    resource = needed[0].resources[0] if needed[0].action.startswith(_ACROSS) else None
    if resource is None or ":function:" not in resource or call.principal.kind == "anonymous":
        return call
    account = Arn.parse(resource).account
    return call if account == call.account else dataclasses.replace(call, account=account)


class Authorizer(Protocol):
    async def authorize(
        self,
        call: Call,
        action: str,
        resources: Iterable[str | None] = ...,
        keys: Mapping[str, Any] | None = ...,
    ) -> None:
        """Raises AWSError where the principal may not do that."""


def authorize(identity: Authorizer, *, by_policies: bool, several_accounts: bool = False) -> Step:
    """Without `by_policies`, and for the root, nobody asks which resources a request is about.

    They are found out nevertheless where they may be of another account.
    """

    async def step(exchange: Exchange, after: Handler) -> Response:
        route, call, request = exchange.route, exchange.call, exchange.request
        assert route is not None
        assert call is not None
        free = not by_policies or call.principal.kind in ("root", "anonymous")
        if free and not several_accounts and (route.service != "lambda" or ":" not in unquote(request.path)):
            await identity.authorize(call, route.action)
            return await after(exchange)
        if len(request.body) < READ_ON_THREAD_BYTES:
            needed = permissions.needs(route, call, request)
        else:
            needed = await asyncio.to_thread(permissions.needs, route, call, request)
        for need in needed:
            await identity.authorize(call, need.action, need.resources, need.keys)
        exchange.call = _where_the_function_is(call, needed)
        return await after(exchange)

    return step
