"""The page that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from lambay.http import Request
from lambay.observe import FunctionActivity, PrometheusPage, Publisher

from .conftest import ACCOUNT, REGION
from .test_publishing import FileServer, FileSystems, Fleet, Named, counters, run
from .test_publishing import activity as activity
from .test_publishing import file_server as file_server
from .test_publishing import publisher as publisher


async def test_counters_of_functions_and_file_systems(
    publisher: Publisher, activity: FunctionActivity, file_server: FileServer
) -> None:
    run(activity, Named(), error="Unhandled")
    file_server.told.volumes["fs-1"] = counters(write_bytes=77, write_ops=2)
    page = PrometheusPage(publisher, activity, FileSystems(), Fleet())

    response = await page.page(Request("GET", "/_lambay/metrics", "", {}))

    assert isinstance(response.body, bytes)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }
    function = (("account", ACCOUNT), ("function", "fn"), ("region", REGION))
    volume = (("account", ACCOUNT), ("file_system", "fs-1"))
    assert samples["lambay_function_errors_total", *function] == 1
    written = (*volume, ("kind", "write"), ("region", REGION))
    assert samples["lambay_file_system_io_bytes_total", *written] == 77
    assert samples["lambay_file_system_burst_credit_bytes", *volume, ("region", REGION)] == 1000
    assert response.headers["content-type"].startswith("text/plain")
