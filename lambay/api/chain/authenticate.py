"""Who calls. The call's account is the caller's, its Region the one that was signed for."""

from __future__ import annotations

from typing import Protocol

from lambay.api.chain import Exchange, Handler, Step
from lambay.aws import Call, Principal
from lambay.http import Request, Response


class Authenticator(Protocol):
    async def authenticate(self, request: Request, service: str, operation: str = "") -> Principal:
        """Raises AWSError where the signature does not hold, or there is none and the operation wants one."""


def authenticate(identity: Authenticator, account: str) -> Step:
    """`account` is that of anonymous callers, who have none."""

    async def step(exchange: Exchange, after: Handler) -> Response:
        route, request = exchange.route, exchange.request
        assert route is not None
        principal = await identity.authenticate(request, route.service, route.operation_name)
        exchange.call = Call(
            request_id=exchange.request_id,
            account=principal.account or account,
            region=route.region,
            principal=principal,
            service=route.service,
            operation=route.operation_name,
            source_ip=request.source_ip,
            headers=request.headers,
        )
        return await after(exchange)

    return step
