"""`Gateway`: from a request to a response, through the chain."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lambay.api.chain import Exchange, chain
from lambay.api.chain.authenticate import Authenticator, authenticate
from lambay.api.chain.authorize import Authorizer, authorize
from lambay.api.chain.direct import direct
from lambay.api.chain.dispatch import Neighbours, dispatch
from lambay.api.chain.identify import identify
from lambay.api.chain.refuse import refuse
from lambay.api.chain.tell import tell
from lambay.api.inside import Inside, known
from lambay.api.router import Router
from lambay.aws import Principal, Service
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.settings import Settings
from lambay.spans import Tracer

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
        tracer: Tracer | None = None,
    ) -> None:
        directed = direct(Router([service.service_name for service in services], settings.region))
        permitted = authorize(
            identity, by_policies=settings.iam == "enforce", several_accounts=settings.accounts != "none"
        )
        dispatched = dispatch(services, neighbours)
        self._aws = chain(
            *((tell(tracer),) if tracer is not None else ()),
            identify(clock),
            refuse,
            directed,
            authenticate(identity, settings.account),
            permitted,
            dispatched,
        )
        self._inside = Inside(
            chain(directed, known, permitted, dispatched), f"{settings.host}:{settings.port}"
        )
        self._elsewhere = chain(identify(clock), _nothing_here)

    async def handle(self, request: Request) -> Response:
        """Never raises: what goes wrong is an answer.

        Paths under `/_lambay/` are not AWS's. Whoever serves them does so before the gateway.
        """
        exchange = Exchange(request, str(uuid.uuid4()))
        handler = self._elsewhere if request.path.startswith(_NOT_AWS) else self._aws
        return await handler(exchange)

    async def call(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]:
        """The output of an operation for one of our own rooms, done as `principal`; see `Inside.call`."""
        return await self._inside.call(principal, service, operation, input, account=account, region=region)


async def _nothing_here(exchange: Exchange, _after: object) -> Response:
    text = f"there is nothing at {exchange.request.path}"
    return Response(404, {"Content-Type": "application/json"}, msgspec.json.encode({"message": text}))
