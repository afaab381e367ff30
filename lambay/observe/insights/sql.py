"""Pieces of SQL and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["time", "number", "text", "any"]


@dataclass(frozen=True, slots=True)
class Sql:
    text: str
    kind: Kind = "any"


def as_number(sql: Sql) -> str:
    """As a number; texts that are none are NULL."""
    if sql.kind in ("number", "time"):
        return sql.text
    # Properties are numbers mostly, and those need no call of ours.
    return f"(CASE typeof({sql.text}) WHEN 'text' THEN as_number({sql.text}) ELSE {sql.text} END)"


class Parameters:
    """The values that a statement is run with."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object) -> str:
        """Its name, by number, so that it may be used in several places and in any order."""
        self.values.append(value)
        return f"?{len(self.values)}"
