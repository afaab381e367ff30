"""How traffic moves: from a configuration to its steps, and CodeDeploy's own configurations. Pure.

See "Working with deployment configurations in CodeDeploy", deployments on an AWS Lambda compute platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambay.aws import AWSError
from lambay.deployments.records import Shifting

ALL_AT_ONCE = "CodeDeployDefault.LambdaAllAtOnce"

BUILT_IN: Mapping[str, Shifting] = {
    ALL_AT_ONCE: Shifting(),
    **{
        f"CodeDeployDefault.LambdaCanary10Percent{minutes}Minutes": Shifting("TimeBasedCanary", 10, minutes)
        for minutes in (5, 10, 15, 30)
    },
    **{
        f"CodeDeployDefault.LambdaLinear10PercentEvery{minutes}Minute{'s' if minutes > 1 else ''}": Shifting(
            "TimeBasedLinear", 10, minutes
        )
        for minutes in (1, 2, 3, 10)
    },
}


def steps(shifting: Shifting) -> list[tuple[float, int]]:
    """When (seconds after the first shift) the target has which percentage; the last step has 100."""
    if shifting.kind == "AllAtOnce":
        return [(0, 100)]
    if shifting.kind == "TimeBasedCanary":
        return [(0, shifting.percentage), (shifting.minutes * 60, 100)]
    found: list[tuple[float, int]] = []
    share = 0
    while share < 100:
        share = min(share + shifting.percentage, 100)
        found.append((len(found) * shifting.minutes * 60, share))
    return found


def parse(given: Mapping[str, Any]) -> Shifting:
    """A TrafficRoutingConfig. Raises InvalidTrafficRoutingConfigurationException."""
    kind: Any = given.get("type") or "AllAtOnce"
    if kind == "AllAtOnce":
        return Shifting()
    member, prefix = {
        "TimeBasedCanary": ("timeBasedCanary", "canary"),
        "TimeBasedLinear": ("timeBasedLinear", "linear"),
    }[kind]
    timed = given.get(member) or {}
    percentage, minutes = timed.get(f"{prefix}Percentage"), timed.get(f"{prefix}Interval")
    if percentage is None or minutes is None:
        raise _invalid(f"{member}: {prefix}Percentage and {prefix}Interval are needed.")
    if not 1 <= percentage <= 99:
        raise _invalid(f"{prefix}Percentage: {percentage} is not within 1 and 99.")
    if not 1 <= minutes <= 2880:
        raise _invalid(f"{prefix}Interval: {minutes} is not within 1 and 2880 minutes.")
    return Shifting(kind, percentage, minutes)


def shown(shifting: Shifting) -> dict[str, Any]:
    """A TrafficRoutingConfig."""
    if shifting.kind == "AllAtOnce":
        return {"type": "AllAtOnce"}
    prefix = "canary" if shifting.kind == "TimeBasedCanary" else "linear"
    member = "timeBasedCanary" if prefix == "canary" else "timeBasedLinear"
    timed = {f"{prefix}Percentage": shifting.percentage, f"{prefix}Interval": shifting.minutes}
    return {"type": shifting.kind, member: timed}


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidTrafficRoutingConfigurationException", message)
