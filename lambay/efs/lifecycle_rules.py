"""Which life cycle policies EFS accepts. Pure; see EFS API, PutLifecycleConfiguration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from lambay.efs.errors import bad_request
from lambay.efs.records import Transition


def check_transitions(
    policies: Sequence[Mapping[str, str]], throughput_mode: str, performance_mode: str
) -> tuple[tuple[Transition, str], ...]:
    """The transitions of `policies`, each with its time. Raises BadRequest."""
    found: dict[Transition, str] = {}
    for policy in policies:
        given: list[Transition] = [name for name in get_args(Transition) if name in policy]
        if len(given) != 1:
            raise bad_request(
                "One or more LifecyclePolicy objects specified are malformed: give one transition in each."
            )
        (transition,) = given
        if transition in found:
            raise bad_request(f"LifecyclePolicies: {transition} is given twice.")
        found[transition] = policy[transition]
    if "TransitionToArchive" in found:
        if throughput_mode != "elastic" or performance_mode != "generalPurpose":
            raise bad_request(
                "TransitionToArchive needs elastic throughput and the General Purpose performance mode; "
                f"the file system has {throughput_mode} and {performance_mode}."
            )
        infrequent = found.get("TransitionToIA")
        if infrequent is not None and _days(found["TransitionToArchive"]) <= _days(infrequent):
            raise bad_request(
                f"TransitionToArchive ({found['TransitionToArchive']}) must be later than TransitionToIA "
                f"({infrequent})."
            )
    return tuple(found.items())


def _days(after: str) -> int:
    """The number in `AFTER_30_DAYS`."""
    return int(after.split("_")[1])
