"""The input of an owned operation: parsed by its protocol and checked against the model."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

from lambay.api import validation
from lambay.api.model import Operation
from lambay.api.protocols import registry
from lambay.api.router import Route
from lambay.aws import AWSError
from lambay.http import Request

# Reading a larger body takes milliseconds, which other requests should not wait for.
READ_ON_THREAD_BYTES = 1 << 20

_INFLATED_MAX_BYTES = 64 << 20


def read(operation: Operation, route: Route, request: Request) -> dict[str, Any]:
    """The input by its members' names. Raises AWSError where it cannot be read or breaks the model."""
    if operation.request_compression and request.headers.get("content-encoding", "").lower() == "gzip":
        request = dataclasses.replace(request, body=_inflate(request.body))
    try:
        given = registry.protocol(route.protocol).parse(operation, request, route.labels, route.form)
        validation.check(operation, route.protocol, given)
    except RecursionError:
        raise AWSError("SerializationException", "the input is nested too deeply", status=400) from None
    return given


def _inflate(body: bytes) -> bytes:
    """A gzip body, as SDKs send PutMetricData's. Bodies that grow beyond all measure are refused."""
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(body, _INFLATED_MAX_BYTES)
    except zlib.error as error:
        raise AWSError(
            "SerializationException", f"the gzip body cannot be read: {error}", status=400
        ) from None
    if stream.unconsumed_tail:
        raise AWSError(
            "RequestEntityTooLargeException",
            f"the body inflates to over {_INFLATED_MAX_BYTES} bytes",
            status=413,
        )
    return inflated
