"""`Gateway`: from a request to a response, through the chain."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
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

_NOT_AWS = "/_lambay/"


class Identity(Authenticator, Authorizer, Protocol):
    """Who calls, and what they may do."""


class Gateway:
    """The AWS front door. `services` are the owned ones; every other service is the neighbours'."""

    def __init__(
        self,
        services: Sequence[Service],
        identity: Identity,
        neighbours: Neighbours,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._aws = chain(
            identify(clock),
            refuse,
            direct(Router([service.service_name for service in services], settings.region)),
            authenticate(identity, settings.account),
            authorize(identity, by_policies=settings.iam == "enforce"),
            dispatch(services, neighbours),
        )
        self._elsewhere = chain(identify(clock), _nothing_here)

    async def handle(self, request: Request) -> Response:
        """Never raises: what goes wrong is an answer.

        Paths under `/_lambay/` are not AWS's. Whoever serves them does so before the gateway.
        """
        exchange = Exchange(request, str(uuid.uuid4()))
        handler = self._elsewhere if request.path.startswith(_NOT_AWS) else self._aws
        return await handler(exchange)


async def _nothing_here(exchange: Exchange, _after: object) -> Response:
    text = f"there is nothing at {exchange.request.path}"
    return Response(404, {"Content-Type": "application/json"}, msgspec.json.encode({"message": text}))
