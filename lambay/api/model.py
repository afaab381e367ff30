"""A service's botocore model as shapes, members and operations, built when first asked for.

Traits that botocore merges from a member and its shape (location names, flattening, timestamp formats) are
merged here once, so parsers and serializers read plain attributes. The vocabulary is that of AWS's C2J
models.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from botocore import xform_name

from lambay.api import catalogue

NUMBERS = frozenset({"integer", "long", "float", "double"})


@dataclass(slots=True, eq=False, repr=False)
class Shape:
    """A type. Only structures have `members`; lists have `element`; maps have `key` and `value`."""

    name: str
    type: str
    members: dict[str, Member] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    element: Member | None = None
    key: Member | None = None
    value: Member | None = None
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    sensitive: bool = False
    document: bool = False
    union: bool = False
    event_stream: bool = False
    event: bool = False
    payload: str | None = None
    location_name: str | None = None
    xml_namespace: str | None = None
    exception: bool = False
    fault: bool = False
    error: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.type} {self.name}>"

    @property
    def error_code(self) -> str:
        """What query-like protocols call this exception."""
        code: str = self.error.get("code", self.name)
        return code

    @property
    def error_status(self) -> int:
        """The HTTP status of this exception."""
        status: int = self.error.get("httpStatusCode", 500 if self.fault else 400)
        return status

    @property
    def sender_fault(self) -> bool:
        return self.error_status < 500 and bool(self.error.get("senderFault", True))


@dataclass(slots=True, eq=False, repr=False)
class Member:
    """A use of a shape: in a structure, or as a list's element, a map's key or value.

    `name` is what boto3 calls it, `wire` what the document calls it (equal where the model says nothing else;
    `located` tells). `location` is one of uri, querystring, header, headers, statusCode or empty for the
    body.
    """

    name: str
    shape: Shape
    wire: str
    located: bool
    location: str = ""
    query_name: str | None = None
    flattened: bool = False
    streaming: bool = False
    timestamp_format: str | None = None
    xml_attribute: bool = False
    xml_namespace: tuple[str, str] | None = None
    json_value: bool = False
    event_payload: bool = False
    event_header: bool = False

    def __repr__(self) -> str:
        return f"<member {self.name}: {self.shape!r}>"


@dataclass(slots=True, eq=False, repr=False)
class Operation:
    """An operation; `method_name` is boto3's name and that of the owned service's method."""

    name: str
    method_name: str
    http_method: str
    uri: str
    status: int
    input: Shape | None
    output: Shape | None
    result_wrapper: str | None
    input_root: tuple[str, str | None]
    errors: tuple[Shape, ...]
    request_compression: bool
    service: ServiceModel

    def __repr__(self) -> str:
        return f"<operation {self.service.service}:{self.name}>"


class ServiceModel:
    """The model of one service; shapes and operations are built at first use."""

    def __init__(self, service: str, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        self.service = service
        self.version: str = metadata["apiVersion"]
        self.protocols: tuple[str, ...] = tuple(metadata.get("protocols") or [metadata["protocol"]])
        self.endpoint_prefix: str = metadata.get("endpointPrefix", service)
        self.signing_name: str = metadata.get("signingName") or self.endpoint_prefix
        self.target_prefix: str = metadata.get("targetPrefix", "")
        self.json_version: str = metadata.get("jsonVersion", "1.0")
        self.xml_namespace: str = metadata.get("xmlNamespace", "")
        self.query_compatible: bool = "awsQueryCompatible" in metadata
        self._shapes: dict[str, Any] = raw["shapes"]
        self._operations: dict[str, Any] = raw["operations"]
        self._built_shapes: dict[str, Shape] = {}
        self._built_operations: dict[str, Operation] = {}

    @property
    def operation_names(self) -> tuple[str, ...]:
        return tuple(self._operations)

    @property
    def shape_names(self) -> tuple[str, ...]:
        return tuple(self._shapes)

    def http_trait(self, operation: str) -> Mapping[str, Any]:
        """`method` and `requestUri` of an operation, without building its shapes."""
        trait: dict[str, Any] = self._operations[operation]["http"]
        return trait

    def operation(self, name: str) -> Operation | None:
        built = self._built_operations.get(name)
        if built is None and name in self._operations:
            built = self._built_operations[name] = self._build_operation(name, self._operations[name])
        return built

    def shape(self, name: str) -> Shape:
        built = self._built_shapes.get(name)
        return built if built is not None else self._build_shape(name)

    @functools.cached_property
    def errors(self) -> dict[str, Shape]:
        """Every exception of the service, by shape name and by error code."""
        shapes = [self.shape(name) for name, raw in self._shapes.items() if raw.get("exception")]
        return {shape.error_code: shape for shape in shapes} | {shape.name: shape for shape in shapes}

    def _build_operation(self, name: str, raw: dict[str, Any]) -> Operation:
        given, returned, http = raw.get("input", {}), raw.get("output", {}), raw["http"]
        shape = self.shape(given["shape"]) if given else None
        namespace = given.get("xmlNamespace", {})
        return Operation(
            name=name,
            method_name=xform_name(name),
            http_method=http.get("method", "POST"),
            uri=http.get("requestUri", "/"),
            status=http.get("responseCode", 200),
            input=shape,
            output=self.shape(returned["shape"]) if returned else None,
            result_wrapper=returned.get("resultWrapper"),
            input_root=(
                given.get("locationName") or (shape and shape.location_name) or given.get("shape", name),
                namespace.get("uri") if isinstance(namespace, dict) else namespace,
            ),
            errors=tuple(self.shape(error["shape"]) for error in raw.get("errors", ())),
            request_compression="requestcompression" in raw,
            service=self,
        )

    def _build_shape(self, name: str) -> Shape:
        raw = self._shapes[name]
        namespace = raw.get("xmlNamespace")
        shape = Shape(
            name=name,
            type=raw["type"],
            required=tuple(raw.get("required", ())),
            min=raw.get("min"),
            max=raw.get("max"),
            pattern=raw.get("pattern"),
            enum=tuple(raw.get("enum", ())),
            sensitive=raw.get("sensitive", False),
            document=raw.get("document", False),
            union=raw.get("union", False),
            event_stream=raw.get("eventstream", False),
            event=raw.get("event", False),
            payload=raw.get("payload"),
            location_name=raw.get("locationName"),
            xml_namespace=namespace.get("uri") if isinstance(namespace, dict) else namespace,
            exception=raw.get("exception", False),
            fault=raw.get("fault", False),
            error=raw.get("error", {}),
        )
        # Recursive shapes find themselves here while their members are being built.
        self._built_shapes[name] = shape
        shape.members.update(
            (key, self._build_member(key, use)) for key, use in raw.get("members", {}).items()
        )
        if "member" in raw:
            shape.element = self._build_member("member", raw["member"])
        if "key" in raw:
            shape.key = self._build_member("key", raw["key"])
            shape.value = self._build_member("value", raw["value"])
        return shape

    def _build_member(self, name: str, use: dict[str, Any]) -> Member:
        merged = {**self._shapes[use["shape"]], **use}
        namespace = merged.get("xmlNamespace")
        if isinstance(namespace, str):
            namespace = {"uri": namespace}
        return Member(
            name=name,
            shape=self.shape(use["shape"]),
            wire=merged.get("locationName", name),
            located="locationName" in merged,
            location=use.get("location", ""),
            query_name=merged.get("queryName"),
            flattened=merged.get("flattened", False),
            streaming=merged.get("streaming", False),
            timestamp_format=merged.get("timestampFormat"),
            xml_attribute=merged.get("xmlAttribute", False),
            xml_namespace=(namespace.get("prefix", ""), namespace["uri"]) if namespace else None,
            json_value=merged.get("jsonvalue", False),
            event_payload=use.get("eventpayload", False),
            event_header=use.get("eventheader", False),
        )


@functools.cache
def load(service: str) -> ServiceModel:
    """The model of a service in its newest version, parsed once.

    Raises LookupError where botocore has none.
    """
    path = catalogue.model_path(service)
    raw = msgspec.json.decode(gzip.decompress(path.read_bytes()))
    extras = path.with_name("service-2.sdk-extras.json")
    if extras.exists():
        _merge(raw, msgspec.json.decode(extras.read_bytes()).get("merge", {}))
    _forget_documentation(raw)
    return ServiceModel(service, raw)


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _forget_documentation(raw: dict[str, Any]) -> None:
    """Most of a model is prose, which no request needs and which would stay in memory."""
    for item in (*raw["shapes"].values(), *raw["operations"].values()):
        item.pop("documentation", None)
        for use in item.get("members", {}).values():
            use.pop("documentation", None)
