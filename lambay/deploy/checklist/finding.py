"""`Finding`: one thing that is wrong, or could be better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`line` counts from 1. An error will fail, a warning may fail or is unsafe, a note costs time or money."""

    line: int
    code: str
    level: Level
    message: str
    fix: str = ""
