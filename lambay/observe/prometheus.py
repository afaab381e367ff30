"""`GET /_lambay/metrics`: counters for Prometheus, in its text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from lambay.http import Request, Response
from lambay.observe.live import Fleet
from lambay.observe.publishing.functions import FunctionActivity
from lambay.observe.publishing.ports import FileSystems
from lambay.observe.publishing.publisher import Publisher

_FUNCTION = ("account", "region", "function")
_FILE_SYSTEM = ("account", "region", "file_system")
_CLASSES = ("read", "write", "metadata_read", "metadata_write")


class PrometheusPage(Collector):
    """Counters since the server (functions) or the file server (file systems) started."""

    def __init__(
        self, publisher: Publisher, activity: FunctionActivity, file_systems: FileSystems, fleet: Fleet
    ) -> None:
        self._publisher = publisher
        self._activity = activity
        self._file_systems = file_systems
        self._fleet = fleet
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def page(self, request: Request) -> Response:
        await self._publisher.catch_up()
        return Response(200, {"content-type": CONTENT_TYPE_LATEST}, generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """What there is to tell, as Prometheus's client library asks for it."""
        yield from self._of_functions()
        yield from self._of_environments()
        yield from self._of_file_systems()

    def _of_functions(self) -> Iterator[Metric]:
        for name, text, member in (
            ("lambay_function_invocations", "Invocations that ran.", "invocations"),
            ("lambay_function_errors", "Invocations that ended in an error of the function.", "errors"),
            ("lambay_function_throttles", "Invocations refused for want of concurrency.", "throttles"),
            ("lambay_function_cold_starts", "Invocations that an Init phase preceded.", "cold_starts"),
        ):
            family = CounterMetricFamily(name, text, labels=_FUNCTION)
            for key, totals in self._activity.totals.items():
                family.add_metric(key, getattr(totals, member))
            yield family
        running = GaugeMetricFamily("lambay_function_running", "Invocations under way.", labels=_FUNCTION)
        for key, totals in self._activity.totals.items():
            running.add_metric(key, totals.busy)
        yield running

    def _of_environments(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "lambay_environments", "Execution environments by state.", labels=(*_FUNCTION, "state")
        )
        counts: dict[tuple[str, str, str, str], int] = {}
        for each in self._fleet.environments():
            key = (each.account, each.region, each.function, each.state)
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            family.add_metric(key, count)
        yield family

    def _of_file_systems(self) -> Iterator[Metric]:
        volumes = {} if self._publisher.stats is None else self._publisher.stats.volumes
        known = {
            (each.account, each.region, each.id): volumes[each.id]
            for each in self._file_systems.watched()
            if each.id in volumes
        }
        moved = CounterMetricFamily(
            "lambay_file_system_io_bytes", "Bytes moved.", labels=(*_FILE_SYSTEM, "kind")
        )
        done = CounterMetricFamily(
            "lambay_file_system_operations", "Operations done.", labels=(*_FILE_SYSTEM, "kind")
        )
        metered = CounterMetricFamily(
            "lambay_file_system_metered_bytes",
            "Bytes that count against the permitted throughput.",
            labels=_FILE_SYSTEM,
        )
        gauges = {
            "connections": GaugeMetricFamily(
                "lambay_file_system_connections", "Mounts of clients.", labels=_FILE_SYSTEM
            ),
            "bytes": GaugeMetricFamily(
                "lambay_file_system_stored_bytes", "Data that is stored.", labels=_FILE_SYSTEM
            ),
            "burst_credit_balance": GaugeMetricFamily(
                "lambay_file_system_burst_credit_bytes", "Burst credits left.", labels=_FILE_SYSTEM
            ),
            "permitted_throughput": GaugeMetricFamily(
                "lambay_file_system_permitted_bytes_per_second",
                "Metered throughput that is permitted.",
                labels=_FILE_SYSTEM,
            ),
            "percent_io_limit": GaugeMetricFamily(
                "lambay_file_system_io_limit_percent",
                "Share of the operations limit in use.",
                labels=_FILE_SYSTEM,
            ),
        }
        for key, counters in known.items():
            for kind in _CLASSES:
                moved.add_metric((*key, kind), counters.get(f"{kind}_bytes", 0))
                done.add_metric((*key, kind), counters.get(f"{kind}_ops", 0))
            metered.add_metric(key, counters.get("metered_bytes", 0))
            values = {**counters, **(counters.get("limits") or {})}
            for name, gauge in gauges.items():
                if values.get(name) is not None:
                    gauge.add_metric(key, values[name])
        yield from (moved, done, metered, *gauges.values())
