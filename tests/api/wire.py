"""botocore's own client side, taken apart: its serializers and parsers without a network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import botocore.model
import botocore.parsers
import botocore.serialize
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.loaders import create_loader

from lambay.api import eventstream, model, uris
from lambay.api.errors import Fault
from lambay.api.model import Operation
from lambay.api.protocols import registry
from lambay.api.router import form_of
from lambay.aws import AWSError
from lambay.http import Request, Response

_LOADER = create_loader()
_MODELS: dict[str, botocore.model.ServiceModel] = {}


def client_model(service: str) -> botocore.model.ServiceModel:
    if service not in _MODELS:
        _MODELS[service] = botocore.model.ServiceModel(
            _LOADER.load_service_model(service, "service-2"), service
        )
    return _MODELS[service]


def request_of(service: str, operation: str, protocol: str, given: Mapping[str, Any]) -> Request:
    """What botocore would send."""
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    parts = serializer.serialize_to_request(dict(given), client_model(service).operation_model(operation))
    prepare_request_dict(parts, endpoint_url="http://localhost:4566", context={})
    prepared = create_request_object(parts).prepare()
    url = urlsplit(prepared.url)
    headers: dict[str, str] = {}
    for name, value in prepared.headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        headers[name.lower()] = text
    body = prepared.body or b""
    if hasattr(body, "read"):
        body = body.read()
    return Request(
        method=prepared.method,
        path=url.path or "/",
        query=url.query,
        headers=headers,
        body=body.encode() if isinstance(body, str) else bytes(body),
    )


def parsed_by_us(service: str, operation: str, protocol: str, request: Request) -> dict[str, Any]:
    """The input that our side reads, after finding the operation as the router does."""
    ours = model.load(service).operation(operation)
    assert ours is not None
    labels: dict[str, str] = {}
    if protocol.startswith("rest"):
        found = uris.table(service).match(request.method, request.path, request.query, request.headers)
        assert found is not None, f"{request.method} {request.path}?{request.query}"
        matched, labels = found
        assert matched.name == operation or matched.uri == ours.uri, f"{matched.name} for {operation}"
        ours = matched if matched.name == operation else ours
    return registry.protocol(protocol).parse(ours, request, labels, form_of(request))


def parsed_by_botocore(service: str, operation: str, protocol: str, response: Response) -> dict[str, Any]:
    shape = client_model(service).operation_model(operation).output_shape
    parser = botocore.parsers.create_parser(protocol)
    assert isinstance(response.body, bytes)
    payload = shape.serialization.get("payload") if shape is not None else None
    raw = payload is not None and shape.members[payload].type_name == "blob"
    parsed = parser.parse(
        {
            "status_code": response.status,
            "headers": HeadersDict(response.headers),
            "body": io.BytesIO(response.body) if raw else response.body,
            "context": {"operation_name": operation},
        },
        shape,
    )
    if raw:
        parsed[payload] = parsed[payload].read()
    return parsed


def error_by_botocore(service: str, operation: str, protocol: str, error: AWSError) -> dict[str, Any]:
    """What a ClientError's response would hold, the members of the modelled exception included."""
    ours = model.load(service)
    response = registry.protocol(protocol).render_error(ours, Fault.of(error, ours), "request-1", {})
    assert isinstance(response.body, bytes)
    theirs = client_model(service)
    parser = botocore.parsers.create_parser(protocol)
    received = {
        "status_code": response.status,
        "headers": HeadersDict(response.headers),
        "body": response.body,
    }
    parsed: dict[str, Any] = parser.parse(received, theirs.operation_model(operation).output_shape)
    modelled = theirs.shape_for_error_code(parsed["Error"]["Code"])
    if modelled is not None:
        parsed.update(parser.parse(received, modelled))
    return parsed


def has_event_stream(operation: Operation) -> bool:
    """Operations whose input or output is a stream of events are tested by themselves."""
    return any(
        shape is not None and eventstream.member_of(shape) is not None
        for shape in (operation.input, operation.output)
    )
