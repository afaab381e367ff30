"""What restJson1 and restXml share: labels, query strings, headers, payloads and status codes.

See the Smithy specification, "HTTP binding traits".
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from lambay.api import eventstream
from lambay.api.errors import Fault
from lambay.api.model import Member, Operation, ServiceModel, Shape
from lambay.api.protocols.scalars import from_text, to_text
from lambay.http import Request, Response

_LIST_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')
_DATE_ITEM = re.compile(r"[^,]+,[^,]+")
_NO_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Bindings:
    """Where the members of a structure go; `body` and `payload` exclude each other."""

    labels: tuple[Member, ...]
    query: tuple[Member, ...]
    headers: tuple[Member, ...]
    prefixed: tuple[Member, ...]
    status: Member | None
    payload: Member | None
    body: dict[str, Member]


@functools.cache
def bindings(shape: Shape) -> Bindings:
    """The bindings of an operation's input, output or error, worked out once."""
    members = shape.members.values()
    payload = shape.members[shape.payload] if shape.payload else eventstream.member_of(shape)
    body = {} if payload else {member.name: member for member in members if not member.location}
    return Bindings(
        labels=tuple(member for member in members if member.location == "uri"),
        query=tuple(member for member in members if member.location == "querystring"),
        headers=tuple(member for member in members if member.location == "header"),
        prefixed=tuple(member for member in members if member.location == "headers"),
        status=next((member for member in members if member.location == "statusCode"), None),
        payload=payload,
        body=body,
    )


