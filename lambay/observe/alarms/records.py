"""What is kept of an alarm, and what is told of its changes. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from lambay.aws import arn

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A metric alarm, or a composite one where `rule` is set.

    `settings` are PutMetricAlarm's or PutCompositeAlarm's members as they were given. `acted` is the state that the
    actions were last carried out for.
    """

    account: str
    region: str
    name: str
    settings: dict[str, Any]
    rule: str | None = None
    actions_enabled: bool = True
    state: State = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str = ""
    configured: float
    updated: float
    transitioned: float
    acted: State = "INSUFFICIENT_DATA"
    suppressed_by: Literal["WaitPeriod", "ExtensionPeriod", "Alarm"] | None = None
    suppressed_until: float | None = None
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"

    @property
    def arn(self) -> str:
        return arn("cloudwatch", self.region, self.account, f"alarm:{self.name}")

    @property
    def type(self) -> Literal["MetricAlarm", "CompositeAlarm"]:
        return "MetricAlarm" if self.rule is None else "CompositeAlarm"

    @property
    def actions(self) -> list[str]:
        """What is to be done on the change to the present state."""
        member = {
            "OK": "OKActions",
            "ALARM": "AlarmActions",
            "INSUFFICIENT_DATA": "InsufficientDataActions",
        }[self.state]
        return list(self.settings.get(member) or ())


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm's change of state."""

    before: Alarm
    after: Alarm
    at: float

    @property
    def account(self) -> str:
        return self.after.account

    @property
    def region(self) -> str:
        return self.after.region

    @property
    def name(self) -> str:
        return self.after.name

    @property
    def arn(self) -> str:
        return self.after.arn
