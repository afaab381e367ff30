"""Functions' invocations and events, counted as they happen: `AWS/Lambda`.

Lambda Developer Guide, "Types of metrics for Lambda functions". Counting happens on the path of every invocation, so
it is a few additions; everything else waits until a minute is over.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from lambay.clock import Clock
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Dimensions, Metric, dimensions
from lambay.observe.publishing.ports import NamedFunction
from lambay.runtime import EnvironmentSpec, Outcome

NAMESPACE = "AWS/Lambda"
USAGE = "Lambay/Usage"
"""What billing is made of and AWS has no metric for."""

_RECENT = 512

Key = tuple[str, str, str, str, str]
"""Account, Region, function, qualifier (empty for none), executed version (empty where nothing was run)."""

Place = tuple[str, str]
FunctionKey = tuple[str, str, str]


@dataclass(slots=True)
class Cell:
    """One minute of one key."""

    invocations: int = 0
    errors: int = 0
    throttles: int = 0
    provisioned: int = 0
    spilled: int = 0
    gigabyte_seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    utilization: list[float] = field(default_factory=list)
    provisioned_running: list[float] = field(default_factory=list)
    events: int = 0
    dropped: int = 0
    dead_letters: int = 0
    undelivered: int = 0
    ages: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Minute:
    cells: dict[Key, Cell] = field(default_factory=dict)
    running: dict[FunctionKey, Counter[int]] = field(default_factory=dict)
    account_running: dict[Place, Counter[int]] = field(default_factory=dict)
    unreserved: dict[Place, Counter[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Totals:
    """One function since the server started; `recent` are its last durations in milliseconds."""

    busy: int = 0
    invocations: int = 0
    errors: int = 0
    throttles: int = 0
    cold_starts: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


class FunctionActivity:
    """Counts; `lambay.functions` calls it through its Protocol `Activity`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minutes: dict[int, Minute] = {}
        self._busy: Counter[Place] = Counter()
        self._busy_unreserved: Counter[Place] = Counter()
        self._busy_provisioned: Counter[tuple[str, ...]] = Counter()
        self.totals: dict[FunctionKey, Totals] = {}

    def began(self, name: NamedFunction, *, unreserved: bool) -> None:
        key = (name.account, name.region, name.name)
        place = key[:2]
        totals = self._totals(key)
        totals.busy += 1
        self._busy[place] += 1
        minute = self._minute()
        minute.running.setdefault(key, Counter())[totals.busy] += 1
        minute.account_running.setdefault(place, Counter())[self._busy[place]] += 1
        if unreserved:
            self._busy_unreserved[place] += 1
            minute.unreserved.setdefault(place, Counter())[self._busy_unreserved[place]] += 1

    def ended(
        self,
        name: NamedFunction,
        spec: EnvironmentSpec,
        outcome: Outcome | None,
        *,
        unreserved: bool,
        provisioned: int,
        spilled: bool,
    ) -> None:
        key = (name.account, name.region, name.name)
        place = key[:2]
        totals = self._totals(key)
        totals.busy -= 1
        self._busy[place] -= 1
        if unreserved:
            self._busy_unreserved[place] -= 1
        if outcome is None:
            return
        cell = self._cell((*key, name.qualifier or "", spec.version))
        cell.invocations += 1
        totals.invocations += 1
        if outcome.error is not None:
            cell.errors += 1
            totals.errors += 1
        if outcome.init_ms is not None:
            totals.cold_starts += 1
        cell.durations.append(outcome.duration_ms)
        totals.recent.append(outcome.duration_ms)
        cell.gigabyte_seconds += outcome.billed_ms / 1000 * spec.memory_mb / 1024
        if provisioned:
            cell.provisioned += 1
            cell.provisioned_running.append(float(totals.busy + 1))
            cell.utilization.append(min(1.0, (totals.busy + 1) / provisioned))
        elif spilled:
            cell.spilled += 1

    def throttled(self, name: NamedFunction, version: str) -> None:
        key = (name.account, name.region, name.name)
        self._cell((*key, name.qualifier or "", version)).throttles += 1
        self._totals(key).throttles += 1

    def event_received(self, name: NamedFunction) -> None:
        self._event(name).events += 1

    def event_aged(self, name: NamedFunction, seconds: float) -> None:
        self._event(name).ages.append(seconds * 1000)

    def event_dropped(self, name: NamedFunction) -> None:
        self._event(name).dropped += 1

    def undelivered(self, name: NamedFunction, *, dead_letter: bool) -> None:
        cell = self._event(name)
        if dead_letter:
            cell.dead_letters += 1
        else:
            cell.undelivered += 1

    def take(self, *, before: int | None = None) -> list[Datum]:
        """The metrics of the minutes (since the epoch) before that one, or of all; they are forgotten here."""
        due = sorted(minute for minute in self._minutes if before is None or minute < before)
        return [datum for minute in due for datum in _data(minute * 60, self._minutes.pop(minute))]

    def forget(self) -> None:
        """Forget everything that was counted; what runs goes on."""
        self._minutes.clear()
        self.totals = {key: Totals(busy=totals.busy) for key, totals in self.totals.items() if totals.busy}

    def _minute(self) -> Minute:
        number = int(self._clock.time()) // 60
        found = self._minutes.get(number)
        if found is None:
            found = self._minutes[number] = Minute()
        return found

    def _cell(self, key: Key) -> Cell:
        cells = self._minute().cells
        found = cells.get(key)
        if found is None:
            found = cells[key] = Cell()
        return found

    def _event(self, name: NamedFunction) -> Cell:
        return self._cell((name.account, name.region, name.name, name.qualifier or "", ""))

    def _totals(self, key: FunctionKey) -> Totals:
        found = self.totals.get(key)
        if found is None:
            found = self.totals[key] = Totals()
        return found


