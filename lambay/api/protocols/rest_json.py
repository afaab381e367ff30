"""restJson1: HTTP bindings with JSON bodies, errors named by `X-Amzn-ErrorType`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel, Shape
from lambay.api.protocols.json import DOCUMENTS, decode, error_members
from lambay.api.protocols.rest import Rest, bindings, header_values
from lambay.http import Response


class RestJSON(Rest):
    content_type = "application/json"

    def read_body(self, shape: Shape, body: bytes, members: Mapping[str, Member]) -> dict[str, Any]:
        return DOCUMENTS.structure(shape, decode(body), "", members.values())

    def read_payload(self, member: Member, body: bytes) -> Any:
        return DOCUMENTS.read(member, decode(body), "")

    def write_body(
        self, operation: Operation, value: Mapping[str, Any], members: Mapping[str, Member]
    ) -> bytes:
        assert operation.output is not None
        return msgspec.json.encode(DOCUMENTS.tree(operation.output, value, members))

    def write_payload(self, member: Member, value: Any) -> bytes:
        return msgspec.json.encode(DOCUMENTS.write(member, value))

    def write_event(self, shape: Shape, value: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(DOCUMENTS.tree(shape, value))

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        sent = self.identify(request_id) | {
            "x-amzn-ErrorType": fault.code,
            "Content-Type": "application/json",
        }
        if fault.shape is not None:
            sent |= header_values(bindings(fault.shape), fault.members)
        return Response(fault.status, sent, msgspec.json.encode(error_members(fault)))
