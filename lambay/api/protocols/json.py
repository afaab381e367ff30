"""awsJson1_0 and awsJson1_1: one POST, `X-Amz-Target`, a JSON object each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambay.api import eventstream
from lambay.api.errors import Fault
from lambay.api.model import Operation, ServiceModel
from lambay.api.protocols.documents import Documents
from lambay.api.protocols.scalars import malformed
from lambay.http import Request, Response

DOCUMENTS = Documents()


class JSON:
    """`__type` names an error; services that once spoke the query protocol add `x-amzn-query-error`."""

    def parse(
        self, operation: Operation, request: Request, labels: Mapping[str, str], form: Mapping[str, str]
    ) -> dict[str, Any]:
        tree = decode(request.body) if request.body else {}
        return {} if operation.input is None else DOCUMENTS.structure(operation.input, tree, "")

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        sent = {
            "x-amzn-RequestId": request_id,
            "Content-Type": f"application/x-amz-json-{operation.service.json_version}",
        }
        shape = operation.output
        if shape is None:
            return Response(200, sent, b"{}")
        stream = eventstream.member_of(shape)
        if stream is not None:
            initial = {name: value for name, value in output.items() if name != stream.name}
            sent["Content-Type"] = eventstream.CONTENT_TYPE
            first = msgspec.json.encode(DOCUMENTS.tree(shape, initial))
            body = eventstream.encode(stream.shape, output[stream.name], encode_structure, first)
            return Response(200, sent, body)
        return Response(200, sent, msgspec.json.encode(DOCUMENTS.tree(shape, output)))

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        version = service.json_version if service is not None else "1.1"
        sent = {"x-amzn-RequestId": request_id, "Content-Type": f"application/x-amz-json-{version}"}
        sent |= query_error(service, fault)
        body = {"__type": fault.code} | error_members(fault)
        return Response(fault.status, sent, msgspec.json.encode(body))


def decode(body: bytes) -> Any:
    """A JSON document. Raises SerializationException."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"Could not parse request body into json: {error}") from None


def encode_structure(shape: Any, value: Mapping[str, Any]) -> bytes:
    """A structure as a JSON document."""
    return msgspec.json.encode(DOCUMENTS.tree(shape, value))


def error_members(fault: Fault, documents: Documents = DOCUMENTS) -> dict[str, Any]:
    """The error's document: the model's members without those that are headers."""
    if fault.shape is None:
        return {"message": fault.message}
    body = {name: member for name, member in fault.shape.members.items() if not member.location}
    members = {name: value for name, value in fault.members.items() if name in body}
    tree = documents.tree(fault.shape, members, body)
    if not any(name.lower() == "message" for name in tree):
        tree["message"] = fault.message
    return tree


def query_error(service: ServiceModel | None, fault: Fault) -> dict[str, str]:
    """The header by which SDKs find the error's old name (awsQueryCompatible)."""
    if service is None or not service.query_compatible:
        return {}
    code = fault.shape.error_code if fault.shape is not None else fault.code
    return {"x-amzn-query-error": f"{code};{'Sender' if fault.sender else 'Receiver'}"}
