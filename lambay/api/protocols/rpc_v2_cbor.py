"""rpcv2Cbor: `POST /service/NAME/operation/NAME`, a CBOR map each way, `Smithy-Protocol: rpc-v2-cbor`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lambay.api import eventstream, timestamps
from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel, Shape
from lambay.api.protocols import cbor
from lambay.api.protocols.documents import Documents
from lambay.api.protocols.json import error_members, query_error
from lambay.api.protocols.scalars import is_moment, malformed, mismatch
from lambay.http import Request, Response

_CONTENT_TYPE = "application/cbor"


class _CBORDocuments(Documents):
    """Blobs are byte strings, timestamps tagged numbers, floats floats."""

    def read_blob(self, member: Member, value: Any, path: str) -> bytes:
        if not isinstance(value, bytes):
            raise mismatch(value, "blob", path)
        return value

    def read_timestamp(self, member: Member, value: Any, path: str) -> datetime:
        if isinstance(value, datetime):
            return value
        if not is_moment(value):
            raise mismatch(value, "timestamp", path)
        return timestamps.parse(value)

    def write_blob(self, value: bytes) -> bytes:
        return value

    def write_timestamp(self, member: Member, value: Any) -> datetime:
        return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)

    def write_float(self, value: float) -> float:
        return float(value)


DOCUMENTS = _CBORDocuments()


class RPCv2CBOR:
    def parse(
        self, operation: Operation, request: Request, labels: Mapping[str, str], form: Mapping[str, str]
    ) -> dict[str, Any]:
        if operation.input is None or not request.body:
            return {}
        try:
            tree = cbor.decode(request.body)
        except cbor.CBORError as error:
            raise malformed(f"Could not parse request body into cbor: {error}") from None
        return DOCUMENTS.structure(operation.input, tree, "")

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        sent = _headers(request_id)
        shape = operation.output
        if shape is None:
            return Response(200, sent, cbor.encode({}))
        stream = eventstream.member_of(shape)
        if stream is None:
            return Response(200, sent, cbor.encode(DOCUMENTS.tree(shape, output)))
        initial = {name: value for name, value in output.items() if name != stream.name}
        first = cbor.encode(DOCUMENTS.tree(shape, initial))
        sent["Content-Type"] = eventstream.CONTENT_TYPE
        body = eventstream.encode(stream.shape, output[stream.name], _structure, first, _CONTENT_TYPE)
        return Response(200, sent, body)

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        sent = _headers(request_id) | query_error(service, fault)
        return Response(
            fault.status, sent, cbor.encode({"__type": fault.code} | error_members(fault, DOCUMENTS))
        )


def _headers(request_id: str) -> dict[str, str]:
    return {
        "x-amzn-RequestId": request_id,
        "Content-Type": _CONTENT_TYPE,
        "Smithy-Protocol": "rpc-v2-cbor",
    }


def _structure(shape: Shape, value: Mapping[str, Any]) -> bytes:
    return cbor.encode(DOCUMENTS.tree(shape, value))
