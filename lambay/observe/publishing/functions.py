"""Functions' invocations and events, counted as they happen: `AWS/Lambda`.

Lambda Developer Guide, "Types of metrics for Lambda functions". Counting happens on the path of every invocation, so
it is a few additions; everything else waits until a minute is over.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain

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
Measured = tuple[str, str, Point]
"""A metric's name, its unit and the minute's values."""

FunctionKey = tuple[str, str, str]
Allocated = Callable[[Place], int]
"""How much of a Region's concurrency functions have reserved or provisioned."""


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
        self._allocated: Allocated = _nothing

    def allocates(self, allocated: Allocated) -> None:
        """Have `allocated` tell what is reserved or provisioned."""
        self._allocated = allocated

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

    def take(self, *, before: int | None = None) -> Iterator[list[Datum]]:
        """The metrics of the minutes (since the epoch) before that one, or of all, a function's at a time: those of
        a thousand functions take a while. They are forgotten here at once."""
        due = sorted(minute for minute in self._minutes if before is None or minute < before)
        taken = [(number * 60, self._minutes.pop(number)) for number in due]
        return chain.from_iterable(_data(at, minute, self._allocated) for at, minute in taken)

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


def _nothing(place: Place) -> int:
    return 0


def _data(at: int, minute: Minute, allocated: Allocated) -> Iterator[list[Datum]]:
    functions: defaultdict[FunctionKey, list[tuple[Key, Cell]]] = defaultdict(list)
    places: defaultdict[Place, list[Cell]] = defaultdict(list)
    for key, cell in minute.cells.items():
        functions[key[:3]].append((key, cell))
        places[key[:2]].append(cell)
    for function, own in functions.items():
        yield list(_of_function(at, function, own))
    for (account, region, name), counts in minute.running.items():
        point = Point.of_values((float(value), float(count)) for value, count in counts.items())
        yield [
            Datum(
                Metric(account, region, NAMESPACE, "ConcurrentExecutions", dimensions(named)),
                at,
                point,
                "Count",
            )
            for named in ({"FunctionName": name}, {"FunctionName": name, "Resource": name})
        ]
    for place, cells in places.items():
        yield list(_told(at, place, (), _measured(_joined(cells))))
    for metric_name, running in (
        ("ConcurrentExecutions", minute.account_running),
        ("UnreservedConcurrentExecutions", minute.unreserved),
    ):
        for place, counts in running.items():
            point = Point.of_values((float(value), float(count)) for value, count in counts.items())
            yield list(_told(at, place, (), [(metric_name, "Count", point)]))
    for place in minute.account_running:
        # Developer Guide, "Monitoring concurrency": what on-demand invocations cannot have.
        shared, taken = minute.unreserved.get(place) or {0: 1}, allocated(place)
        claimed = Point.of_values((float(value + taken), float(count)) for value, count in shared.items())
        yield list(_told(at, place, (), [("ClaimedAccountConcurrency", "Count", claimed)]))


def _of_function(at: int, function: FunctionKey, cells: Sequence[tuple[Key, Cell]]) -> Iterator[Datum]:
    account, region, name = function
    sets: defaultdict[Dimensions, list[Cell]] = defaultdict(list)
    for key, cell in cells:
        for each in _dimension_sets(key):
            sets[each].append(cell)
    # Where a function has one version and no alias all its sets of dimensions have the same numbers.
    measured: dict[tuple[int, ...], list[Measured]] = {}
    for each, own in sets.items():
        which = tuple(map(id, own))
        if which not in measured:
            measured[which] = list(_measured(_joined(own)))
        yield from _told(at, (account, region), each, measured[which])
    if any(cell.invocations for _, cell in cells):
        usage = dimensions({"FunctionName": name})
        amount = sum(cell.gigabyte_seconds for _, cell in cells)
        yield Datum(Metric(account, region, USAGE, "LambdaGigabyteSeconds", usage), at, Point.of(amount))


def _told(at: int, place: Place, named: Dimensions, measured: Iterable[Measured]) -> Iterator[Datum]:
    for name, unit, point in measured:
        yield Datum(Metric(*place, NAMESPACE, name, named), at, point, unit)


def _joined(cells: Sequence[Cell]) -> Cell:
    """All together."""
    if len(cells) == 1:
        return cells[0]
    whole = Cell()
    for each in fields(Cell):
        values = [getattr(cell, each.name) for cell in cells]
        many = isinstance(values[0], list)
        setattr(whole, each.name, list(chain.from_iterable(values)) if many else sum(values))
    return whole


def _dimension_sets(key: Key) -> Iterator[Dimensions]:
    _, _, name, qualifier, version = key
    resource = f"{name}:{qualifier}" if qualifier else name
    yield dimensions({"FunctionName": name})
    yield dimensions({"FunctionName": name, "Resource": resource})
    if version and qualifier and qualifier != version:
        yield dimensions({"FunctionName": name, "Resource": resource, "ExecutedVersion": version})


def _measured(cell: Cell) -> Iterator[Measured]:
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
