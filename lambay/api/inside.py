"""The API for Lambay's own rooms: boto3's words in and out, by the same chain as a client's request.

A stack's resources are made this way, with the permissions of whoever deploys it. No socket and no signature is
needed, since the principal is known; everything after that is what a client's request passes through.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode

from botocore.exceptions import ParamValidationError
from botocore.handlers import json_decode_policies
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lambay.api.chain import Exchange, Handler
from lambay.aws import AWSError, Call, Principal
from lambay.http import Request, Response

# The first of these that a service speaks is spoken.
_PROTOCOLS = ("json", "rest-json", "query", "ec2", "rest-xml")
_AGENT = "cloudformation.amazonaws.com"


class Inside:
    """One call after another; `handler` is the chain from routing on."""

    def __init__(self, handler: Handler, host: str) -> None:
        self._handler = handler
        self._host = host

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
        """The output of `operation` (`CreateSubnet`) of botocore's `service`, as boto3 gives it.

        Scalars in `input` may be of the wrong kind where they can be read (`"1000"` for a number), as templates have
        them.
        Streamed bodies are bytes. Raises AWSError: what the service says, or that the principal may not.
        """
        model = await asyncio.to_thread(_operation, service, operation)
        try:
            given = _fitted(model.input_shape, dict(input)) if model.input_shape is not None else {}
            request = _serialize(model, given, self._host, region)
        except (ParamValidationError, ValueError, TypeError) as error:
            raise AWSError("ValidationException", f"{operation}: {error}", status=400) from None
        exchange = Exchange(request, str(uuid.uuid4()))
        exchange.call = Call(exchange.request_id, account, region, principal)
        response = await self._handler(exchange)
        return _parse(model, response, await _whole(response.body))


async def known(exchange: Exchange, after: Handler) -> Response:
    """In authentication's place: the caller is known, and the request's route completes the call."""
    call, route = exchange.call, exchange.route
    assert call is not None
    assert route is not None
    exchange.call = Call(
        request_id=call.request_id,
        account=call.account,
        region=route.region,
        principal=call.principal,
        service=route.service,
        operation=route.operation_name,
        source_ip=_AGENT,
        headers=exchange.request.headers,
    )
    return await after(exchange)


@cache
def _service(service: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


@cache
def _operation(service: str, operation: str) -> OperationModel:
    return _service(service).operation_model(operation)


def _protocol(model: ServiceModel) -> str:
    spoken = model.metadata.get("protocols") or [model.protocol]
    return next((protocol for protocol in _PROTOCOLS if protocol in spoken), str(model.protocol))


def _serialize(model: OperationModel, given: dict[str, Any], host: str, region: str) -> Request:
    made = create_serializer(_protocol(model.service_model)).serialize_to_request(given, model)
    headers = {str(name).lower(): str(value) for name, value in made["headers"].items()}
    query = made["query_string"]
    if isinstance(query, dict):
        query = urlencode(query, doseq=True, quote_via=quote)
    path, _, in_path = made["url_path"].partition("?")
    body = made["body"]
    if isinstance(body, dict):
        body = urlencode(body)
        headers.setdefault("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    if isinstance(body, str):
        body = body.encode()
    headers["host"] = host
    headers["user-agent"] = _AGENT
    scope = f"INSIDE/20000101/{region}/{model.service_model.signing_name}/aws4_request"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return Request(
        made["method"], path, "&".join(filter(None, (in_path, query))), headers, bytes(body or b"")
    )


def _fitted(shape: Any, value: Any) -> Any:
    """`value` with texts made numbers and booleans, and the reverse, where the model says so."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, Mapping):
        members = shape.members
        return {
            name: _fitted(members[name], item) if name in members else item
            for name, item in value.items()
            if item is not None
        }
    if kind == "list" and isinstance(value, (list, tuple)):
        return [_fitted(shape.member, item) for item in value]
    if kind == "map" and isinstance(value, Mapping):
        return {key: _fitted(shape.value, item) for key, item in value.items()}
    if kind in ("integer", "long") and isinstance(value, str):
        return int(value)
    if kind in ("float", "double") and isinstance(value, str):
        return float(value)
    if kind == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind == "string" and isinstance(value, (bool, int, float)):
        return (
            str(value).lower()
            if isinstance(value, bool)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
    return value


async def _whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    return body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])


def _parse(model: OperationModel, response: Response, body: bytes) -> dict[str, Any]:
    # botocore takes the bytes of a streamed blob for text; behind a file it leaves them alone.
    streamed = model.has_streaming_output and response.status < 300
    answer = {
        "status_code": response.status,
        "headers": _Headers({name.lower(): value for name, value in response.headers.items()}),
        "body": BytesIO(body) if streamed else body,
    }
    parser = create_parser(_protocol(model.service_model))
    parsed: dict[str, Any] = parser.parse(answer, model.output_shape)
    parsed.pop("ResponseMetadata", None)
    if response.status < 300:
        if model.service_model.service_name == "iam":
            # boto3 gives policy documents decoded.
            json_decode_policies(parsed, model)
        return {name: body if isinstance(value, BytesIO) else value for name, value in parsed.items()}
    error = parsed.pop("Error", {})
    code = str(error.get("Code") or "InternalFailure")
    members = {
        name: value
        for name, value in parsed.items()
        if name not in ("code", "message", "status") and not isinstance(value, datetime)
    }
    raise AWSError(code, str(error.get("Message") or code), status=response.status, **members)


class _Headers(dict[str, str]):
    """Header names without case, as botocore's parsers look them up."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)
