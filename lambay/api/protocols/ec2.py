"""ec2Query: awsQuery with capitalised names, lists without a level of their own, and EC2's error document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel
from lambay.api.protocols import xml
from lambay.api.protocols.query import Query, Tree, error_detail
from lambay.http import Response


class EC2(Query):
    content_type = "text/xml;charset=UTF-8"

    def name_of(self, member: Member) -> str:
        if member.query_name:
            return member.query_name
        return member.wire[:1].upper() + member.wire[1:] if member.located else member.name

    def list_items(self, member: Member, tree: Tree, siblings: Tree) -> Tree:
        return tree

    def map_entries(self, member: Member, tree: Tree) -> Tree:
        return tree

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        shape = operation.output
        members = "<return>true</return>" if shape is None else xml.write_structure(output, shape.members)
        namespace = xml.namespace(operation.service.xml_namespace)
        content = f"<requestId>{request_id}</requestId>{members}"
        body = xml.element(f"{operation.name}Response", namespace, content)
        return Response(200, self.identify(request_id), body.encode())

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        errors = f"<Errors><Error>{error_detail(fault)}</Error></Errors>"
        body = f"<Response>{errors}<RequestID>{request_id}</RequestID></Response>"
        return Response(fault.status, self.identify(request_id), body.encode())
