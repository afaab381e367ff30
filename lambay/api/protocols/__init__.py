"""The wire protocols: a request to an operation's input, its output and errors to a response.

Nothing here knows routing or the rooms above; every protocol is driven by `lambay.api.model` alone. They
follow the Smithy specifications of awsJson1_0/1_1, restJson1, restXml, awsQuery, ec2Query and rpcv2Cbor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lambay.api.errors import Fault
from lambay.api.model import Operation, ServiceModel
from lambay.http import Request, Response


class WireProtocol(Protocol):
    """One protocol; instances hold no state of a request."""

    def parse(
        self, operation: Operation, request: Request, labels: Mapping[str, str], form: Mapping[str, str]
    ) -> dict[str, Any]:
        """The input as boto3 would take it. `labels` are the URI's, `form` a query request's parameters.

        Raises AWSError (SerializationException, MalformedInput) where the request cannot be read.
        """

    def render(
        self, operation: Operation, output: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
    ) -> Response:
        """The response for an output as boto3 would give it. `headers` are the request's."""

    def render_error(
        self, service: ServiceModel | None, fault: Fault, request_id: str, headers: Mapping[str, str]
    ) -> Response:
        """The response for an error; without a service where the request could not be routed."""
