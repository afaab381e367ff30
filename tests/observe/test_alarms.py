"""Alarms: verdicts, states, actions, history."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from lambay.clock import Clock
from lambay.observe import Alarms, Metrics
from lambay.observe.alarms import rule
from lambay.observe.alarms.records import Alarm
from lambay.observe.alarms.verdict import Terms, Treatment, judge
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric
from lambay.store import Store

from .conftest import ACCOUNT, REGION, Client, Outside

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:ops"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:react"

# CloudWatch User Guide, "How alarm state is evaluated when data is missing": 0 is in order, X breaches.
THREE_OF_THREE = [
    ("0-X-X", "OK", "OK", "OK", "OK"),
    ("0----", "OK", "OK", "OK", "OK"),
    ("-----", "INSUFFICIENT_DATA", None, "ALARM", "OK"),
    ("0XX-X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("--X--", "ALARM", None, "ALARM", "OK"),
]
TWO_OF_THREE = [
    ("0-X-X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("00X0X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0-X--", "OK", "OK", "ALARM", "OK"),
    ("----0", "OK", "OK", "ALARM", "OK"),
    ("---X-", "ALARM", None, "ALARM", "OK"),
]
TABLES = [(3, *row) for row in THREE_OF_THREE] + [(2, *row) for row in TWO_OF_THREE]


@pytest.mark.parametrize(("needed", "given", "missing", "ignore", "breaching", "not_breaching"), TABLES)
def test_missing_data_is_treated_as_the_user_guide_says(
    needed: int, given: str, missing: Any, ignore: Any, breaching: Any, not_breaching: Any
) -> None:
    datapoints = [(60 * n, {"0": 0.0, "X": 9.0, "-": None}[each]) for n, each in enumerate(given)]

    def state(treatment: Treatment) -> Any:
        return judge(datapoints, Terms("GreaterThanThreshold", 5, 3, needed, treatment)).state

    assert state("missing") == missing
    assert state("ignore") == ignore
    assert state("breaching") == breaching
    assert state("notBreaching") == not_breaching


def test_a_reason_names_the_datapoints() -> None:
    terms = Terms("GreaterThanThreshold", 5, 1, 1, "missing")

    assert judge([(0, 9.0)], terms).reason == (
        "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (01/01/70 00:00:00)] was greater than the threshold "
        "(5) (minimum 1 datapoint for OK -> ALARM transition)."
    )


STATES: dict[str, Any] = {"a": "ALARM", "b": "OK", "c d": "INSUFFICIENT_DATA"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ALARM(a)", True),
        ('ALARM("a") AND OK("b")', True),
        ("ALARM(b) OR NOT OK(b)", False),
        ('NOT (ALARM(b) OR INSUFFICIENT_DATA("c d"))', False),
        ("ALARM(b) AND ALARM(a) OR TRUE", True),
        (f'ALARM("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:a")', True),
        ('AT_LEAST(2, ALARM, (a, b, "c d"))', False),
        ('AT_LEAST(2, NOT ALARM, (a, b, "c d"))', True),
        ('AT_LEAST(30%, ALARM, (a, b, "c d"))', True),
        ("FALSE", False),
    ],
)
def test_rules(text: str, holds: bool) -> None:
    assert rule.holds(rule.parse(text), STATES.__getitem__) == holds


@pytest.mark.parametrize(
    "text", ["", "ALARM()", "ALARM(a) AND", "a", "ALARM(a) ALARM(b)", "AT_LEAST(x, OK, (a))"]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(rule.InvalidRule):
        rule.parse(text)


def settings(name: str = "high", **more: Any) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "Namespace": "App",
        "MetricName": "Load",
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 5.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": [TOPIC],
    } | more


async def load(metrics: Metrics, clock: Clock, value: float, name: str = "Load") -> None:
    """In the minute that is just over."""
    at = int(clock.time()) // 60 * 60 - 60
    await metrics.put([Datum(Metric(ACCOUNT, REGION, "App", name), at, Point.of(value))])


async def state(cloudwatch: Client, name: str = "high") -> str:
    found = await cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
    value: str = alarm["StateValue"]
    return value


async def test_an_alarm_follows_its_metric(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock, outside: Outside
) -> None:
    await cloudwatch.put_metric_alarm(**settings(OKActions=[FUNCTION]))
    states = [await state(cloudwatch)]
    changes: list[Any] = []
    alarms.on_change(changes.append)
    for value in (9.0, 10.0, 1.0):
        await load(metrics, clock, value)
        await alarms.evaluate()
        await alarms.settled()
        states.append(await state(cloudwatch))
        clock.advance(timedelta(minutes=5))

    assert states == ["INSUFFICIENT_DATA", "ALARM", "ALARM", "OK"]
    (message,) = outside.published()
    assert (message["NewStateValue"], message["OldStateValue"]) == ("ALARM", "INSUFFICIENT_DATA")
    assert message["Trigger"]["MetricName"] == "Load"
    (trigger,) = outside.triggers
    assert trigger.function_arn == FUNCTION
    assert trigger.event["alarmData"]["state"]["value"] == "OK"
    events = [input["Entries"][0] for service, _, input in outside.calls if service == "events"]
    assert [json.loads(entry["Detail"])["state"]["value"] for entry in events] == ["ALARM", "OK"]
    assert events[0]["DetailType"] == "CloudWatch Alarm State Change"
    assert [(change.name, change.after.state) for change in changes] == [("high", "ALARM"), ("high", "OK")]
    assert alarms.states(ACCOUNT, REGION, ["high", "none"]) == {"high": "OK"}


async def test_alarms_are_evaluated_by_the_clock(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock, outside: Outside
) -> None:
    await cloudwatch.put_metric_alarm(**settings(Period=86_400))
    changed = asyncio.Event()
    alarms.on_change(lambda change: changed.set())
    await alarms.start()
    await load(metrics, clock, 9.0)
    clock.advance(timedelta(minutes=2))
    await asyncio.wait_for(changed.wait(), 60)

    assert await state(cloudwatch) == "ALARM"


async def test_disabled_actions_are_not_carried_out(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock, outside: Outside
) -> None:
    await cloudwatch.put_metric_alarm(**settings())
    await cloudwatch.disable_alarm_actions(AlarmNames=["high"])
    await load(metrics, clock, 9.0)
    await alarms.evaluate()
    await alarms.settled()

    assert await state(cloudwatch) == "ALARM"
    assert outside.published() == []


async def test_an_expression_alarms(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock
) -> None:
    stat = {"Metric": {"Namespace": "App", "MetricName": "Errors"}, "Period": 60, "Stat": "Sum"}
    total = {"Metric": {"Namespace": "App", "MetricName": "Calls"}, "Period": 60, "Stat": "Sum"}
    await cloudwatch.put_metric_alarm(
        AlarmName="rate",
        EvaluationPeriods=1,
        Threshold=10.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Metrics=[
            {"Id": "e", "MetricStat": stat, "ReturnData": False},
            {"Id": "c", "MetricStat": total, "ReturnData": False},
            {"Id": "rate", "Expression": "100 * e / c"},
        ],
    )
    await load(metrics, clock, 2.0, "Errors")
    await load(metrics, clock, 20.0, "Calls")
    await alarms.evaluate()

    assert await state(cloudwatch, "rate") == "ALARM"


async def test_few_samples_leave_a_percentile_alarm_as_it_is(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock
) -> None:
    given = settings(ExtendedStatistic="p99", EvaluateLowSampleCountPercentile="ignore")
    del given["Statistic"]
    await cloudwatch.put_metric_alarm(**given)
    await load(metrics, clock, 9.0)
    await alarms.evaluate()
    few = await state(cloudwatch)
    for _ in range(1000):
        await load(metrics, clock, 9.0)
    await alarms.evaluate()

    assert (few, await state(cloudwatch)) == ("INSUFFICIENT_DATA", "ALARM")


async def test_set_alarm_state_acts_and_the_next_evaluation_decides(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock, outside: Outside
) -> None:
    await cloudwatch.put_metric_alarm(**settings())
    await cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="a drill")
    await alarms.settled()
    forced = await state(cloudwatch)
    await load(metrics, clock, 1.0)
    await alarms.evaluate()

    assert (forced, await state(cloudwatch)) == ("ALARM", "OK")
    assert [message["NewStateReason"] for message in outside.published()] == ["a drill"]
    assert (
        await cloudwatch.refused("set_alarm_state", AlarmName="no", StateValue="OK", StateReason="")
    ).code == "ResourceNotFound"


async def test_a_composite_alarm_follows_its_children(
    cloudwatch: Client, alarms: Alarms, outside: Outside
) -> None:
    for name in ("a", "b"):
        await cloudwatch.put_metric_alarm(**settings(name, AlarmActions=[]))
    await cloudwatch.put_composite_alarm(
        AlarmName="both", AlarmRule='ALARM("a") AND ALARM(b)', AlarmActions=[TOPIC]
    )
    states = []
    for name in ("a", "b"):
        await cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
        states.append(await state(cloudwatch, "both"))
    await cloudwatch.set_alarm_state(AlarmName="a", StateValue="OK", StateReason="test")
    states.append(await state(cloudwatch, "both"))
    await alarms.settled()

    assert states == ["OK", "ALARM", "OK"]
    assert [(message["AlarmName"], message["AlarmRule"]) for message in outside.published()] == [
        ("both", 'ALARM("a") AND ALARM(b)')
    ]
    children = await cloudwatch.describe_alarms(ChildrenOfAlarmName="both")
    parents = await cloudwatch.describe_alarms(ParentsOfAlarmName="a")
    assert [alarm["AlarmName"] for alarm in children["MetricAlarms"]] == ["a", "b"]
    assert [alarm["AlarmName"] for alarm in parents["CompositeAlarms"]] == ["both"]


async def test_a_suppressor_keeps_a_composite_alarm_quiet_until_its_end(
    cloudwatch: Client, alarms: Alarms, clock: Clock, outside: Outside
) -> None:
    for name in ("a", "maintenance"):
        await cloudwatch.put_metric_alarm(**settings(name, AlarmActions=[], TreatMissingData="ignore"))
    await cloudwatch.put_composite_alarm(
        AlarmName="quiet",
        AlarmRule="ALARM(a)",
        AlarmActions=[TOPIC],
        ActionsSuppressor="maintenance",
        ActionsSuppressorWaitPeriod=60,
        ActionsSuppressorExtensionPeriod=120,
    )

    async def set_state(name: str, value: str) -> None:
        await cloudwatch.set_alarm_state(AlarmName=name, StateValue=value, StateReason="test")

    async def suppressed() -> str | None:
        found = await cloudwatch.describe_alarms(AlarmNames=["quiet"], AlarmTypes=["CompositeAlarm"])
        by: str | None = found["CompositeAlarms"][0].get("ActionsSuppressedBy")
        return by

    seen = []
    await set_state("maintenance", "ALARM")
    await set_state("a", "ALARM")
    seen.append(await suppressed())
    await set_state("maintenance", "OK")
    seen.append(await suppressed())
    clock.advance(timedelta(seconds=121))
    await alarms.evaluate()
    await alarms.settled()
    seen.append(await suppressed())

    assert seen == ["Alarm", "ExtensionPeriod", None]
    assert [message["NewStateValue"] for message in outside.published()] == ["ALARM"]


async def test_an_alarm_deleted_while_others_change_stays_deleted(
    cloudwatch: Client, alarms: Alarms, store: Store
) -> None:
    await cloudwatch.put_metric_alarm(**settings("a", AlarmActions=[]))
    for name in ("first", "second"):
        await cloudwatch.put_composite_alarm(AlarmName=name, AlarmRule="ALARM(a)")
    deleting: list[asyncio.Task[Any]] = []

    def delete_the_second(change: Any) -> None:
        if change.name == "a":
            deleting.append(asyncio.create_task(cloudwatch.delete_alarms(AlarmNames=["second"])))

    alarms.on_change(delete_the_second)
    await cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="test")
    await asyncio.gather(*deleting)

    assert [alarm.name for alarm in alarms.records] == ["a", "first"]
    assert await state(cloudwatch, "first") == "ALARM"


async def test_setting_a_state_leaves_settings_that_are_put_meanwhile(
    cloudwatch: Client, alarms: Alarms
) -> None:
    await cloudwatch.put_metric_alarm(**settings("a", AlarmActions=[]))
    await cloudwatch.put_metric_alarm(**settings("b", AlarmActions=[]))
    later: list[asyncio.Task[Any]] = []

    def change_b(change: Any) -> None:
        if change.name == "a":
            forced = cloudwatch.set_alarm_state(AlarmName="b", StateValue="ALARM", StateReason="test")
            put = cloudwatch.put_metric_alarm(**settings("b", AlarmActions=[], Threshold=77.0))
            later.extend((asyncio.create_task(forced), asyncio.create_task(put)))

    # The states of a and then of b, which waits for the first while b gets another threshold.
    alarms.on_change(change_b)
    await cloudwatch.put_composite_alarm(AlarmName="c", AlarmRule="ALARM(a)")
    await cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="test")
    await asyncio.gather(*later)

    (kept,) = (await cloudwatch.describe_alarms(AlarmNames=["b"]))["MetricAlarms"]
    assert (kept["Threshold"], kept["StateValue"]) == (77.0, "ALARM")


async def test_no_alarm_goes_off_by_a_threshold_that_was_changed_meanwhile(
    cloudwatch: Client,
    alarms: Alarms,
    metrics: Metrics,
    clock: Clock,
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await cloudwatch.put_metric_alarm(**settings())
    await load(metrics, clock, 9.0)
    read = metrics.store.read

    async def read_then_change(work: Any) -> Any:
        found = await read(work)
        monkeypatch.setattr(metrics.store, "read", read)
        await cloudwatch.put_metric_alarm(**settings(Threshold=50.0))
        return found

    monkeypatch.setattr(metrics.store, "read", read_then_change)
    await alarms.evaluate()
    await alarms.settled()
    before = await state(cloudwatch)
    await alarms.evaluate()

    assert (before, await state(cloudwatch)) == ("INSUFFICIENT_DATA", "OK")
    assert outside.published() == []


async def test_history_tells_what_happened(
    cloudwatch: Client, alarms: Alarms, metrics: Metrics, clock: Clock
) -> None:
    await cloudwatch.put_metric_alarm(**settings())
    await cloudwatch.put_metric_alarm(**settings(Threshold=6.0))
    await load(metrics, clock, 9.0)
    await alarms.evaluate()
    await alarms.settled()

    first = await cloudwatch.describe_alarm_history(
        AlarmName="high", ScanBy="TimestampAscending", MaxRecords=3
    )
    rest = await cloudwatch.describe_alarm_history(
        AlarmName="high", ScanBy="TimestampAscending", MaxRecords=3, NextToken=first["NextToken"]
    )
    items = first["AlarmHistoryItems"] + rest["AlarmHistoryItems"]
    assert [item["HistoryItemType"] for item in items] == [
        "ConfigurationUpdate",
        "ConfigurationUpdate",
        "StateUpdate",
        "Action",
    ]
    assert items[2]["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM"
    assert json.loads(items[2]["HistoryData"])["newState"]["stateReasonData"]["recentDatapoints"] == [9.0]


async def test_alarms_outlive_the_process_with_their_state(
    cloudwatch: Client, tmp_path: Any, metrics: Metrics, alarms: Alarms
) -> None:
    await cloudwatch.put_metric_alarm(**settings(Tags=[{"Key": "team", "Value": "x"}]))
    await cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="test")

    again = Store(tmp_path / "lambay.db")
    (kept,) = list(again.collection("cloudwatch.alarms", Alarm))
    again.close()

    assert (kept.state, kept.tags, kept.settings["Threshold"]) == ("ALARM", {"team": "x"}, 5.0)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"AlarmActions": ["ops"]}, "Invalid arn syntax in AlarmActions.member.1"),
    ({"AlarmActions": ["arn:aws:ssm:eu-west-1:1:opsitem:1"]}, "actions of ssm are not supported"),
    ({"DatapointsToAlarm": 2}, "DatapointsToAlarm must be less"),
    ({"TreatMissingData": "whatever"}, "TreatMissingData"),
    ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "anomaly detection"),
    ({"ThresholdMetricId": "t"}, "ThresholdMetricId"),
    ({"ExtendedStatistic": "p99"}, "Exactly one of Statistic"),
    ({"Period": 45}, "Period must be"),
    ({"Period": 86_400, "EvaluationPeriods": 8}, "seven days"),
    ({"EvaluationCriteria": {"PromQLCriteria": {"Query": "up"}}}, "PromQL"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED)
async def test_what_cannot_be_watched_is_refused(cloudwatch: Client, more: dict[str, Any], said: str) -> None:
    error = await cloudwatch.refused("put_metric_alarm", **settings(**more))

    assert error.code == "ValidationError"
    assert said in error.message


async def test_composite_rules_are_checked(cloudwatch: Client) -> None:
    await cloudwatch.put_metric_alarm(**settings("a"))
    await cloudwatch.put_composite_alarm(AlarmName="c1", AlarmRule="ALARM(a)")
    await cloudwatch.put_composite_alarm(AlarmName="c2", AlarmRule="ALARM(c1)")

    circle = await cloudwatch.refused("put_composite_alarm", AlarmName="c1", AlarmRule="ALARM(c2)")
    absent = await cloudwatch.refused("put_composite_alarm", AlarmName="c3", AlarmRule="ALARM(zz)")
    unread = await cloudwatch.refused("put_composite_alarm", AlarmName="c3", AlarmRule="ALARM(a) AN")

    assert "depend on itself" in circle.message
    assert "do not exist" in absent.message
    assert "AlarmRule: unexpected input at character" in unread.message


async def test_alarms_are_described_by_page_prefix_state_and_metric(cloudwatch: Client) -> None:
    for number in range(5):
        await cloudwatch.put_metric_alarm(**settings(f"x-{number}"))
    await cloudwatch.put_metric_alarm(**settings("y", MetricName="Other"))
    await cloudwatch.set_alarm_state(AlarmName="x-3", StateValue="ALARM", StateReason="")

    first = await cloudwatch.describe_alarms(AlarmNamePrefix="x-", MaxRecords=3)
    second = await cloudwatch.describe_alarms(
        AlarmNamePrefix="x-", MaxRecords=3, NextToken=first["NextToken"]
    )
    in_alarm = await cloudwatch.describe_alarms(StateValue="ALARM")
    by_metric = await cloudwatch.describe_alarms_for_metric(Namespace="App", MetricName="Other")
    by_action = await cloudwatch.describe_alarms(ActionPrefix="arn:aws:sns")
    await cloudwatch.delete_alarms(AlarmNames=["x-0", "x-1", "none"])

    names = [alarm["AlarmName"] for alarm in first["MetricAlarms"] + second["MetricAlarms"]]
    assert names == [f"x-{number}" for number in range(5)]
    assert [alarm["AlarmName"] for alarm in in_alarm["MetricAlarms"]] == ["x-3"]
    assert [alarm["AlarmName"] for alarm in by_metric["MetricAlarms"]] == ["y"]
    assert len(by_action["MetricAlarms"]) == 6
    assert len((await cloudwatch.describe_alarms())["MetricAlarms"]) == 4


async def test_tags(cloudwatch: Client) -> None:
    await cloudwatch.put_metric_alarm(**settings())
    arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:high"
    await cloudwatch.tag_resource(
        ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    )
    await cloudwatch.untag_resource(ResourceARN=arn, TagKeys=["a"])

    assert (await cloudwatch.list_tags_for_resource(ResourceARN=arn))["Tags"] == [{"Key": "b", "Value": "2"}]
    assert (
        await cloudwatch.refused("list_tags_for_resource", ResourceARN=arn + "x")
    ).code == "ResourceNotFoundException"
