"""Whether a metric alarm's data is in alarm. Pure.

CloudWatch User Guide, "Evaluating an alarm" and "Configuring how CloudWatch alarms treat missing data".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lambay.observe.alarms.records import State

Treatment = Literal["missing", "ignore", "breaching", "notBreaching"]
Datapoint = tuple[int, float | None]
"""When its period began, and its value; None where there is none."""

EXTRA_PERIODS = 2
"""How many periods more than an alarm's are looked at, for data in place of what is missing."""

COMPARISONS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """`needed` of `periods` datapoints must breach."""

    comparison: str
    threshold: float
    periods: int
    needed: int
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` None leaves the alarm as it is; `used` are the datapoints that it rests on, the latest first."""

    state: State | None
    reason: str
    used: Sequence[Datapoint]


def judge(datapoints: Sequence[Datapoint], terms: Terms) -> Verdict:
    """`datapoints` in order of time, more than the alarm's periods where there are; missing ones have no value."""
    breaches = COMPARISONS[terms.comparison][0]
    real = [(at, value) for at, value in datapoints if value is not None][-terms.periods :]
    missing = terms.periods - len(real)
    breaching = sum(breaches(value, terms.threshold) for _, value in real)
    used = list(reversed(real))
    if not real and terms.treatment == "missing":
        return Verdict("INSUFFICIENT_DATA", _insufficient(terms), ())
    if terms.treatment == "breaching":
        in_alarm = breaching + missing >= terms.needed
    elif terms.treatment == "notBreaching":
        in_alarm = breaching >= terms.needed
    elif terms.treatment == "ignore":
        in_alarm = breaching >= terms.needed
        if not in_alarm and missing and breaching == len(real):
            return Verdict(None, "", used)
    else:
        in_alarm = breaching >= min(terms.needed, len(real))
    state: State = "ALARM" if in_alarm else "OK"
    return Verdict(state, _reason(used, missing, breaching, state, terms), used)


def _insufficient(terms: Terms) -> str:
    plural = "" if terms.periods == 1 else "s"
    return f"Insufficient Data: {terms.periods} datapoint{plural} were unknown."


def _reason(used: Sequence[Datapoint], missing: int, breaching: int, state: State, terms: Terms) -> str:
    words = COMPARISONS[terms.comparison][1]
    if not used:
        treated = "breaching" if state == "ALARM" else "non-breaching"
        plural = " was" if terms.periods == 1 else "s were"
        return (
            f"Threshold Crossed: no datapoints were received for {terms.periods} period"
            f"{'' if terms.periods == 1 else 's'} and {terms.periods} missing datapoint{plural} treated as "
            f"[{treated.capitalize()}]."
        )
    count = breaching if state == "ALARM" else len(used) - breaching
    verb = ("was" if count == 1 else "were") + ("" if state == "ALARM" else " not")
    listed = ", ".join(f"{value} ({_moment(at)})" for at, value in used[:10])
    needed = terms.needed if state == "ALARM" else terms.periods - terms.needed + 1
    way = "OK -> ALARM" if state == "ALARM" else "ALARM -> OK"
    treated = ""
    if missing and terms.treatment in ("breaching", "notBreaching"):
        treated = f" {missing} missing datapoints were treated as [{terms.treatment}]."
    return (
        f"Threshold Crossed: {count} out of the last {len(used)} datapoints [{listed}] {verb} {words} the "
        f"threshold ({terms.threshold}) (minimum {needed} datapoint{'' if needed == 1 else 's'} for {way} "
        f"transition).{treated}"
    )


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%d/%m/%y %H:%M:%S}"
