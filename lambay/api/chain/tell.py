"""Every request is a span, from which the rest of its trace hangs; only where somebody traces."""

from __future__ import annotations

from lambay.api.chain import Exchange, Handler, Step
from lambay.http import Response
from lambay.spans import Span, Tracer


def tell(tracer: Tracer) -> Step:
    async def step(exchange: Exchange, after: Handler) -> Response:
        with tracer.request(exchange.request.headers) as span:
            response = await after(exchange)
            _describe(span, exchange, response.status)
            return response

    return step


def _describe(span: Span, exchange: Exchange, status: int) -> None:
    """By OpenTelemetry's semantic conventions for HTTP, RPC and the cloud."""
    request, route, call = exchange.request, exchange.route, exchange.call
    span.note(
        {
            "http.request.method": request.method,
            "http.response.status_code": status,
            "client.address": request.source_ip,
            "aws.request_id": exchange.request_id,
        }
    )
    if route is not None:
        span.rename(f"{route.service}.{route.operation_name}")
        span.note(
            {
                "rpc.system": "aws-api",
                "rpc.service": route.service,
                "rpc.method": route.operation_name,
                "cloud.region": route.region,
            }
        )
    if call is not None:
        span.note({"cloud.account.id": call.account, "lambay.principal.kind": call.principal.kind})
    if status >= 500:
        span.fail(str(status))
