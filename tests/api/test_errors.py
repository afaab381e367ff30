"""Every modelled exception of every protocol, read back by botocore."""

from __future__ import annotations

import pytest

from lambay.api import model
from lambay.api.errors import Fault
from lambay.api.protocols import registry
from lambay.aws import AWSError
from tests.api import values, wire
from tests.api.test_round_trips import SERVICES


@pytest.mark.parametrize(("service", "protocol"), SERVICES)
def test_each_exception_arrives_with_code_message_status_and_members(service: str, protocol: str) -> None:
    loaded = model.load(service)
    operation = loaded.operation_names[0]
    for shape in {shape.name: shape for shape in loaded.errors.values()}.values():
        given = {
            name: value
            for name, value in values.full(shape).items()
            if name.lower() not in ("message", "code", "type")
        }
        error = AWSError(shape.name, "what <happened> & why", **given)
        parsed = wire.error_by_botocore(service, operation, protocol, error)
        old_name = loaded.query_compatible or protocol in ("query", "ec2", "rest-xml")
        assert parsed["Error"]["Code"] == (shape.error_code if old_name else shape.name)
        assert parsed["Error"]["Message"] == "what <happened> & why"
        assert parsed["ResponseMetadata"]["HTTPStatusCode"] == shape.error_status
        assert parsed["ResponseMetadata"]["RequestId"] == "request-1"
        received = values.plain({name: parsed[name] for name in given if name in parsed})
        assert received == values.plain(given), shape.name


@pytest.mark.parametrize("protocol", ["rest-json", "json", "query", "ec2", "rest-xml", "smithy-rpc-v2-cbor"])
def test_an_error_that_no_model_has_keeps_code_message_and_status(protocol: str) -> None:
    service = {"rest-json": "efs", "json": "logs", "query": "sts", "ec2": "ec2", "rest-xml": "s3"}.get(
        protocol, "cloudwatch"
    )
    parsed = wire.error_by_botocore(
        service, model.load(service).operation_names[0], protocol, AWSError("SlowDown", "please", status=503)
    )
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == ("SlowDown", "please")
    assert parsed["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_the_query_protocol_tells_whose_fault_it_is() -> None:
    sender = wire.error_by_botocore("sts", "AssumeRole", "query", AWSError("ValidationError", "no"))
    receiver = wire.error_by_botocore(
        "sts", "AssumeRole", "query", AWSError("InternalFailure", "no", status=500)
    )
    assert (sender["Error"]["Type"], receiver["Error"]["Type"]) == ("Sender", "Receiver")


@pytest.mark.parametrize("protocol", ["json", "smithy-rpc-v2-cbor"])
def test_a_service_that_once_spoke_query_tells_its_error_by_both_names(protocol: str) -> None:
    loaded = model.load("cloudwatch")
    fault = Fault.of(AWSError("ResourceNotFound", "no such alarm"), loaded)
    response = registry.protocol(protocol).render_error(loaded, fault, "request-1", {})
    assert response.headers["x-amzn-query-error"] == f"{loaded.errors['ResourceNotFound'].error_code};Sender"
