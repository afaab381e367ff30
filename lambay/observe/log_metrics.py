"""Log events become metrics: by the groups' metric filters, and by the embedded metric format."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lambay.clock import Clock
from lambay.observe import embedded_metrics
from lambay.observe.filter_pattern import FilterPattern, InvalidPattern, parse
from lambay.observe.log_filters import LogFilter
from lambay.observe.log_records import Batch, GroupKey
from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.metrics.service import Metrics

_log = logging.getLogger("lambay.observe")

_LINGER_SECONDS = 0.5
_DEFAULTS_SECONDS = 60.0


@dataclass(slots=True)
class MetricFilter:
    """A filter ready for use; `minutes` are those that events came in, and whether one has matched."""

    kept: LogFilter
    pattern: FilterPattern
    value: float | FilterPattern
    dimensions: Mapping[str, FilterPattern | str]
    minutes: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: LogFilter) -> MetricFilter:
        """Raises InvalidPattern, naming what cannot be read."""
        told = kept.transformation
        assert told is not None
        return cls(
            kept,
            parse(kept.pattern),
            _value(told.value, kept.pattern),
            {name: _selector(text, kept.pattern) for name, text in told.dimensions.items()},
        )

    def take(self, timestamp_ms: int, message: str) -> Datum | None:
        """What the filter puts for this event, if it matches."""
        minute = timestamp_ms // 60_000
        if not self.pattern.matches(message):
            self.minutes.setdefault(minute, False)
            return None
        self.minutes[minute] = True
        number = self.value if isinstance(self.value, float) else _number(self.value, message)
        if number is None:
            return None
        found: dict[str, str] = {}
        for name, selector in self.dimensions.items():
            value = _text(selector, message)
            if not value:
                return None
            found[name] = value
        return self._datum(timestamp_ms // 1000, number, found)

    def defaults(self, before: int) -> list[Datum]:
        """For the minutes before that one in which events came and none matched; they are forgotten."""
        told = self.kept.transformation
        assert told is not None
        due = [minute for minute in self.minutes if minute < before]
        empty = [minute for minute in due if not self.minutes[minute]]
        for minute in due:
            del self.minutes[minute]
        if told.default is None:
            return []
        return [self._datum(minute * 60, told.default, {}) for minute in empty]

    def _datum(self, at: int, value: float, found: Mapping[str, str]) -> Datum:
        told, group = self.kept.transformation, self.kept.group
        assert told is not None
        metric = Metric(group.account, group.region, told.namespace, told.name, dimensions(found))
        return Datum(metric, at, Point.of(value), told.unit)


def _value(text: str, pattern: str) -> float | FilterPattern:
    if text.startswith("$"):
        return _selector(text, pattern)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidPattern(f"metricValue: {text!r} is neither a number nor a selector ($.name, $name)")
    return number


def _selector(text: str, pattern: str) -> FilterPattern:
    """What finds the text of `$.a.b` or `$name` in a matching event."""
    if text.startswith(("$.", "$[")):
        if not pattern.strip().startswith("{"):
            raise InvalidPattern(f"{text!r} selects from JSON; the filter pattern is not {{ … }}")
        return parse(f"{{ {text} EXISTS }}")
    found = parse(pattern)
    if not pattern.strip().startswith("[") or not text.startswith("$"):
        raise InvalidPattern(f"{text!r} is no selector that goes with the filter pattern")
    return _Named(found, text)


@dataclass(frozen=True, slots=True)
class _Named:
    """One field of a space-delimited pattern."""

    pattern: FilterPattern
    name: str

    @property
    def literals(self) -> Sequence[str]:
        return ()

    def matches(self, message: str) -> bool:
        return self.pattern.matches(message)

    def extract(self, message: str) -> Mapping[str, str]:
        found = self.pattern.extract(message)
        return {self.name: found[self.name]} if self.name in found else {}


def _text(selector: FilterPattern | str, message: str) -> str | None:
    if isinstance(selector, str):
        return selector
    return next(iter(selector.extract(message).values()), None)


def _number(selector: FilterPattern, message: str) -> float | None:
    try:
        number = float(_text(selector, message) or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class LogMetrics:
    """Told of every batch of events; what they amount to is put within a second."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._filters: dict[GroupKey, list[MetricFilter]] = {}
        self._pending: list[Datum] = []
        self._timer: asyncio.TimerHandle | None = None
        self._putting: set[asyncio.Task[None]] = set()
        self._telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._telling = asyncio.create_task(self._defaults(), name="metric filters' defaults")

    async def stop(self) -> None:
        """Put what waits."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
            self._telling = None
        await self.flush()

    async def flush(self) -> None:
        """Return once the metrics of every event so far are put."""
        self._put()
        while self._putting:
            await asyncio.wait(set(self._putting))

    def use(self, filters: Sequence[LogFilter]) -> None:
        """The metric filters that there are from now on."""
        earlier = {(each.kept.group, each.kept.name): each for of in self._filters.values() for each in of}
        self._filters = {}
        for kept in filters:
            known = earlier.get((kept.group, kept.name))
            ready = known if known is not None and known.kept == kept else MetricFilter.of(kept)
            self._filters.setdefault(kept.group, []).append(ready)

    def take(self, batch: Batch) -> None:
        """Called in the event loop for every batch of events that is written."""
        filters = self._filters.get(batch.group, ())
        group = batch.group
        for timestamp, message in batch.events:
            if embedded_metrics.MARK in message:
                self._pending += embedded_metrics.read(message, group.account, group.region)
            for each in filters:
                datum = each.take(timestamp, message)
                if datum is not None:
                    self._pending.append(datum)
        if self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._put)

    def _put(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            data, self._pending = self._pending, []
            task = asyncio.create_task(self._put_now(data))
            self._putting.add(task)
            task.add_done_callback(self._putting.discard)

    async def _put_now(self, data: list[Datum]) -> None:
        try:
            await self._metrics.put(data)
        except Exception:
            _log.exception("%d metrics of log events could not be put and are lost", len(data))

    async def _defaults(self) -> None:
        while True:
            await self._clock.sleep(_DEFAULTS_SECONDS)
            minute = int(self._clock.time()) // 60
            for filters in self._filters.values():
                for each in filters:
                    self._pending += each.defaults(minute)
            self._put()