def _data(at: int, minute: Minute) -> Iterator[Datum]:
    points: dict[tuple[Metric, str], Point] = {}

    def add(metric: Metric, unit: str, point: Point) -> None:
        there = points.get((metric, unit))
        if there is None:
            points[metric, unit] = point.copy()
        else:
            there.merge(point)

    for key, cell in minute.cells.items():
        account, region, name, _, _ = key
        measured = list(_measured(cell))
        for each in _dimension_sets(key):
            for metric_name, unit, point in measured:
                add(Metric(account, region, NAMESPACE, metric_name, each), unit, point)
        if cell.invocations:
            usage = Metric(
                account, region, USAGE, "LambdaGigabyteSeconds", dimensions({"FunctionName": name})
            )
            add(usage, "None", Point.of(cell.gigabyte_seconds))
    for (account, region, name), counts in minute.running.items():
        point = Point.of_values((float(value), float(count)) for value, count in counts.items())
        for named in ({"FunctionName": name}, {"FunctionName": name, "Resource": name}):
            add(Metric(account, region, NAMESPACE, "ConcurrentExecutions", dimensions(named)), "Count", point)
    for metric_name, places in (
        ("ConcurrentExecutions", minute.account_running),
        ("UnreservedConcurrentExecutions", minute.unreserved),
    ):
        for (account, region), counts in places.items():
            point = Point.of_values((float(value), float(count)) for value, count in counts.items())
            add(Metric(account, region, NAMESPACE, metric_name), "Count", point)
    for (metric, unit), point in points.items():
        yield Datum(metric, at, point, unit)


def _dimension_sets(key: Key) -> Iterator[Dimensions]:
    _, _, name, qualifier, version = key
    resource = f"{name}:{qualifier}" if qualifier else name
    yield ()
    yield dimensions({"FunctionName": name})
    yield dimensions({"FunctionName": name, "Resource": resource})
    if version and qualifier and qualifier != version:
        yield dimensions({"FunctionName": name, "Resource": resource, "ExecutedVersion": version})


def _measured(cell: Cell) -> Iterator[tuple[str, str, Point]]:
    if cell.invocations or cell.throttles:
        # As in Lambda: each invocation is a sample of 0 or 1, so that the average is the rate.
        invocations = float(cell.invocations)
        if cell.invocations:
            yield "Invocations", "Count", Point.of(1.0, invocations)
            yield "Errors", "Count", _shares(cell.errors, cell.invocations)
            yield "Duration", "Milliseconds", Point.of_values((value, 1.0) for value in cell.durations)
        yield "Throttles", "Count", _shares(cell.throttles, cell.invocations + cell.throttles)
    for name, count in (
        ("ProvisionedConcurrencyInvocations", cell.provisioned),
        ("ProvisionedConcurrencySpilloverInvocations", cell.spilled),
        ("AsyncEventsReceived", cell.events),
        ("AsyncEventsDropped", cell.dropped),
        ("DeadLetterErrors", cell.dead_letters),
        ("DestinationDeliveryFailures", cell.undelivered),
    ):
        if count:
            yield name, "Count", Point.of(1.0, float(count))
    for name, unit, values in (
        ("ProvisionedConcurrencyUtilization", "Count", cell.utilization),
        ("ProvisionedConcurrentExecutions", "Count", cell.provisioned_running),
        ("AsyncEventAge", "Milliseconds", cell.ages),
    ):
        if values:
            yield name, unit, Point.of_values((value, 1.0) for value in values)


def _shares(ones: int, all_of_them: int) -> Point:
    pairs = ((0.0, float(all_of_them - ones)), (1.0, float(ones)))
    return Point.of_values((value, count) for value, count in pairs if count)
