"""`Alarms`: evaluates each minute by the clock, changes states, and has actions carried out."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.observe.alarms import rule, verdict
from lambay.observe.alarms.actions import Actions
from lambay.observe.alarms.history import History
from lambay.observe.alarms.messages import stamp
from lambay.observe.alarms.records import Alarm, AlarmChange, State
from lambay.observe.alarms.verdict import Datapoint, Terms, Verdict
from lambay.observe.metrics import queries
from lambay.observe.metrics.errors import validation
from lambay.observe.metrics.queries import Evaluation, Query
from lambay.observe.metrics.service import Metrics
from lambay.store import Store

_log = logging.getLogger("lambay.observe")

_MINUTE = 60
_SHORTEST_PERIOD = 10
_LAG_SECONDS = 2.0
"""How long after a minute's end its metrics are taken for complete."""

OnChange = Callable[[AlarmChange], Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a metric alarm looks at: `returned` is the query that is compared; `samples` counts its values."""

    queries: Sequence[Query]
    period: int
    terms: Terms
    samples_needed: float | None


class Alarms:
    """Every account's and Region's. `caught_up` returns when all metrics until now are put."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        clock: Clock,
        actions: Actions,
        caught_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._actions = actions
        self._caught_up = caught_up
        self.history = History(metrics.store)
        self.records = store.collection("cloudwatch.alarms", Alarm)
        self._listeners: list[OnChange] = []
        self._evaluating: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._watches: dict[str, tuple[Alarm, Watch]] = {}

    async def start(self) -> None:
        self._evaluating = asyncio.create_task(self._run(), name="alarm evaluation")

    async def stop(self) -> None:
        """End; actions that have begun are carried out first."""
        if self._evaluating is not None:
            self._evaluating.cancel()
            await asyncio.gather(self._evaluating, return_exceptions=True)
            self._evaluating = None
        await self.settled()

    async def settled(self) -> None:
        """When every action that was begun is done."""
        while self._telling:
            await asyncio.wait(set(self._telling))

    def states(self, account: str, region: str, names: Iterable[str]) -> dict[str, State]:
        """The states of those alarms that there are."""
        found = ((name, self.records.get(f"{account}/{region}/{name}")) for name in names)
        return {name: alarm.state for name, alarm in found if alarm is not None}

    def now(self) -> float:
        return self._clock.time()

    def on_change(self, listener: OnChange) -> None:
        """Have `listener(change)` called in the event loop after each change of a state, once it is durable."""
        self._listeners.append(listener)

    def carries_out(self, service: str, perform: Callable[[str, AlarmChange], Awaitable[None]]) -> None:
        """Have `perform(action ARN, change)` called for actions of a service."""
        self._actions.carries_out(service, perform)

    @property
    def services(self) -> list[str]:
        """The services whose ARNs may be actions."""
        return self._actions.services()

    async def put(self, alarm: Alarm, what: str) -> None:
        """Keep an alarm that was made or changed by a request; `what` is Created or Updated."""
        await self._store.commit(self.records.put(alarm.key, alarm))
        await self.history.configured(alarm, what, self._clock.time())
        if alarm.rule is not None:
            await self._evaluate_composites(alarm.account, alarm.region)
        self._changed.set()

    async def remove(self, alarms: Sequence[Alarm]) -> None:
        await self._store.commit(*(self.records.remove(alarm.key) for alarm in alarms))
        for alarm in alarms:
            self._watches.pop(alarm.key, None)
            await self.history.configured(alarm, "Deleted", self._clock.time())

    async def set_state(self, alarm: Alarm, state: State, reason: str, reason_data: str) -> None:
        """As a request wants it; the next evaluation may change it again."""
        async with self._one_at_a_time:
            current = self.records.get(alarm.key)
            if current is None:
                return
            await self._change(current, state, reason, reason_data)
            await self._composites(alarm.account, alarm.region)

    async def evaluate(self) -> None:
        """Look at every metric alarm once, as of now."""
        await self._caught_up()
        async with self._one_at_a_time:
            now = self._clock.time()
            alarms = [alarm for alarm in self.records if alarm.rule is None]
            places = set()
            for alarm in alarms:
                try:
                    judged = await self._judge(alarm, now)
                except AWSError as error:
                    _log.warning("alarm %s cannot be evaluated: %s", alarm.name, error)
                    continue
                current = self.records.get(alarm.key)
                # What was judged by settings that were changed meanwhile is judged anew next time.
                if current is None or current.settings is not alarm.settings:
                    continue
                if judged is None or judged.state in (None, current.state):
                    continue
                assert judged.state is not None
                data = self._reason_data(current, judged, now)
                await self._change(current, judged.state, judged.reason, data)
                places.add((alarm.account, alarm.region))
            for place in places:
                await self._composites(*place)
            await self._end_suppressions()

    # -- metric alarms -------------------------------------------------------------------------------------

    def watch(self, alarm: Alarm) -> Watch:
        """Raises AWSError where its queries cannot be read."""
        known = self._watches.get(alarm.key)
        if known is not None and known[0].settings is alarm.settings:
            return known[1]
        found = watch(alarm.settings, alarm.account, alarm.region)
        self._watches[alarm.key] = (alarm, found)
        return found

    async def _judge(self, alarm: Alarm, now: float) -> Verdict | None:
        watched = self.watch(alarm)
        step = min(_MINUTE, watched.period)
        if "WallClockWindow" in (alarm.settings.get("EvaluationWindow") or {}):
            step = watched.period
        end = int(now) // step * step
        count = watched.terms.periods + verdict.EXTRA_PERIODS
        start = end - count * watched.period
        asked = list(watched.queries)

        def read(connection: sqlite3.Connection) -> list[queries.Result]:
            return Evaluation(connection, alarm.account, alarm.region, asked, start, end, start).results()

        results = {result.id: result.series.values for result in await self._metrics.store.read(read)}
        returned = next(query.id for query in asked if query.returned)
        values = results.get(returned, {})
        if watched.samples_needed is not None:
            samples = results.get(_SAMPLES, {})
            if any(samples.get(at, 0.0) < watched.samples_needed for at in values):
                return None
        datapoints: list[Datapoint] = [(at, values.get(at)) for at in range(start, end, watched.period)]
        return verdict.judge(datapoints, watched.terms)

    def _reason_data(self, alarm: Alarm, judged: Verdict, now: float) -> str:
        settings = alarm.settings
        told: dict[str, Any] = {
            "version": "1.0",
            "queryDate": stamp(now),
            "period": self.watch(alarm).period,
            "recentDatapoints": [value for _, value in reversed(judged.used)],
            "threshold": settings.get("Threshold"),
            "evaluatedDatapoints": [{"timestamp": stamp(at), "value": value} for at, value in judged.used],
        }
        if judged.used:
            told["startDate"] = stamp(judged.used[-1][0])
        statistic = settings.get("ExtendedStatistic") or settings.get("Statistic")
        if statistic:
            told["statistic"] = statistic
        if settings.get("Unit"):
            told["unit"] = settings["Unit"]
        return json.dumps(told)

    # -- composite alarms ----------------------------------------------------------------------------------

    async def _evaluate_composites(self, account: str, region: str) -> None:
        async with self._one_at_a_time:
            await self._composites(account, region)

    async def _composites(self, account: str, region: str) -> None:
        """Until no composite alarm's state changes; rules do not refer to each other in circles."""
        changed = True
        while changed:
            changed = False
            for key in [each.key for each in self.records.under(f"{account}/{region}/")]:
                alarm = self.records.get(key)
                if alarm is None or alarm.rule is None:
                    continue
                parsed = rule.parse(alarm.rule)
                state: State = "ALARM" if rule.holds(parsed, self._state_of(account, region)) else "OK"
                if state == alarm.state:
                    continue
                changed = True
                about = sorted(rule.alarms(parsed))
                told = [
                    {"arn": each.arn, "state": {"value": each.state, "timestamp": stamp(each.updated)}}
                    for name in about
                    if (each := self.records.get(f"{account}/{region}/{name}")) is not None
                ]
                reason = f"{', '.join(each['arn'] for each in told) or 'The rule'} transitioned the rule to {state}"  # type: ignore[misc]
                await self._change(alarm, state, reason[:1023], json.dumps({"triggeringAlarms": told})[:4000])
        await self._end_suppressions()

    def _state_of(self, account: str, region: str) -> rule.StateOf:
        def state_of(name: str) -> State:
            alarm = self.records.get(f"{account}/{region}/{name}")
            return "INSUFFICIENT_DATA" if alarm is None else alarm.state

        return state_of

    # -- changes and actions -------------------------------------------------------------------------------

    async def _change(self, alarm: Alarm, state: State, reason: str, reason_data: str) -> None:
        """`alarm` is as it is kept right now: nothing was awaited since, or what requests changed would be undone."""
        now = self._clock.time()
        after = replace(
            alarm,
            state=state,
            reason=reason[:1023],
            reason_data=reason_data[:4000],
            updated=now,
            transitioned=now if state != alarm.state else alarm.transitioned,
        )
        if state == alarm.state:
            await self._store.commit(self.records.put(after.key, after))
            return
        after = self._suppressed(after, now)
        acts = after.suppressed_by is None and after.acted != state
        if acts:
            after = replace(after, acted=state)
        await self._store.commit(self.records.put(after.key, after))
        change = AlarmChange(alarm, after, now)
        await self.history.changed(change)
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                _log.exception("a listener failed on alarm %s", alarm.name)
        self._spawn(self._actions.tell_bus(change))
        if acts:
            self._act(change)

    def _act(self, change: AlarmChange) -> None:
        if not change.after.actions_enabled:
            return
        for action in change.after.actions:
            self._spawn(self._carry_out(action, change))

    async def _carry_out(self, action: str, change: AlarmChange) -> None:
        error = await self._actions.carry_out(action, change)
        await self.history.acted(change, action, error, self._clock.time())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name="alarm action")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    # -- suppression ---------------------------------------------------------------------------------------

    def _suppressed(self, alarm: Alarm, now: float) -> Alarm:
        """With what keeps a changed composite alarm from acting, if something does."""
        suppressor = alarm.settings.get("ActionsSuppressor") if alarm.rule is not None else None
        if suppressor is None:
            return replace(alarm, suppressed_by=None, suppressed_until=None)
        if self._suppressing(alarm):
            return replace(alarm, suppressed_by="Alarm", suppressed_until=None)
        wait = alarm.settings.get("ActionsSuppressorWaitPeriod") or 0
        if alarm.state == "ALARM" and wait:
            return replace(alarm, suppressed_by="WaitPeriod", suppressed_until=now + wait)
        return replace(alarm, suppressed_by=None, suppressed_until=None)

    def _suppressing(self, alarm: Alarm) -> bool:
        name = rule.parse(f'ALARM("{alarm.settings["ActionsSuppressor"]}")')
        return rule.holds(name, self._state_of(alarm.account, alarm.region))

    async def _end_suppressions(self) -> None:
        """Let those act whose suppressor is no longer in alarm and whose periods are over."""
        now = self._clock.time()
        for key in [each.key for each in self.records]:
            alarm = self.records.get(key)
            if alarm is None or alarm.suppressed_by is None:
                continue
            after = self._as_of(alarm, now)
            if after is alarm:
                continue
            acts = after.suppressed_by is None and after.acted != after.state
            before = replace(after, state=after.acted)
            if acts:
                after = replace(after, acted=after.state)
            await self._store.commit(self.records.put(after.key, after))
            if acts:
                self._act(AlarmChange(before, after, now))
            if after.suppressed_until is not None:
                self._changed.set()

    def _as_of(self, alarm: Alarm, now: float) -> Alarm:
        if self._suppressing(alarm):
            if alarm.suppressed_by == "Alarm":
                return alarm
            return replace(alarm, suppressed_by="Alarm", suppressed_until=None)
        if alarm.suppressed_by == "Alarm":
            extension = alarm.settings.get("ActionsSuppressorExtensionPeriod") or 0
            if extension:
                return replace(alarm, suppressed_by="ExtensionPeriod", suppressed_until=now + extension)
            return replace(alarm, suppressed_by=None)
        if alarm.suppressed_until is not None and alarm.suppressed_until > now:
            return alarm
        return replace(alarm, suppressed_by=None, suppressed_until=None)

    # -- when ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wait()
            try:
                await self.evaluate()
            except Exception:
                _log.exception("alarms could not be evaluated; trying again")

    async def _wait(self) -> None:
        """Until shortly behind the next minute, or sooner where an alarm's period or a suppression ends."""
        while True:
            self._changed.clear()
            now = self._clock.time()
            step = min((self._step(alarm) for alarm in self.records if alarm.rule is None), default=_MINUTE)
            due = (now - _LAG_SECONDS) // step * step + step + _LAG_SECONDS
            ends = [each.suppressed_until for each in self.records if each.suppressed_until is not None]
            due = min([due, *ends])
            changed = asyncio.ensure_future(self._changed.wait())
            waited = asyncio.ensure_future(self._clock.sleep(due - now))
            try:
                await asyncio.wait({changed, waited}, return_when=asyncio.FIRST_COMPLETED)
                if waited.done():
                    return
            finally:
                changed.cancel()
                waited.cancel()

    def _step(self, alarm: Alarm) -> int:
        try:
            return max(_SHORTEST_PERIOD, min(_MINUTE, self.watch(alarm).period))
        except AWSError:
            return _MINUTE


