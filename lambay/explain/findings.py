"""What an explanation consists of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Outcome = Literal["ok", "failed", "note", "unknown"]


class Step(msgspec.Struct, frozen=True):
    """One thing that was looked at. `failed`: it keeps the function from its files; `note`: worth knowing.

    `unknown`: an earlier failure, or something missing here, kept it from being looked at.
    """

    check: str
    outcome: Outcome
    sentence: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`cause` is the first failed step's sentence, which says what to change; None where nothing failed."""

    subject: str
    ok: bool
    cause: str | None
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, subject: str, steps: Iterable[Step]) -> Explanation:
        taken = tuple(steps)
        cause = next((step.sentence for step in taken if step.outcome == "failed"), None)
        return cls(subject=subject, ok=cause is None, cause=cause, steps=taken)


def ok(check: str, sentence: str) -> Step:
    return Step(check, "ok", sentence)


def failed(check: str, sentence: str) -> Step:
    return Step(check, "failed", sentence)


def note(check: str, sentence: str) -> Step:
    return Step(check, "note", sentence)
