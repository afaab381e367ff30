"""awsQuery: an `Action` and its parameters as a form (`Tags.member.1.Key=...`), XML answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel
from lambay.api.protocols import xml
from lambay.api.protocols.scalars import from_text
from lambay.aws import AWSError
from lambay.http import Request, Response

# A form as a tree of its dotted names: the text at a name itself is under the empty key.
Tree = dict[str, Any]


class Query:
    content_type = "text/xml"

    def parse(
        self, operation: Operation, request: Request, labels: Mapping[str, str], form: Mapping[str, str]
    ) -> dict[str, Any]:
        if operation.input is None:
            return {}
        return self._structure(operation.input.members.values(), tree_of(form), "")

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        members = (
            xml.write_structure(output, operation.output.members) if operation.output is not None else ""
        )
        result = xml.element(operation.result_wrapper, "", members) if operation.result_wrapper else members
        metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        namespace = xml.namespace(operation.service.xml_namespace)
        body = xml.element(f"{operation.name}Response", namespace, result + metadata)
        return Response(200, self.identify(request_id), body.encode())

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        namespace = xml.namespace(service.xml_namespace if service is not None else None)
        kind = "Sender" if fault.sender else "Receiver"
        error = f"<Error><Type>{kind}</Type>{error_detail(fault)}</Error>"
        body = xml.element("ErrorResponse", namespace, f"{error}<RequestId>{request_id}</RequestId>")
        return Response(fault.status, self.identify(request_id), body.encode())

    def identify(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-RequestId": request_id, "Content-Type": self.content_type}

    # How the dialect names things.

    def name_of(self, member: Member) -> str:
        return member.wire

    def list_items(self, member: Member, tree: Tree, siblings: Tree) -> Tree:
        """The numbered items of a list; SDKs differ on flattened ones, so both forms are taken."""
        element = member.shape.element
        assert element is not None
        if member.flattened and element.located and element.wire in siblings:
            tree = siblings[element.wire]
        if any(key.isdigit() for key in tree):
            return tree
        level = next((name for name in (element.wire, "member") if name in tree), None)
        items: Tree = tree if level is None else tree[level]
        return items

    def map_entries(self, member: Member, tree: Tree) -> Tree:
        entries: Tree = tree.get("entry", tree)
        return entries

    # From the tree.

    def _structure(self, members: Any, tree: Tree, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for member in members:
            name = self.name_of(member)
            below = tree.get(name)
            if below is None and member.flattened and member.shape.element is not None:
                below = tree.get(member.shape.element.wire) if member.shape.element.located else None
            if below is not None:
                found[member.name] = self._value(member, below, tree, f"{path}{member.name}")
        return found

    def _value(self, member: Member, tree: Tree, siblings: Tree, path: str) -> Any:
        shape = member.shape
        match shape.type:
            case "structure":
                return self._structure(shape.members.values(), tree, f"{path}.")
            case "list":
                assert shape.element is not None
                items = _numbered(self.list_items(member, tree, siblings), path)
                return [
                    self._value(shape.element, item, {}, f"{path}.{position}")
                    for position, item in enumerate(items, 1)
                ]
            case "map":
                return self._map(member, tree, path)
            case _:
                if "" not in tree:
                    raise _malformed(f"'{path}' is a scalar and was given parts: {', '.join(tree)}")
                return from_text(member, tree[""], path)

    def _map(self, member: Member, tree: Tree, path: str) -> dict[str, Any]:
        key, value = member.shape.key, member.shape.value
        assert key is not None
        assert value is not None
        pairs: dict[str, Any] = {}
        for position, entry in enumerate(_numbered(self.map_entries(member, tree), path), 1):
            if key.wire not in entry:
                raise _malformed(f"'{path}.{position}' has no {key.wire}")
            name = entry[key.wire].get("", "")
            pairs[name] = self._value(value, entry.get(value.wire, {"": ""}), {}, f"{path}.{name}")
        return pairs


def tree_of(form: Mapping[str, str]) -> Tree:
    """`{"A.member.1": "x"}` → `{"A": {"member": {"1": {"": "x"}}}}`."""
    root: Tree = {}
    for name, text in form.items():
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[""] = text
    return root


def error_detail(fault: Fault) -> str:
    code = fault.shape.error_code if fault.shape is not None else fault.code
    detail = f"<Code>{escape(code)}</Code><Message>{escape(fault.message)}</Message>"
    if fault.shape is None:
        return detail
    rest = {
        name: member
        for name, member in fault.shape.members.items()
        if name.lower() not in ("message", "code", "type")
    }
    return detail + xml.write_structure(fault.members, rest)


def _numbered(tree: Tree, path: str) -> list[Tree]:
    wrong = [key for key in tree if key and not key.isdigit()]
    if wrong:
        raise _malformed(f"'{path}.{wrong[0]}' is not numbered")
    return [tree[key] for key in sorted((key for key in tree if key), key=int)]


def _malformed(text: str) -> AWSError:
    return AWSError("MalformedInput", text, status=400)
