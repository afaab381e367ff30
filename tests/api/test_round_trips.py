"""Every operation of every protocol, both ways, against botocore's own serializers and parsers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambay.api import model
from lambay.api.model import Operation
from lambay.api.protocols import registry
from tests.api import values, wire

SERVICES = [
    ("efs", "rest-json"),
    ("lambda", "rest-json"),
    ("logs", "json"),
    ("ecs", "json"),
    ("sqs", "json"),
    ("sts", "query"),
    ("cloudformation", "query"),
    ("cloudwatch", "query"),
    ("cloudwatch", "json"),
    ("cloudwatch", "smithy-rpc-v2-cbor"),
    ("ec2", "ec2"),
    ("s3", "rest-xml"),
    ("route53", "rest-xml"),
]
_NOT_TESTED = frozenset(
    {
        # Two members of these outdated operations share one element's name, so no reader can tell them apart.
        "PutBucketNotification",
        "GetBucketNotification",
        # Its RequestRoute is part of a host name.
        "WriteGetObjectResponse",
    }
)

slow_models = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def operations(service: str) -> Iterator[Operation]:
    loaded = model.load(service)
    for name in loaded.operation_names:
        operation = loaded.operation(name)
        assert operation is not None
        if not wire.has_event_stream(operation) and name not in _NOT_TESTED:
            yield operation


def check_input(operation: Operation, protocol: str, sent: dict[str, Any]) -> None:
    service = operation.service.service
    request = wire.request_of(service, operation.name, protocol, sent)
    received = wire.parsed_by_us(service, operation.name, protocol, request)
    if "ContentLength" not in sent:
        # The client's HTTP library sets this header whether or not the member is given.
        received.pop("ContentLength", None)
    assert values.plain(received) == values.plain(sent), f"{operation.name}: {request}"


def check_output(operation: Operation, protocol: str, sent: dict[str, Any]) -> None:
    service = operation.service.service
    response = registry.protocol(protocol).render(operation, sent, "request-1", {})
    received = wire.parsed_by_botocore(service, operation.name, protocol, response)
    metadata = received.pop("ResponseMetadata")
    assert metadata["RequestId"] == "request-1"
    if "ContentType" not in sent:
        received.pop("ContentType", None)
    assert values.plain(received) == values.plain(sent), f"{operation.name}: {response.body!r}"


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
def test_an_input_with_every_member_set_arrives_for_each_operation(service: str, protocol: str) -> None:
    for operation in operations(service):
        if operation.input is not None:
            check_input(operation, protocol, values.full(operation.input))


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
def test_an_output_with_every_member_set_arrives_for_each_operation(service: str, protocol: str) -> None:
    for operation in operations(service):
        if operation.output is not None:
            check_output(operation, protocol, values.full(operation.output))


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
@slow_models
@given(data=st.data())
def test_any_input_arrives_as_it_was_sent(service: str, protocol: str, data: st.DataObject) -> None:
    takers = {item.name: item for item in operations(service) if item.input is not None}
    operation = takers[data.draw(st.sampled_from(sorted(takers)))]
    assert operation.input is not None
    check_input(operation, protocol, data.draw(values.structures(operation.input)))


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
@slow_models
@given(data=st.data())
def test_any_output_arrives_as_it_was_sent(service: str, protocol: str, data: st.DataObject) -> None:
    givers = {item.name: item for item in operations(service) if item.output is not None}
    operation = givers[data.draw(st.sampled_from(sorted(givers)))]
    assert operation.output is not None
    check_output(operation, protocol, data.draw(values.structures(operation.output)))
