"""botocore's service models, loaded once.

How our own rooms speak to a neighbour without a client or a socket.
"""

from __future__ import annotations

import threading
from datetime import datetime
from functools import cache
from io import BytesIO
from typing import Any

from botocore.handlers import json_decode_policies
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from lambay.aws import AWSError
from lambay.http import Request

_loader = Loader()
_lock = threading.Lock()
# moto reads these; where a service speaks several, the first of them it has is spoken.
_PROTOCOLS = ("json", "rest-json", "query", "ec2", "rest-xml")


@cache
def _load(service: str) -> ServiceModel:
    return ServiceModel(_loader.load_service_model(service, "service-2"), service)


def service_model(service: str) -> ServiceModel:
    """Raises botocore's UnknownServiceError."""
    with _lock:
        return _load(service)


def _protocol(model: ServiceModel) -> str:
    spoken = model.metadata.get("protocols") or [model.protocol]
    return next((protocol for protocol in _PROTOCOLS if protocol in spoken), str(model.protocol))


def serialize(operation: OperationModel, given: dict[str, Any], host: str) -> Request:
    """The request of `operation` with the parameters `given`, as botocore would send it to `host`."""
    protocol = _protocol(operation.service_model)
    made = create_serializer(protocol).serialize_to_request(given, operation)
    headers = {str(name).lower(): str(value) for name, value in made["headers"].items()}
    query = made["query_string"]
    if isinstance(query, dict):
        from urllib.parse import quote, urlencode

        query = urlencode(query, doseq=True, quote_via=quote)
    path, _, in_path = made["url_path"].partition("?")
    body = made["body"]
    if isinstance(body, dict):
        from urllib.parse import urlencode

        body = urlencode(body).encode()
        headers.setdefault("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    elif isinstance(body, str):
        body = body.encode()
    elif hasattr(body, "read"):
        body = body.read()
    headers["host"] = host
    return Request(
        made["method"], path, "&".join(filter(None, (in_path, query))), headers, bytes(body or b"")
    )


def parse(operation: OperationModel, status: int, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The output members of an answer.

    Raises AWSError with its code, message and status where it is an error.
    """
    parser = create_parser(_protocol(operation.service_model))
    # botocore takes the bytes of a streamed blob for text; behind a file it leaves them alone.
    streamed = operation.has_streaming_output and status < 300
    answer = {
        "status_code": status,
        "headers": _Headers(headers),
        "body": BytesIO(body) if streamed else body,
    }
    parsed: dict[str, Any] = parser.parse(answer, operation.output_shape)
    parsed.pop("ResponseMetadata", None)
    if status < 300:
        if operation.service_model.service_name == "iam":
            # boto3 gives policy documents decoded.
            json_decode_policies(parsed, operation)
        return {name: body if isinstance(value, BytesIO) else value for name, value in parsed.items()}
    error = parsed.pop("Error", {})
    code = str(error.get("Code") or "InternalFailure")
    members = {name: value for name, value in parsed.items() if not isinstance(value, datetime)}
    raise AWSError(code, str(error.get("Message") or code), status=status, **_named(members))


def _named(members: dict[str, Any]) -> dict[str, Any]:
    """The members that an AWSError takes by name beside its own three."""
    return {name: value for name, value in members.items() if name not in ("code", "message", "status")}


class _Headers(dict[str, str]):
    """Header names without case, as botocore's parsers look them up."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)
