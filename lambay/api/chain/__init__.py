"""What a request passes through, one step a file: each takes an exchange and the rest of the chain.

The order is `gateway.py`'s. A step raises AWSError to refuse; `refuse` turns that into the protocol's answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lambay.api.router import Route
from lambay.aws import Call
from lambay.http import Request, Response


@dataclass(slots=True)
class Exchange:
    """One request on its way; each step fills in what it found out."""

    request: Request
    request_id: str
    route: Route | None = None
    call: Call | None = None


Handler = Callable[[Exchange], Awaitable[Response]]
Step = Callable[[Exchange, Handler], Awaitable[Response]]


def chain(*steps: Step) -> Handler:
    """The first step around the second and so on; the last one answers by itself."""

    async def nothing_left(exchange: Exchange) -> Response:
        raise RuntimeError("the chain's last step must answer")

    handler: Handler = nothing_left
    for step in reversed(steps):
        handler = _around(step, handler)
    return handler


def _around(step: Step, after: Handler) -> Handler:
    def handle(exchange: Exchange) -> Awaitable[Response]:
        return step(exchange, after)

    return handle
