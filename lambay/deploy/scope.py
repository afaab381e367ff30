"""What names stand for in one stack: parameters, pseudo parameters, conditions, and its resources as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambay.deploy.template.errors import faulty, invalid
from lambay.deploy.template.functions import NO_VALUE
from lambay.deploy.template.parameters import Given, Parameter
from lambay.deploy.template.template import Conditions

Ref = Callable[[str], Any]
Attribute = Callable[[str, str], Any]


def _no_resource(name: str, *_: str) -> Any:
    raise faulty(f"Unresolved resource dependencies [{name}]: resources cannot be used here")


@dataclass
class StackScope:
    """`resource` and `resource_attribute` ask the stack's resources; without them there are none yet."""

    parameters: Mapping[str, Parameter]
    given: Given
    pseudo: Mapping[str, Any]
    mappings: Mapping[str, Mapping[str, Any]]
    definitions: Mapping[str, Any]
    exports: Callable[[str], Any]
    zone_names: Mapping[str, Sequence[str]]
    resource: Ref = _no_resource
    resource_attribute: Attribute = _no_resource
    imported: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._conditions = Conditions(self.definitions, lambda: self)

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            return self.given.value(self.parameters[name])
        return self.resource(name)

    def attribute(self, resource: str, attribute: str) -> Any:
        return self.resource_attribute(resource, attribute)

    def condition(self, name: str) -> bool:
        return self._conditions(name)

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        return self.mappings.get(name)

    def exported(self, name: str) -> Any:
        value = self.exports(name)
        if value is None:
            raise invalid(f"No export named {name} found.")
        self.imported.add(name)
        return value

    def zones(self, region: str) -> Sequence[str]:
        if region not in self.zone_names:
            raise faulty(
                f"Fn::GetAZs: the Availability Zones of {region} are not known before the stack is made"
            )
        return self.zone_names[region]
