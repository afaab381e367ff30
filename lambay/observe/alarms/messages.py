"""What topics, functions and event buses are told of an alarm's change."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from lambay.observe.alarms.records import Alarm, AlarmChange

_REGIONS = {
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
    "ca-central-1": "Canada (Central)",
    "eu-west-1": "EU (Ireland)",
    "eu-west-2": "EU (London)",
    "eu-west-3": "EU (Paris)",
    "eu-central-1": "EU (Frankfurt)",
    "eu-north-1": "EU (Stockholm)",
    "eu-south-1": "EU (Milan)",
    "ap-south-1": "Asia Pacific (Mumbai)",
    "ap-northeast-1": "Asia Pacific (Tokyo)",
    "ap-northeast-2": "Asia Pacific (Seoul)",
    "ap-southeast-1": "Asia Pacific (Singapore)",
    "ap-southeast-2": "Asia Pacific (Sydney)",
    "sa-east-1": "South America (Sao Paulo)",
}


def stamp(seconds: float) -> str:
    """`2026-11-21T02:40:00.000+0000`, as alarms write times."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def subject(alarm: Alarm) -> str:
    return f'{alarm.state}: "{alarm.name}" in {_REGIONS.get(alarm.region, alarm.region)}'[:100]


def notification(change: AlarmChange) -> str:
    """The message to a topic."""
    alarm, settings = change.after, change.after.settings
    message: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": settings.get("AlarmDescription"),
        "AWSAccountId": alarm.account,
        "AlarmConfigurationUpdatedTimestamp": stamp(alarm.configured),
        "NewStateValue": alarm.state,
        "NewStateReason": alarm.reason,
        "StateChangeTime": stamp(change.at),
        "Region": _REGIONS.get(alarm.region, alarm.region),
        "AlarmArn": alarm.arn,
        "OldStateValue": change.before.state,
        "OKActions": settings.get("OKActions") or [],
        "AlarmActions": settings.get("AlarmActions") or [],
        "InsufficientDataActions": settings.get("InsufficientDataActions") or [],
    }
    if alarm.rule is not None:
        message["AlarmRule"] = alarm.rule
    else:
        message["Trigger"] = _trigger(settings)
    return json.dumps(message)


def _trigger(settings: dict[str, Any]) -> dict[str, Any]:
    trigger: dict[str, Any] = {
        "Period": settings.get("Period"),
        "EvaluationPeriods": settings["EvaluationPeriods"],
        "DatapointsToAlarm": settings.get("DatapointsToAlarm", settings["EvaluationPeriods"]),
        "ComparisonOperator": settings["ComparisonOperator"],
        "Threshold": settings.get("Threshold"),
        "TreatMissingData": settings.get("TreatMissingData", "missing"),
        "EvaluateLowSampleCountPercentile": settings.get("EvaluateLowSampleCountPercentile", ""),
    }
    if "Metrics" in settings:
        return trigger | {"Metrics": settings["Metrics"]}
    extended = settings.get("ExtendedStatistic")
    return trigger | {
        "MetricName": settings["MetricName"],
        "Namespace": settings["Namespace"],
        "StatisticType": "ExtendedStatistic" if extended else "Statistic",
        "Statistic": extended or str(settings.get("Statistic", "")).upper(),
        "Unit": settings.get("Unit"),
        "Dimensions": [
            {"value": each["Value"], "name": each["Name"]} for each in settings.get("Dimensions") or ()
        ],
    }


def function_event(change: AlarmChange) -> dict[str, Any]:
    """The event of a function that is an alarm's action."""
    return {
        "source": "aws.cloudwatch",
        "alarmArn": change.arn,
        "accountId": change.account,
        "time": stamp(change.at),
        "region": change.region,
        "alarmData": _detail(change, "alarmName"),
    }


def bus_entry(change: AlarmChange) -> dict[str, Any]:
    """The entry of the event "CloudWatch Alarm State Change"."""
    return {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Resources": [change.arn],
        "Time": datetime.fromtimestamp(change.at, UTC),
        "Detail": json.dumps(_detail(change, "alarmName")),
    }


def _detail(change: AlarmChange, name: str) -> dict[str, Any]:
    settings = change.after.settings
    configuration: dict[str, Any] = {}
    if settings.get("AlarmDescription"):
        configuration["description"] = settings["AlarmDescription"]
    if change.after.rule is not None:
        configuration["alarmRule"] = change.after.rule
        if "ActionsSuppressor" in settings:
            configuration["actionsSuppressor"] = settings["ActionsSuppressor"]
    else:
        configuration["metrics"] = _metrics(settings)
    return {
        name: change.name,
        "state": _state(change.after),
        "previousState": _state(change.before),
        "configuration": configuration,
    }


def _state(alarm: Alarm) -> dict[str, Any]:
    state: dict[str, Any] = {
        "value": alarm.state,
        "reason": alarm.reason,
        "timestamp": stamp(alarm.updated),
    }
    if alarm.reason_data:
        state["reasonData"] = alarm.reason_data
    if alarm.suppressed_by:
        state["actionsSuppressedBy"] = alarm.suppressed_by
    return state


def _metrics(settings: dict[str, Any]) -> list[dict[str, Any]]:
    if "Metrics" not in settings:
        metric = {
            "namespace": settings["Namespace"],
            "name": settings["MetricName"],
            "dimensions": {each["Name"]: each["Value"] for each in settings.get("Dimensions") or ()},
        }
        statistic = settings.get("ExtendedStatistic") or settings.get("Statistic")
        stat = {"metric": metric, "period": settings["Period"], "stat": statistic}
        return [{"id": "m1", "metricStat": stat, "returnData": True}]
    found = []
    for query in settings["Metrics"]:
        shown: dict[str, Any] = {"id": query["Id"], "returnData": query.get("ReturnData", True)}
        if "Expression" in query:
            shown["expression"] = query["Expression"]
        else:
            stat = query["MetricStat"]
            shown["metricStat"] = {
                "metric": {
                    "namespace": stat["Metric"].get("Namespace"),
                    "name": stat["Metric"].get("MetricName"),
                    "dimensions": {
                        each["Name"]: each["Value"] for each in stat["Metric"].get("Dimensions") or ()
                    },
                },
                "period": stat["Period"],
                "stat": stat["Stat"],
            }
        found.append(shown)
    return found
