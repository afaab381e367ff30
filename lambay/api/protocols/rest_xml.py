"""restXml: HTTP bindings with XML bodies.

S3 has its own error document; the others wrap theirs in ErrorResponse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel, Shape
from lambay.api.protocols import xml
from lambay.api.protocols.rest import Rest, bindings, header_values
from lambay.http import Response

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_UNWRAPPED = frozenset({"s3"})


class RestXML(Rest):
    content_type = "application/xml"

    def identify(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-RequestId": request_id, "x-amz-request-id": request_id}

    def read_body(self, shape: Shape, body: bytes, members: Mapping[str, Member]) -> dict[str, Any]:
        return xml.read_structure(xml.document(body), members.values())

    def read_payload(self, member: Member, body: bytes) -> Any:
        return xml.read(member, xml.document(body))

    def write_body(
        self, operation: Operation, value: Mapping[str, Any], members: Mapping[str, Member]
    ) -> bytes:
        assert operation.output is not None
        root = operation.output.location_name or f"{operation.name}Result"
        attributes = xml.namespace(operation.output.xml_namespace or operation.service.xml_namespace)
        return (_DECLARATION + xml.element(root, attributes, xml.write_structure(value, members))).encode()

    def write_payload(self, member: Member, value: Any) -> bytes:
        return (_DECLARATION + xml.write(member, value)).encode()

    def write_event(self, shape: Shape, value: Mapping[str, Any]) -> bytes:
        return xml.element(shape.name, "", xml.write_structure(value, shape.members)).encode()

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        code = fault.shape.error_code if fault.shape is not None else fault.code
        sent = self.identify(request_id) | {"Content-Type": "application/xml"}
        detail = f"<Code>{escape(code)}</Code><Message>{escape(fault.message)}</Message>{_details(fault)}"
        if fault.shape is not None:
            sent |= header_values(bindings(fault.shape), fault.members)
        if service is None or service.service in _UNWRAPPED:
            body = f"<Error>{detail}<RequestId>{request_id}</RequestId></Error>"
        else:
            kind = "Sender" if fault.sender else "Receiver"
            body = (
                f"<ErrorResponse{xml.namespace(service.xml_namespace)}><Error><Type>{kind}</Type>{detail}</Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        return Response(fault.status, sent, (_DECLARATION + body).encode())


def _details(fault: Fault) -> str:
    """The error's members besides its code and message; of unmodelled errors the plain ones."""
    if fault.shape is None:
        return "".join(
            xml.element(name, "", escape(str(value)))
            for name, value in fault.members.items()
            if value is not None
        )
    members = {
        name: member
        for name, member in fault.shape.members.items()
        if not member.location and name.lower() not in ("message", "code", "type")
    }
    return xml.write_structure(fault.members, members)
