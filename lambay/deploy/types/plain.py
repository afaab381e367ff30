"""`Plain`: a type that is one call to make, one to change and one to remove, said in class attributes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.deploy.types.base import At, Made, Properties, ResourceType, gone, lowered
from lambay.deploy.types.ec2 import as_json


class Plain(ResourceType):
    """Paths (`Rule.Arn`) lead into the answer of `made_by`, or of `looked_up_by` where that is given.

    `{id}` and property names in braces stand for values in `attributes_made`: `{Name}`.
    """

    service: ClassVar[str]
    made_by: ClassVar[str]
    # None: any change replaces.
    updated_by: ClassVar[str | None] = None
    removed_by: ClassVar[str]
    # The input member that holds the id for updating and removing.
    id_member: ClassVar[str]
    id_path: ClassVar[str | None] = None
    # The property that names it, drawn where it is not given.
    name_property: ClassVar[str | None] = None
    name_most: ClassVar[int] = 64
    name_lower: ClassVar[bool] = False
    # Properties whose objects are handed over as JSON text.
    as_text: ClassVar[tuple[str, ...]] = ()
    # Whether the service writes its members with a small first letter.
    small: ClassVar[bool] = False
    # Members of `made_by` that `updated_by` does not take.
    not_updated: ClassVar[tuple[str, ...]] = ()
    attribute_paths: ClassVar[Mapping[str, str]] = {}

    async def create(self, at: At, properties: Properties) -> Made:
        given = self.input(at, properties)
        answer = await at.call(self.service, self.made_by, **given)
        id = str(_at(answer, self.id_path)) if self.id_path is not None else str(self._name(at, properties))
        return Made(id, {name: _at(answer, path) for name, path in self.attribute_paths.items()})

    def input(self, at: At, properties: Properties) -> dict[str, Any]:
        """What `made_by` and `updated_by` are given."""
        given = dict(properties)
        if self.name_property is not None:
            given[self.name_property] = self._name(at, properties)
        for name in self.as_text:
            if name in given:
                given[name] = as_json(given[name])
        return dict(lowered(given)) if self.small else given

    def _name(self, at: At, properties: Properties) -> Any:
        if self.name_property is None:
            return None
        return properties.get(self.name_property) or at.name(self.name_most, lower=self.name_lower)

    def replaced_by(self, before: Properties, after: Properties) -> frozenset[str]:
        if self.updated_by is None:
            return frozenset(key for key in {*before, *after} if before.get(key) != after.get(key))
        return super().replaced_by(before, after)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        assert self.updated_by is not None
        given = self.input(at, properties)
        without = {item[:1].lower() + item[1:] if self.small else item for item in self.not_updated}
        given = {key: item for key, item in given.items() if key not in without} | {self.id_member: id}
        answer = await at.call(self.service, self.updated_by, **given)
        return Made(id, {name: _at(answer, path) for name, path in self.attribute_paths.items()})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call(self.service, self.removed_by, **{self.id_member: id}))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [self._name(at, properties)] if self.name_property is not None and self.id_path is None else ()


def _at(answer: Any, path: str | None) -> Any:
    for part in (path or "").split("."):
        answer = answer.get(part) if isinstance(answer, Mapping) else None
    return "" if answer is None else answer
