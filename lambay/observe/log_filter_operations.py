"""The operations on metric filters and subscription filters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from lambay.aws import AWSError, Call
from lambay.observe import log_filters
from lambay.observe.filter_pattern import InvalidPattern
from lambay.observe.log_errors import invalid, required_group
from lambay.observe.log_events import read_pattern
from lambay.observe.log_filters import Kind, LogFilter, Transformation
from lambay.observe.log_metrics import LogMetrics, MetricFilter
from lambay.observe.log_records import Group, GroupKey
from lambay.observe.log_requests import (
    PAGE_ITEMS,
    Input,
    LogsOperations,
    Output,
    continuation,
    continued,
)
from lambay.observe.log_subscriptions import LogSubscriptions

MOST_METRIC_FILTERS = 100
MOST_SUBSCRIPTION_FILTERS = 2
_MOST_DIMENSIONS = 3


class LogFilters(LogsOperations):
    """Metric filters, and subscription filters to functions."""

    _log_metrics: LogMetrics | None
    _subscriptions: LogSubscriptions

    async def put_metric_filter(self, call: Call, input: Input) -> Output:
        _refuse(input, "fieldSelectionCriteria", "emitSystemFieldDimensions")
        if self._log_metrics is None:
            raise invalid("metricTransformations: there are no metrics here")
        told = input["metricTransformations"][0]
        if told.get("dimensions") and "defaultValue" in told:
            raise invalid(
                "Invalid metric transformation: dimensions and default value are mutually exclusive."
            )
        if len(told.get("dimensions") or {}) > _MOST_DIMENSIONS:
            raise invalid(
                f"Invalid metric transformation: at most {_MOST_DIMENSIONS} dimensions are allowed."
            )
        if told["metricNamespace"].startswith("AWS/"):
            raise invalid("Invalid metric transformation: namespaces that begin with AWS/ are reserved.")
        kept = LogFilter(
            group=GroupKey(call.account, call.region, input["logGroupName"]),
            name=input["filterName"],
            pattern=input["filterPattern"],
            created_ms=self._store.now_ms(),
            transformation=Transformation(
                name=told["metricName"],
                namespace=told["metricNamespace"],
                value=told["metricValue"],
                default=told.get("defaultValue"),
                dimensions=dict(told.get("dimensions") or {}),
                unit=told.get("unit", "None"),
            ),
        )
        try:
            MetricFilter.of(kept)
        except InvalidPattern as error:
            raise invalid(str(error)) from None
        await self._put_filter(kept, "metric", MOST_METRIC_FILTERS)
        return {}

    async def delete_metric_filter(self, call: Call, input: Input) -> Output:
        await self._delete_filter(call, input, "metric")
        return {}

    async def describe_metric_filters(self, call: Call, input: Input) -> Output:
        name, namespace = input.get("metricName"), input.get("metricNamespace")
        if (name is None) != (namespace is None):
            raise invalid("metricName and metricNamespace must be given together.")

        def fits(each: LogFilter) -> bool:
            told = each.transformation
            assert told is not None
            return name is None or (told.name, told.namespace) == (name, namespace)

        found, token = await self._page_of_filters(call, input, "metric", fits)
        return {"metricFilters": [_described_metric_filter(each) for each in found], **token}

    async def put_subscription_filter(self, call: Call, input: Input) -> Output:
        """To functions; streams of Kinesis and Firehose and other accounts' destinations are refused."""
        _refuse(input, "fieldSelectionCriteria", "emitSystemFields")
        destination = input["destinationArn"]
        parts = destination.split(":")
        if len(parts) < 7 or parts[0] != "arn":
            raise invalid(f"destinationArn: {destination} is not an ARN")
        if parts[2] != "lambda" or parts[5] != "function":
            raise invalid(f"destinationArn: {destination}: only functions are supported, not {parts[2]}")
        if "roleArn" in input:
            raise invalid("destinationArn for vendor lambda cannot be used with roleArn")
        read_pattern(input["filterPattern"])
        kept = LogFilter(
            group=GroupKey(call.account, call.region, input["logGroupName"]),
            name=input["filterName"],
            pattern=input["filterPattern"],
            created_ms=self._store.now_ms(),
            destination=destination,
            distribution=input.get("distribution", "ByLogStream"),
        )
        await self._put_filter(kept, "subscription", MOST_SUBSCRIPTION_FILTERS)
        return {}

    async def delete_subscription_filter(self, call: Call, input: Input) -> Output:
        await self._delete_filter(call, input, "subscription")
        return {}

    async def describe_subscription_filters(self, call: Call, input: Input) -> Output:
        found, token = await self._page_of_filters(call, input, "subscription", lambda each: True)
        return {
            "subscriptionFilters": [
                {
                    "filterName": each.name,
                    "logGroupName": each.group.name,
                    "filterPattern": each.pattern,
                    "destinationArn": each.destination,
                    "distribution": each.distribution,
                    "creationTime": each.created_ms,
                }
                for each in found
            ],
            **token,
        }

    async def _load_filters(self) -> None:
        """Have the filters that are stored used from now on."""
        every = await self._store.read(log_filters.everything)
        if self._log_metrics is not None:
            self._log_metrics.use([each for kind, each in every if kind == "metric"])
        self._subscriptions.use([each for kind, each in every if kind == "subscription"])

    async def _put_filter(self, kept: LogFilter, kind: Kind, most: int) -> None:
        def put(connection: sqlite3.Connection) -> None:
            group = required_group(connection, kept.group)
            there = {each.name for each in log_filters.of_group(connection, group, kind)}
            if len(there | {kept.name}) > most:
                raise AWSError("LimitExceededException", f"Resource limit exceeded: {most} {kind} filters.")
            log_filters.put(connection, group, kind, kept)

        await self._store.change(put)
        await self._load_filters()

    async def _delete_filter(self, call: Call, input: Input, kind: Kind) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            group = required_group(connection, GroupKey(call.account, call.region, input["logGroupName"]))
            if not log_filters.remove(connection, group, kind, input["filterName"]):
                raise AWSError(
                    "ResourceNotFoundException", f"The specified {kind} filter does not exist.", status=400
                )

        await self._store.change(delete)
        await self._load_filters()

    async def _page_of_filters(
        self, call: Call, input: Input, kind: Kind, fits: Callable[[LogFilter], bool]
    ) -> tuple[Sequence[LogFilter], Output]:
        prefix, limit = input.get("filterNamePrefix", ""), input.get("limit", PAGE_ITEMS)
        place = continued(input.get("nextToken"), str, str)
        name = input.get("logGroupName")

        def read(connection: sqlite3.Connection) -> list[LogFilter]:
            if name is None:
                return log_filters.of_account(connection, call.account, call.region, kind)
            group: Group = required_group(connection, GroupKey(call.account, call.region, name))
            return log_filters.of_group(connection, group, kind)

        found = [
            each
            for each in await self._store.read(read)
            if each.name.startswith(prefix)
            and fits(each)
            and (place is None or (each.group.name, each.name) > (place[0], place[1]))
        ]
        if len(found) <= limit:
            return found, {}
        last = found[limit - 1]
        return found[:limit], {"nextToken": continuation(last.group.name, last.name)}


def _refuse(input: Input, *members: str) -> None:
    for member in members:
        if input.get(member):
            raise invalid(f"{member}: it is not supported")


def _described_metric_filter(each: LogFilter) -> Output:
    told = each.transformation
    assert told is not None
    transformation: Output = {
        "metricName": told.name,
        "metricNamespace": told.namespace,
        "metricValue": told.value,
    }
    if told.default is not None:
        transformation["defaultValue"] = told.default
    if told.dimensions:
        transformation["dimensions"] = told.dimensions
    if told.unit != "None":
        transformation["unit"] = told.unit
    return {
        "filterName": each.name,
        "filterPattern": each.pattern,
        "metricTransformations": [transformation],
        "creationTime": each.created_ms,
        "logGroupName": each.group.name,
    }