_SAMPLES = "lambay_samples"


def watch(settings: dict[str, Any], account: str, region: str) -> Watch:
    """What PutMetricAlarm's settings ask to look at. Raises AWSError ValidationError."""
    periods = settings["EvaluationPeriods"]
    treatment: verdict.Treatment = settings.get("TreatMissingData") or "missing"
    terms = Terms(
        settings["ComparisonOperator"],
        float(settings["Threshold"]),
        periods,
        settings.get("DatapointsToAlarm") or periods,
        treatment,
    )
    if "Metrics" in settings:
        read = queries.read(settings["Metrics"], account, region)
        returned = [query for query in read if query.returned]
        if len(returned) != 1:
            raise validation("Exactly one of the Metrics must have ReturnData true.")
        period = returned[0].period or max((query.period or 0 for query in read), default=0) or _MINUTE
        return Watch(read, period, terms, None)
    metric = {
        "Namespace": settings["Namespace"],
        "MetricName": settings["MetricName"],
        "Dimensions": settings.get("Dimensions") or [],
    }
    extended = settings.get("ExtendedStatistic")
    stat = {"Metric": metric, "Period": settings["Period"], "Stat": extended or settings["Statistic"]}
    if settings.get("Unit"):
        stat["Unit"] = settings["Unit"]
    asked = [{"Id": "m1", "MetricStat": stat}]
    needed = None
    if extended and settings.get("EvaluateLowSampleCountPercentile") == "ignore" and extended[0] == "p":
        share = float(extended[1:]) / 100
        # User Guide, "Percentile-based alarms and low data samples".
        needed = 10 / max(1 - share, 1e-9) if share >= 0.5 else 10 / max(share, 1e-9)
        asked.append({"Id": _SAMPLES, "MetricStat": stat | {"Stat": "SampleCount"}})
    return Watch(queries.read(asked, account, region), settings["Period"], terms, needed)
