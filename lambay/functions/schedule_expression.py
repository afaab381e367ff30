"""`rate(…)` and `cron(…)` of EventBridge rules: when a schedule is due next. Pure.

See "Setting a schedule pattern for scheduled rules" in the EventBridge User Guide. All times are UTC.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_RATE = re.compile(r"rate\(\s*(\d+)\s+(minute|minutes|hour|hours|day|days)\s*\)")
_CRON = re.compile(r"cron\((.*)\)")
_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
# EventBridge counts from Sunday, 1.
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
_FIRST_YEAR, _LAST_YEAR = 1970, 2199


@dataclass(frozen=True, slots=True)
class Rate:
    every: timedelta

    def next_after(self, moment: datetime, since: datetime) -> datetime:
        """The first whole number of periods after `since` that is later than `moment`."""
        periods = (moment - since) // self.every + 1
        return since + max(periods, 1) * self.every


@dataclass(frozen=True, slots=True)
class Cron:
    """Fields as sets, but the two kinds of days, which depend on the month."""

    minutes: frozenset[int]
    hours: frozenset[int]
    day_of_month: str
    months: frozenset[int]
    day_of_week: str
    years: frozenset[int]

    def next_after(self, moment: datetime, since: datetime) -> datetime | None:
        """The first minute after `moment` that fits; None where there is none before 2200."""
        at = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for year in sorted(year for year in self.years if year >= at.year):
            for month in sorted(self.months):
                if (year, month) < (at.year, at.month):
                    continue
                for day in self._days(year, month):
                    first = datetime(year, month, day, tzinfo=UTC)
                    if first.date() < at.date():
                        continue
                    found = self._within(first, at if first.date() == at.date() else first)
                    if found is not None:
                        return found
        return None

    def _within(self, day: datetime, start: datetime) -> datetime | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                at = day.replace(hour=hour, minute=minute)
                if at >= start:
                    return at
        return None

    def _days(self, year: int, month: int) -> list[int]:
        if self.day_of_week != "?":
            return _days_of_week(self.day_of_week, year, month)
        return _days_of_month(self.day_of_month, year, month)


def parse(text: str) -> Rate | Cron:
    """Raises ValueError for what is no schedule expression."""
    if rate := _RATE.fullmatch(text.strip()):
        count, unit = int(rate[1]), rate[2]
        if count == 0 or (count == 1) == unit.endswith("s"):
            raise ValueError(f"{text!r}: the unit is singular for 1, plural for more")
        return Rate(count * _UNITS[unit.rstrip("s")])
    if cron := _CRON.fullmatch(text.strip()):
        fields = cron[1].upper().split()
        if len(fields) != 6:
            raise ValueError(f"{text!r}: cron has six fields")
        minutes, hours, day_of_month, months, day_of_week, years = fields
        if (day_of_month == "?") == (day_of_week == "?"):
            raise ValueError(f"{text!r}: one of day-of-month and day-of-week is ?, and not both")
        made = Cron(
            _numbers(minutes, 0, 59),
            _numbers(hours, 0, 23),
            day_of_month,
            _numbers(months, 1, 12, _MONTHS),
            day_of_week,
            _numbers(years, _FIRST_YEAR, _LAST_YEAR),
        )
        made._days(2024, 2)
        return made
    raise ValueError(f"{text!r} is neither rate(…) nor cron(…)")


def _numbers(field: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    """`*`, numbers or names, ranges, lists and steps."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = _number(first, names)
            end = _number(last, names) if dash else (high if step else start)
        if not low <= start <= high or not low <= end <= high:
            raise ValueError(f"{field!r}: {part!r} is not within {low} and {high}")
        every = int(step) if step else 1
        if every < 1:
            raise ValueError(f"{field!r}: a step is at least 1")
        # A range may run over the end, as FRI-MON does.
        numbers = range(start, end + 1) if start <= end else [*range(start, high + 1), *range(low, end + 1)]
        found.update(numbers[::every])
    return frozenset(found)


def _number(text: str, names: dict[str, int] | None) -> int:
    return names[text] if names and text in names else int(text)


def _days_of_month(field: str, year: int, month: int) -> list[int]:
    """`L` is the last day, `LW` the last weekday, `15W` the weekday nearest to the 15th."""
    last = calendar.monthrange(year, month)[1]
    days: set[int] = set()
    for part in field.split(","):
        if part == "L":
            days.add(last)
        elif part.endswith("W"):
            wanted = last if part == "LW" else int(part[:-1])
            days.add(_nearest_weekday(year, month, min(wanted, last), last))
        else:
            days.update(_numbers(part, 1, 31))
    return sorted(day for day in days if day <= last)


def _nearest_weekday(year: int, month: int, day: int, last: int) -> int:
    weekday = calendar.weekday(year, month, day)
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < last else day - 2
    return day


def _days_of_week(field: str, year: int, month: int) -> list[int]:
    """`3#2` is the second Tuesday, `6L` the last Friday."""
    last = calendar.monthrange(year, month)[1]
    by_day: dict[int, list[int]] = {}
    for day in range(1, last + 1):
        by_day.setdefault((calendar.weekday(year, month, day) + 1) % 7 + 1, []).append(day)
    days: set[int] = set()
    for part in field.split(","):
        if "#" in part:
            name, _, which = part.partition("#")
            same = by_day[_number(name, _DAYS)]
            if not 1 <= int(which) <= 5:
                raise ValueError(f"{field!r}: {part!r} is not within the five weeks of a month")
            days.update(same[int(which) - 1 : int(which)])
        elif part == "L":
            days.update(by_day[7])
        elif part.endswith("L"):
            days.add(by_day[_number(part[:-1], _DAYS)][-1])
        else:
            for number in _numbers(part, 1, 7, _DAYS):
                days.update(by_day[number])
    return sorted(days)
