"""The operations on alarms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from lambay.aws import AWSError, Call, Service
from lambay.observe.alarms import rule
from lambay.observe.alarms.records import Alarm
from lambay.observe.alarms.service import Alarms, watch
from lambay.observe.alarms.verdict import COMPARISONS
from lambay.observe.log_requests import continuation, continued
from lambay.observe.metrics import queries, statistics
from lambay.observe.metrics.errors import validation
from lambay.observe.metrics.records import dimensions
from lambay.pages import paginate

Input = Mapping[str, Any]
Output = dict[str, Any]

_MOST_ALARMS = 5000
_PAGE = 50
_HISTORY_PAGE = 100
_MISSING = ("missing", "ignore", "breaching", "notBreaching")
_ACTION_MEMBERS = ("OKActions", "AlarmActions", "InsufficientDataActions")
_UNSUPPORTED = {
    "ThresholdMetricId": "anomaly detection is not supported",
    "EvaluationCriteria": "PromQL alarms are not supported",
    "WarmUpConfiguration": "a warm-up period is not supported",
}
_NOT_KEPT = {"AlarmName", "Tags", "ActionsEnabled", "AlarmRule"}


class AlarmOperations(Service):
    """Metric and composite alarms; anomaly detection, PromQL and log alarms are absent."""

    service_name = "cloudwatch"
    _alarms: Alarms

    async def put_metric_alarm(self, call: Call, input: Input) -> Output:
        self._check_metric_alarm(call, input)
        await self._put(call, input, None)
        return {}

    async def put_composite_alarm(self, call: Call, input: Input) -> Output:
        text, name = input["AlarmRule"], input["AlarmName"]
        try:
            parsed = rule.parse(text)
        except rule.InvalidRule as error:
            raise validation(f"AlarmRule: {error}") from None
        about = rule.alarms(parsed)
        if len(about) > rule.MOST_ALARMS:
            raise validation(f"AlarmRule: at most {rule.MOST_ALARMS} alarms; {len(about)} were given.")
        place = f"{call.account}/{call.region}"
        absent = sorted(each for each in about if f"{place}/{each}" not in self._alarms.records)
        if absent:
            raise validation(
                f"Could not save the composite alarm as alarms {absent} in the alarm rule do not exist."
            )
        if self._reaches(place, about, name):
            raise validation(f"AlarmRule: {name} would depend on itself.")
        self._check_suppressor(place, input)
        self._check_actions(input)
        await self._put(call, input, text)
        return {}

    async def delete_alarms(self, call: Call, input: Input) -> Output:
        """Alarms that are not there are passed over; composite alarms are deleted one a request."""
        found = [alarm for name in input["AlarmNames"] if (alarm := self._alarm(call, name)) is not None]
        if any(alarm.rule is not None for alarm in found) and len(input["AlarmNames"]) > 1:
            raise validation("A composite alarm can only be deleted in a request of its own.")
        await self._alarms.remove(found)
        return {}

    async def describe_alarms(self, call: Call, input: Input) -> Output:
        names, prefix = input.get("AlarmNames"), input.get("AlarmNamePrefix")
        if names is not None and prefix is not None:
            raise validation("AlarmNames and AlarmNamePrefix are mutually exclusive.")
        types = input.get("AlarmTypes") or (
            ["MetricAlarm"]
            if not ({"ChildrenOfAlarmName", "ParentsOfAlarmName"} & input.keys())
            else ["MetricAlarm", "CompositeAlarm"]
        )
        alarms: Iterable[Alarm] = self._alarms.records.under(f"{call.account}/{call.region}/{prefix or ''}")
        related = self._related(call, input)
        action = input.get("ActionPrefix")
        chosen = [
            alarm
            for alarm in alarms
            if alarm.type in types
            and (not names or alarm.name in names)
            and (related is None or alarm.name in related)
            and input.get("StateValue") in (None, alarm.state)
            and (action is None or any(each.startswith(action) for each in _actions(alarm)))
        ]
        page = paginate(
            chosen,
            key=lambda alarm: alarm.name,
            token=input.get("NextToken"),
            limit=input.get("MaxRecords", _PAGE if not names else 100),
            invalid=lambda text: AWSError("InvalidNextToken", text),
            scope="DescribeAlarms",
        )
        output: Output = {
            "MetricAlarms": [_metric_alarm(alarm) for alarm in page.items if alarm.rule is None],
            "CompositeAlarms": [_composite_alarm(alarm) for alarm in page.items if alarm.rule is not None],
        }
        if page.next_token:
            output["NextToken"] = page.next_token
        return output

    async def describe_alarms_for_metric(self, call: Call, input: Input) -> Output:
        wanted = _dimensions(input)
        found = [
            alarm
            for alarm in self._alarms.records.under(f"{call.account}/{call.region}/")
            if alarm.rule is None
            and alarm.settings.get("MetricName") == input["MetricName"]
            and alarm.settings.get("Namespace") == input["Namespace"]
            and _dimensions(alarm.settings) == wanted
            and all(
                name not in input or alarm.settings.get(name) == input[name]
                for name in ("Statistic", "ExtendedStatistic", "Period", "Unit")
            )
        ]
        return {"MetricAlarms": [_metric_alarm(alarm) for alarm in found]}

    async def describe_alarm_history(self, call: Call, input: Input) -> Output:
        descending = input.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        limit = input.get("MaxRecords", _HISTORY_PAGE)
        try:
            place = continued(input.get("NextToken"), int)
        except AWSError:
            raise AWSError("InvalidNextToken", "The next token specified is invalid.") from None
        items = await self._alarms.history.items(
            call.account,
            call.region,
            alarm=input.get("AlarmName"),
            # If AlarmTypes is absent, only metric alarms' history is meant.
            types=input.get("AlarmTypes") or ["MetricAlarm"],
            item=input.get("HistoryItemType"),
            start=_seconds(input.get("StartDate"), 0.0),
            end=_seconds(input.get("EndDate"), float("inf")),
            descending=descending,
            after=place[0] if place else None,
            limit=limit + 1,
        )
        output: Output = {
            "AlarmHistoryItems": [
                {
                    "AlarmName": each.alarm,
                    "AlarmType": each.type,
                    "Timestamp": datetime.fromtimestamp(each.at, UTC),
                    "HistoryItemType": each.item,
                    "HistorySummary": each.summary,
                    "HistoryData": each.body,
                }
                for each in items[:limit]
            ]
        }
        if len(items) > limit:
            output["NextToken"] = continuation(items[limit - 1].id)
        return output

    async def set_alarm_state(self, call: Call, input: Input) -> Output:
        alarm = self._alarm(call, input["AlarmName"])
        if alarm is None:
            raise AWSError("ResourceNotFound", f"There is no alarm named {input['AlarmName']}.")
        data = input.get("StateReasonData", "")
        if data:
            try:
                json.loads(data)
            except ValueError as error:
                raise AWSError("InvalidFormatFault", f"StateReasonData is not JSON: {error}") from None
        await self._alarms.set_state(alarm, input["StateValue"], input["StateReason"], data)
        return {}

    async def enable_alarm_actions(self, call: Call, input: Input) -> Output:
        await self._switch_actions(call, input, enabled=True)
        return {}

    async def disable_alarm_actions(self, call: Call, input: Input) -> Output:
        await self._switch_actions(call, input, enabled=False)
        return {}

    async def _switch_actions(self, call: Call, input: Input, *, enabled: bool) -> None:
        for name in input["AlarmNames"]:
            alarm = self._alarm(call, name)
            if alarm is not None and alarm.actions_enabled != enabled:
                await self._alarms.put(replace(alarm, actions_enabled=enabled), "Updated")

    async def _put(self, call: Call, input: Input, text: str | None) -> None:
        now = self._alarms.now()
        before = self._alarm(call, input["AlarmName"])
        if before is not None and (before.rule is None) != (text is None):
            raise validation(f"An alarm of another type is named {input['AlarmName']} already.")
        place = f"{call.account}/{call.region}/"
        if before is None and len(self._alarms.records.under(place)) >= _MOST_ALARMS:
            raise AWSError("LimitExceededFault", f"At most {_MOST_ALARMS} alarms in an account and Region.")
        kept = {name: value for name, value in input.items() if name not in _NOT_KEPT}
        given = {each["Key"]: each["Value"] for each in input.get("Tags") or ()}
        alarm = Alarm(
            account=call.account,
            region=call.region,
            name=input["AlarmName"],
            settings=kept,
            rule=text,
            actions_enabled=input.get("ActionsEnabled", True),
            configured=now,
            updated=now,
            transitioned=now,
            tags=given,
        )
        if before is not None:
            alarm = replace(
                before,
                settings=kept,
                rule=text,
                actions_enabled=input.get("ActionsEnabled", True),
                configured=now,
            )
        await self._alarms.put(alarm, "Created" if before is None else "Updated")

    def _alarm(self, call: Call, name: str) -> Alarm | None:
        return self._alarms.records.get(f"{call.account}/{call.region}/{name}")

    def _reaches(self, place: str, about: set[str], name: str) -> bool:
        """Whether one of the alarms depends on the alarm `name`, or is it."""
        seen: set[str] = set()
        waiting = list(about)
        while waiting:
            each = waiting.pop()
            if each == name:
                return True
            if each in seen:
                continue
            seen.add(each)
            alarm = self._alarms.records.get(f"{place}/{each}")
            if alarm is not None and alarm.rule is not None:
                waiting += rule.alarms(rule.parse(alarm.rule))
        return False

    def _related(self, call: Call, input: Input) -> set[str] | None:
        child_of, parent_of = input.get("ChildrenOfAlarmName"), input.get("ParentsOfAlarmName")
        if child_of is not None:
            alarm = self._alarm(call, child_of)
            return rule.alarms(rule.parse(alarm.rule)) if alarm is not None and alarm.rule else set()
        if parent_of is None:
            return None
        return {
            alarm.name
            for alarm in self._alarms.records.under(f"{call.account}/{call.region}/")
            if alarm.rule is not None and parent_of in rule.alarms(rule.parse(alarm.rule))
        }

    # -- checks --------------------------------------------------------------------------------------------

    def _check_metric_alarm(self, call: Call, input: Input) -> None:
        for member, why in _UNSUPPORTED.items():
            if input.get(member):
                raise validation(f"{member}: {why}.")
        if input.get("ComparisonOperator") not in COMPARISONS:
            given = input.get("ComparisonOperator")
            raise validation(
                "ComparisonOperator: "
                + (
                    f"{given} needs anomaly detection, which is not supported."
                    if given
                    else "it is required."
                )
            )
        for member in ("EvaluationPeriods", "Threshold"):
            if member not in input:
                raise validation(f"{member}: it is required.")
        if input.get("DatapointsToAlarm", 1) > input["EvaluationPeriods"]:
            raise validation("DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
        if input.get("TreatMissingData", "missing") not in _MISSING:
            raise validation(
                f"TreatMissingData: {input['TreatMissingData']!r} is not one of {', '.join(_MISSING)}."
            )
        if input.get("EvaluateLowSampleCountPercentile", "ignore") not in ("evaluate", "ignore"):
            raise validation(
                "EvaluateLowSampleCountPercentile: "
                f"{input['EvaluateLowSampleCountPercentile']!r} is not evaluate or ignore."
            )
        zone = ((input.get("EvaluationWindow") or {}).get("WallClockWindow") or {}).get("Timezone", "UTC")
        if zone != "UTC":
            raise validation(f"EvaluationWindow.WallClockWindow.Timezone: {zone!r}: only UTC is supported.")
        self._check_metric(input)
        self._check_actions(input)
        period = watch(dict(input), call.account, call.region).period
        if period * input["EvaluationPeriods"] > 7 * 86_400:
            raise validation(
                "Metrics cannot be checked across more than seven days (EvaluationPeriods * Period)."
            )

    def _check_metric(self, input: Input) -> None:
        single = [
            name
            for name in (
                "MetricName",
                "Namespace",
                "Statistic",
                "ExtendedStatistic",
                "Dimensions",
                "Unit",
                "Period",
            )
            if name in input
        ]
        if "Metrics" in input:
            if single:
                raise validation(f"Metrics and {single[0]} are mutually exclusive.")
            return
        for member in ("MetricName", "Namespace", "Period"):
            if member not in input:
                raise validation(f"{member}: it is required where Metrics is absent.")
        if ("Statistic" in input) == ("ExtendedStatistic" in input):
            raise validation("Exactly one of Statistic and ExtendedStatistic must be given.")
        if "ExtendedStatistic" in input and statistics.parse(input["ExtendedStatistic"]) is None:
            raise validation(f"ExtendedStatistic: {input['ExtendedStatistic']!r} is not a statistic.")
        queries.check_period(input["Period"], "Period")

    def _check_actions(self, input: Input) -> None:
        services = self._alarms.services
        for member in _ACTION_MEMBERS:
            for number, action in enumerate(input.get(member) or (), start=1):
                parts = action.split(":")
                if len(parts) < 6 or parts[0] != "arn":
                    raise validation(f"Invalid arn syntax in {member}.member.{number}: {action}")
                if parts[2] not in services:
                    raise validation(
                        f"{member}.member.{number}: {action}: actions of {parts[2]} are not supported; "
                        f"of {', '.join(services)} they are."
                    )

    def _check_suppressor(self, place: str, input: Input) -> None:
        suppressor = input.get("ActionsSuppressor")
        periods = [input.get(f"ActionsSuppressor{each}Period") for each in ("Wait", "Extension")]
        if suppressor is None:
            if any(period is not None for period in periods):
                raise validation("ActionsSuppressor is required with its wait and extension periods.")
            return
        if None in periods:
            raise validation(
                "ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod are required with "
                "ActionsSuppressor."
            )
        (name,) = rule.alarms(rule.parse(f'ALARM("{suppressor}")'))
        if f"{place}/{name}" not in self._alarms.records:
            raise validation(f"ActionsSuppressor: there is no alarm {suppressor}.")


def _seconds(moment: datetime | None, otherwise: float) -> float:
    return otherwise if moment is None else moment.timestamp()


def _dimensions(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return dimensions({each["Name"]: each["Value"] for each in settings.get("Dimensions") or ()})


def _actions(alarm: Alarm) -> Sequence[str]:
    return [action for member in _ACTION_MEMBERS for action in alarm.settings.get(member) or ()]


def _described(alarm: Alarm) -> Output:
    described: Output = {
        **msgspec.to_builtins(alarm.settings),
        "AlarmName": alarm.name,
        "AlarmArn": alarm.arn,
        "ActionsEnabled": alarm.actions_enabled,
        "AlarmConfigurationUpdatedTimestamp": datetime.fromtimestamp(alarm.configured, UTC),
        "StateValue": alarm.state,
        "StateReason": alarm.reason,
        "StateUpdatedTimestamp": datetime.fromtimestamp(alarm.updated, UTC),
        "StateTransitionedTimestamp": datetime.fromtimestamp(alarm.transitioned, UTC),
    }
    for member in _ACTION_MEMBERS:
        described.setdefault(member, [])
    if alarm.reason_data:
        described["StateReasonData"] = alarm.reason_data
    return described


def _metric_alarm(alarm: Alarm) -> Output:
    described = _described(alarm)
    if "Metrics" not in described:
        described.setdefault("Dimensions", [])
    return described


def _composite_alarm(alarm: Alarm) -> Output:
    described = _described(alarm) | {"AlarmRule": alarm.rule}
    if alarm.suppressed_by is not None:
        described["ActionsSuppressedBy"] = alarm.suppressed_by
        described["ActionsSuppressedReason"] = f"Actions suppressed by {alarm.suppressed_by}"
    return described
