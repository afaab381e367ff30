"""A scope of plain dictionaries, for functions that need one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambay.deploy.template.errors import faulty, invalid
from lambay.deploy.template.functions import NO_VALUE, holds


class Names:
    """What a test says that names stand for."""

    def __init__(
        self,
        refs: Mapping[str, Any] | None = None,
        attributes: Mapping[tuple[str, str], Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        mappings: Mapping[str, Any] | None = None,
        exports: Mapping[str, str] | None = None,
    ) -> None:
        self.refs = {"AWS::Region": "us-east-1", "AWS::NoValue": NO_VALUE, **(refs or {})}
        self.attributes = attributes or {}
        self.conditions = conditions or {}
        self.mappings = mappings or {}
        self.exports = exports or {}

    def ref(self, name: str) -> Any:
        if name not in self.refs:
            raise faulty(f"there is no {name}")
        return self.refs[name]

    def attribute(self, resource: str, attribute: str) -> Any:
        return self.attributes[resource, attribute]

    def condition(self, name: str) -> bool:
        return holds(self.conditions[name], self)

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        return self.mappings.get(name)

    def exported(self, name: str) -> Any:
        if name not in self.exports:
            raise invalid(f"No export named {name} found.")
        return self.exports[name]

    def zones(self, region: str) -> Sequence[str]:
        return [f"{region}{letter}" for letter in "abc"]
