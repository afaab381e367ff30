"""The service `cloudwatch`, put together from its families of operations."""

from __future__ import annotations

from lambay.clock import Clock
from lambay.observe.alarms.operations import AlarmOperations
from lambay.observe.alarms.service import Alarms
from lambay.observe.dashboards import Dashboard, DashboardOperations
from lambay.observe.metrics.operations import MetricOperations
from lambay.observe.metrics.service import Metrics
from lambay.observe.tagging import TagOperations
from lambay.store import Store


class CloudWatch(MetricOperations, AlarmOperations, DashboardOperations, TagOperations):
    """Amazon CloudWatch, API version 2010-08-01. Insight rules, anomaly detectors and metric streams are absent."""

    service_name = "cloudwatch"

    def __init__(self, store: Store, metrics: Metrics, alarms: Alarms, clock: Clock) -> None:
        self._records = store
        self._metrics = metrics
        self._alarms = alarms
        self._clock = clock
        self._dashboards = store.collection("cloudwatch.dashboards", Dashboard)