class Rest:
    """Subclasses say what a body looks like."""

    content_type: str

    def read_body(self, shape: Shape, body: bytes, members: Mapping[str, Member]) -> dict[str, Any]:
        """The members of the body's document; an empty body has none."""
        raise NotImplementedError

    def read_payload(self, member: Member, body: bytes) -> Any:
        """A structure, list or map that is the whole body."""
        raise NotImplementedError

    def write_body(
        self, operation: Operation, value: Mapping[str, Any], members: Mapping[str, Member]
    ) -> bytes:
        raise NotImplementedError

    def write_payload(self, member: Member, value: Any) -> bytes:
        raise NotImplementedError

    def write_event(self, shape: Shape, value: Mapping[str, Any]) -> bytes:
        raise NotImplementedError

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        raise NotImplementedError

    def parse(
        self, operation: Operation, request: Request, labels: Mapping[str, str], form: Mapping[str, str]
    ) -> dict[str, Any]:
        shape = operation.input
        if shape is None:
            return {}
        bound, given = bindings(shape), {}
        for member in bound.labels:
            given[member.name] = from_text(member, labels[member.wire], member.name)
        if bound.query and request.query:
            given |= _read_query(bound, request.query)
        for member in bound.headers:
            text = request.headers.get(member.wire.lower())
            if text is not None:
                given[member.name] = _read_header(member, text)
        for member in bound.prefixed:
            found = _read_prefixed(member, request.headers)
            if found:
                given[member.name] = found
        if bound.payload is not None:
            if request.body:
                given[bound.payload.name] = self._read_whole(bound.payload, request.body)
        elif bound.body and request.body:
            given |= self.read_body(shape, request.body, bound.body)
        return given

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        response = Response(operation.status, self.identify(request_id))
        shape = operation.output
        if shape is None:
            return response
        bound = bindings(shape)
        if bound.status is not None and output.get(bound.status.name) is not None:
            response.status = output[bound.status.name]
        response.headers |= header_values(bound, output)
        if bound.payload is not None:
            value = output.get(bound.payload.name)
            if value is not None:
                self._write_whole(response, bound.payload, value)
        elif bound.body and response.status not in _NO_BODY:
            response.headers.setdefault("Content-Type", self.content_type)
            response.body = self.write_body(operation, unbound(shape, output), bound.body)
        return response

    def identify(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-RequestId": request_id}

    def _read_whole(self, member: Member, body: bytes) -> Any:
        match member.shape.type:
            case "blob":
                return body
            case "string":
                return body.decode(errors="replace")
            case _:
                return self.read_payload(member, body)

    def _write_whole(self, response: Response, member: Member, value: Any) -> None:
        """The payload: a blob or a string as it is, an event stream framed, else a document."""
        kind = "application/octet-stream" if member.streaming else self.content_type
        if member.shape.event_stream:
            # A member bound to Content-Type tells of the stream's inner type; the response's own is fixed.
            response.headers = {
                name: text for name, text in response.headers.items() if name.lower() != "content-type"
            }
            kind = eventstream.CONTENT_TYPE
            response.body = eventstream.encode(
                member.shape, value, self.write_event, content_type=self.content_type
            )
        elif member.shape.type in ("blob", "string"):
            response.body = value.encode() if isinstance(value, str) else _raw(value)
        else:
            kind = self.content_type
            response.body = self.write_payload(member, value)
        if not any(name.lower() == "content-type" for name in response.headers):
            response.headers["Content-Type"] = kind


def unbound(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    """The members that belong to the body, and ones the model lacks."""
    return {
        name: item
        for name, item in value.items()
        if name not in shape.members or not shape.members[name].location
    }


def header_values(bound: Bindings, value: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an output or an error."""
    headers: dict[str, str] = {}
    for member in bound.headers:
        item = value.get(member.name)
        if item is not None:
            headers[member.wire] = _write_header(member, item)
    for member in bound.prefixed:
        prefix = member.wire if member.located else ""
        headers |= {prefix + key: str(item) for key, item in (value.get(member.name) or {}).items()}
    return headers


def _raw(value: Any) -> bytes | AsyncIterator[bytes]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, AsyncIterator):
        return value
    content: bytes = value.read()
    return content


def _read_query(bound: Bindings, query: str) -> dict[str, Any]:
    pairs = parse_qsl(query, keep_blank_values=True)
    found: dict[str, Any] = {}
    taken = {member.wire for member in bound.query if member.shape.type != "map"}
    for member in bound.query:
        if member.shape.type == "map":
            rest = [(key, value) for key, value in pairs if key not in taken]
            if rest:
                found[member.name] = _query_map(member, rest)
            continue
        texts = [value for key, value in pairs if key == member.wire]
        if texts and member.shape.element is not None:
            found[member.name] = [from_text(member.shape.element, text, member.name) for text in texts]
        elif texts and (texts[0] or member.shape.type == "string"):
            found[member.name] = from_text(member, texts[0], member.name)
    return found


def _query_map(member: Member, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    if member.shape.value is not None and member.shape.value.shape.type == "list":
        lists: dict[str, list[str]] = {}
        for key, value in pairs:
            lists.setdefault(key, []).append(value)
        return lists
    return dict(pairs)


def _read_header(member: Member, text: str) -> Any:
    element = member.shape.element
    if element is None:
        return from_text(member, text.strip(), member.wire)
    if element.shape.type == "timestamp" and (element.timestamp_format or "rfc822") == "rfc822":
        return [from_text(element, item.strip(), member.wire) for item in _DATE_ITEM.findall(text)]
    items, at = [], 0
    while at < len(text):
        found = _LIST_ITEM.match(text, at)
        if found is None:
            break
        quoted = found[1]
        item = found[2].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        items.append(from_text(element, item, member.wire))
        at = found.end()
    return items


def _read_prefixed(member: Member, headers: Mapping[str, str]) -> dict[str, str]:
    prefix = member.wire.lower() if member.located else ""
    return {name[len(prefix) :]: value for name, value in headers.items() if name.startswith(prefix)}


def _write_header(member: Member, value: Any) -> str:
    element = member.shape.element
    if element is None:
        return to_text(member, value, "rfc822")
    return ", ".join(_quoted(to_text(element, item, "rfc822"), element) for item in value)


def _quoted(text: str, element: Member) -> str:
    if element.shape.type == "string" and ("," in text or '"' in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
