"""`Gateway`: from a request to a response, through the chain."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from lambay.api.chain import Exchange, chain
from lambay.api.chain.authenticate import Authenticator, authenticate
from lambay.api.chain.authorize import Authorizer, authorize
from lambay.api.chain.direct import direct
from lambay.api.chain.dispatch import Neighbours, dispatch
from lambay.api.chain.identify import identify
from lambay.api.chain.refuse import refuse
from lambay.api.router import Router
from lambay.aws import Service
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.settings import Settings

OwnHandler = Callable[[Request], Awaitable[Response]]

_OWN_PREFIX = "/_lambay/"


class Identity(Authenticator, Authorizer, Protocol):
    """Who calls, and what they may do."""


class Gateway:
    """The AWS front door.

    `services` are the owned ones; every other service is the neighbours'. `own` has the handlers of paths
    under `/_lambay/`, by method and path; they are not part of the AWS API and are not authenticated.
    """

    def __init__(
        self,
        services: Sequence[Service],
        identity: Identity,
        neighbours: Neighbours,
        settings: Settings,
        clock: Clock,
        *,
        own: Mapping[tuple[str, str], OwnHandler] | None = None,
    ) -> None:
        self._own = dict(own or {})
        self._aws = chain(
            identify(clock),
            refuse,
            direct(Router([service.service_name for service in services], settings.region)),
            authenticate(identity, settings.account),
            authorize(identity),
            dispatch(services, neighbours),
        )
        self._others = chain(identify(clock), refuse, self._answer_own)

    async def handle(self, request: Request) -> Response:
        """Never raises: what goes wrong is an answer."""
        exchange = Exchange(request, str(uuid.uuid4()))
        handler = self._others if request.path.startswith(_OWN_PREFIX) else self._aws
        return await handler(exchange)

    async def _answer_own(self, exchange: Exchange, _after: object) -> Response:
        request = exchange.request
        handler = self._own.get((request.method, request.path))
        if handler is not None:
            return await handler(request)
        methods = sorted(method for method, path in self._own if path == request.path)
        if methods:
            return _message(
                405, f"{request.path} answers to {', '.join(methods)}", {"Allow": ", ".join(methods)}
            )
        return _message(404, f"there is nothing at {request.path}", {})


def _message(status: int, text: str, headers: dict[str, str]) -> Response:
    return Response(
        status, {"Content-Type": "application/json", **headers}, msgspec.json.encode({"message": text})
    )
