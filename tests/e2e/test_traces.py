"""Traces as a collector gets them: request, invocation, environment, mount, and what the invocation moved."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.collector import Collector, Taken, collecting, tree
from tests.e2e.arrange import Deployer, Lambay

MIB = 1 << 20
SERVER = 2

SOURCE = f"""
import os

def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    if event == "write":
        with open("/mnt/efs/file", "wb", buffering=0) as file:
            for _ in range(4):
                file.write(os.urandom({MIB}))
            os.fsync(file.fileno())
    return os.environ["_X_AMZN_TRACE_ID"]
"""


@dataclass
class Traced:
    """A server that exports to `collector`, and a function with a file system."""

    collector: Collector
    deploy: Deployer
    file_system: str
    function: str
    answer: Any = None

    def invoke(self, event: str, **headers: str) -> list[Taken]:
        """The spans of the trace of an invocation."""
        client = self.deploy.server.boto("lambda")
        client.meta.events.register(
            "before-call.lambda.Invoke", lambda params, **_: params["headers"].update(headers)
        )
        answer = client.invoke(FunctionName=self.function, Payload=f'"{event}"')
        self.answer = json.load(answer["Payload"])
        request_id = answer["ResponseMetadata"]["RequestId"]
        return self.collector.trace("lambda.Invoke", **{"aws.request_id": request_id})


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        # The SDK's own variable: export soon.
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        server = Lambay(tmp_path_factory.mktemp("traced"), "--otlp-endpoint", collector.endpoint)
        try:
            deploy = Deployer(server)
            file_system = deploy.file_system()
            function = deploy.function(SOURCE, deploy.access_point(file_system))
            yield Traced(collector, deploy, file_system, function)
        finally:
            assert server.stop() == 0


def named(spans: list[Taken], name: str) -> Taken:
    (one,) = (span for span in spans if span.name == name)
    return one


def anew(traced: Traced) -> None:
    """The next invocation is a cold start."""
    traced.deploy.lambda_.update_function_configuration(FunctionName=traced.function, Description="anew")
    traced.deploy.lambda_.get_waiter("function_updated_v2").wait(
        FunctionName=traced.function, WaiterConfig={"Delay": 0.1}
    )


def test_a_cold_start_is_told_from_the_request_to_the_mount_and_what_was_moved(traced: Traced) -> None:
    anew(traced)

    spans = traced.invoke("write")

    invoke, environment = f"invoke {traced.function}", f"environment {traced.function}"
    inside = {"claim slot": {}, "mount": {}, "init": {}}
    assert tree(spans) == {"lambda.Invoke": {invoke: {environment: inside}}}
    request = named(spans, "lambda.Invoke")
    assert request.kind == SERVER
    assert request.resource["service.name"] == "lambay"
    told = {
        "rpc.service": "lambda",
        "rpc.method": "Invoke",
        "http.response.status_code": 200,
        "cloud.region": "us-east-1",
        "cloud.account.id": "000000000000",
        "lambay.principal.kind": "root",
    }
    assert told.items() <= request.attributes.items()
    invocation = named(spans, invoke).attributes
    assert invocation["faas.invocation_id"] == request.attributes["aws.request_id"]
    assert invocation["faas.coldstart"] is True
    assert (
        invocation["lambay.environment.id"] == named(spans, environment).attributes["lambay.environment.id"]
    )
    assert abs(invocation["lambay.efs.write_bytes"] - 4 * MIB) <= 0.01 * 4 * MIB
    assert invocation["lambay.efs.metadata_ops"] > 0
    mount = named(spans, "mount").attributes
    assert mount["aws.efs.file_system.id"] == traced.file_system
    assert (mount["lambay.mount.path"], mount["lambay.mount.root"]) == ("/mnt/efs", "/data")
    assert not any(span.failed for span in spans)
    for span in spans:
        outer = next((each for each in spans if each.id == span.parent), span)
        assert outer.began <= span.began <= span.ended <= outer.ended


def test_a_warm_invocation_has_no_environment_to_make_and_only_its_own_traffic(traced: Traced) -> None:
    traced.invoke("write")

    spans = traced.invoke("look")

    invoke = f"invoke {traced.function}"
    assert tree(spans) == {"lambda.Invoke": {invoke: {}}}
    attributes = named(spans, invoke).attributes
    assert attributes["faas.coldstart"] is False
    assert attributes["lambay.efs.write_bytes"] == 0
    assert attributes["lambay.efs.read_bytes"] == 0


def test_the_callers_trace_goes_on_and_xrays_header_is_left_alone(traced: Traced) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"

    xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

    spans = traced.invoke(
        "look", **{"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Amzn-Trace-Id": xray}
    )

    request = named(spans, "lambda.Invoke")
    assert (request.trace, request.parent) == (trace, "b7ad6b7169203331")
    assert traced.answer.startswith(xray)


def test_a_functions_error_fails_its_invocation_and_not_the_request(traced: Traced) -> None:
    spans = traced.invoke("fail")

    invocation = named(spans, f"invoke {traced.function}")
    assert invocation.failed
    assert invocation.attributes["error.type"] == "ValueError"
    assert not named(spans, "lambda.Invoke").failed


def test_a_refused_request_says_who_asked_and_what_he_was_told(traced: Traced) -> None:
    client: Any = traced.deploy.server.boto("efs")
    with pytest.raises(client.exceptions.FileSystemNotFound) as refused:
        client.describe_file_systems(FileSystemId="fs-00000000000000000")

    request_id = refused.value.response["ResponseMetadata"]["RequestId"]
    (request,) = traced.collector.trace("efs.DescribeFileSystems", **{"aws.request_id": request_id})

    assert request.attributes["http.response.status_code"] == 404
    assert request.attributes["lambay.principal.kind"] == "root"


def test_a_request_to_a_functions_url_is_traced_like_one_to_the_api(traced: Traced) -> None:
    lambda_ = traced.deploy.lambda_
    url = lambda_.create_function_url_config(FunctionName=traced.function, AuthType="NONE")["FunctionUrl"]
    for action, condition in (
        ("lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
        ("lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        lambda_.add_permission(
            FunctionName=traced.function,
            StatementId=action.removeprefix("lambda:"),
            Action=action,
            Principal="*",
            **condition,
        )
    parent = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"traceparent": parent})) as answer:
        assert answer.status == 200

    spans = traced.collector.trace("lambda.InvokeFunctionUrl")

    assert tree(spans) == {"lambda.InvokeFunctionUrl": {f"invoke {traced.function}": {}}}
    assert {span.trace for span in spans} == {"1af7651916cd43dd8448eb211c80319c"}


def test_an_asynchronous_event_is_a_trace_of_its_own_with_the_requests_id(traced: Traced) -> None:
    answer = traced.deploy.lambda_.invoke(
        FunctionName=traced.function, InvocationType="Event", Payload='"look"'
    )
    request_id = answer["ResponseMetadata"]["RequestId"]

    spans = traced.collector.trace(f"invoke {traced.function}", **{"faas.invocation_id": request_id})

    assert list(tree(spans)) == [f"invoke {traced.function}"]
