"""Spans, to a collector that takes OTLP over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lambay.aws import AWSError
from lambay.observe import tracing
from lambay.observe.tracing import Traces
from tests.collector import Collector, collecting, tree

_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


async def test_a_span_is_within_the_one_that_was_current(collector: Collector) -> None:
    traces = Traces(collector.endpoint, "one")
    with traces.request({}) as request:
        request.rename("lambda.Invoke")
        with traces.span("invoke f", {"faas.name": "f"}):
            traces.current().note({"lambay.efs.read_ops": 3})
        with traces.span("after", {}):
            pass
    await traces.stop()

    spans = collector.trace("lambda.Invoke")

    assert tree(spans) == {"lambda.Invoke": {"invoke f": {}, "after": {}}}
    by_name = {span.name: span for span in spans}
    assert by_name["invoke f"].attributes == {"faas.name": "f", "lambay.efs.read_ops": 3}
    assert by_name["lambda.Invoke"].resource["service.name"] == "lambay"
    assert by_name["lambda.Invoke"].resource["service.instance.id"] == "one"
    assert collector.paths == {"/v1/traces"}


async def test_a_request_is_part_of_the_trace_that_its_traceparent_names(collector: Collector) -> None:
    traces = Traces(collector.endpoint + "/v1/traces/", "one")
    with traces.request({"traceparent": f"{_PARENT}1"}) as request:
        request.rename("continued")
    with traces.request({"traceparent": "nonsense"}) as request:
        request.rename("begun")
    await traces.stop()

    (continued,) = collector.trace("continued")
    (begun,) = collector.trace("begun")

    assert (continued.trace, continued.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert begun.parent == ""
    assert collector.paths == {"/v1/traces"}


async def test_a_trace_that_its_caller_does_not_sample_is_not_exported(collector: Collector) -> None:
    traces = Traces(collector.endpoint, "one")
    with traces.request({"traceparent": f"{_PARENT}0"}), traces.span("unsampled", {}):
        pass
    with traces.request({}) as request:
        request.rename("sampled")
    await traces.stop()

    assert [span.name for span in collector.trace("sampled")] == ["sampled"]
    assert "unsampled" not in collector.names()


async def test_a_task_that_outlives_its_request_has_traces_of_its_own(collector: Collector) -> None:
    traces = Traces(collector.endpoint, "one")
    over = asyncio.Event()

    async def poll() -> None:
        await over.wait()
        with traces.span("polled", {}):
            pass

    with traces.request({}) as request:
        request.rename("started")
        polling = asyncio.create_task(poll())
    over.set()
    await polling
    await traces.stop()

    (polled,) = collector.trace("polled")

    assert polled.parent == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [(AWSError("EFSMountFailureException", "no"), "EFSMountFailureException"), (OSError("no"), "OSError")],
)
async def test_an_exception_fails_the_span_that_it_leaves(
    collector: Collector, error: Exception, kind: str
) -> None:
    traces = Traces(collector.endpoint, "one")
    with suppress(type(error)), traces.span("broken", {}):
        raise error
    await traces.stop()

    (broken,) = collector.trace("broken")

    assert broken.failed
    assert broken.attributes == {"error.type": kind}


async def test_stopping_waits_for_a_collector_only_so_long(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.05)
    collector.hold = threading.Event()
    traces = Traces(collector.endpoint, "one")
    with traces.span("waiting", {}):
        pass

    # It returns while the collector holds what it was sent.
    await traces.stop()

    assert not collector.hold.is_set()
    assert collector.names() == []
    collector.hold.set()


async def test_a_collector_that_is_away_is_no_error(collector: Collector) -> None:
    traces = Traces("http://127.0.0.1:1", "one")
    with traces.span("lost", {}):
        pass

    await traces.stop()


def test_the_libraries_are_loaded_only_where_traces_are_exported() -> None:
    code = "import sys, lambay.house; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
