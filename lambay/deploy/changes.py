"""What deploying a plan would change: what a change set shows, told from the records without touching anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambay.aws import AWSError
from lambay.deploy.planning import Plan
from lambay.deploy.records import Change, Resource
from lambay.deploy.template.functions import UNKNOWN, resolve, unknown
from lambay.deploy.types.base import ResourceType
from lambay.deploy.types.registry import resource_type


def changes_of(plan: Plan, records: Mapping[str, Resource]) -> tuple[Change, ...]:
    """Additions, removals and modifications; an attribute of what is to be made is unknown, and so perhaps changes."""
    present = plan.present()
    remade: set[str] = set()
    made: list[Change] = []

    def ref(name: str) -> Any:
        record = records.get(name)
        return UNKNOWN if record is None or name in remade or not record.now.id else record.now.id

    def attribute(name: str, wanted: str) -> Any:
        record = records.get(name)
        if record is None or name in remade:
            return UNKNOWN
        return record.now.attributes.get(wanted, UNKNOWN)

    scope = plan.within(ref, attribute)
    for name in present:
        declared = plan.template.resources[name]
        entry = resource_type(declared.type)
        record = records.get(name)
        if record is None:
            made.append(Change(action="Add", name=name, type=declared.type))
            remade.add(name)
            continue
        if record.type != declared.type:
            made.append(Change(action="Retype", name=name, type=declared.type))
            continue
        properties: Any = resolve(dict(declared.properties), scope)
        if entry.schema is not None:
            properties = entry.schema.tagged(properties, plan.tags)
        change = _modification(record, entry, properties)
        if change is not None:
            made.append(change)
            if change.replacement == "True":
                remade.add(name)
    made += [
        Change(action="Remove", name=record.name, type=record.type, physical=record.now.id)
        for record in records.values()
        if record.name not in present
    ]
    return tuple(made)


def _modification(record: Resource, entry: ResourceType, properties: dict[str, Any]) -> Change | None:
    before = record.now.properties
    open_ = {key for key, item in properties.items() if unknown(item)}
    known = entry.coerce({key: item for key, item in properties.items() if key not in open_})
    # A secret or parameter that is read at deployment stands in the record as its value.
    late = {key for key, item in known.items() if "{{resolve:" in repr(item) and key in before}
    after = {**known, **{key: before.get(key) for key in (*open_, *late) if key in before}}
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)} | open_
    if not changed and not entry.always_updates:
        return None
    try:
        certain = entry.replaced_by(before, after)
    except AWSError:
        certain = frozenset()
    perhaps = entry.replaced_by(before, {**after, **dict.fromkeys(open_)}) & open_
    replacement = "True" if certain else "Conditional" if perhaps else "False"
    tags = entry.schema.tag_property if entry.schema is not None else None
    details: tuple[dict[str, Any], ...] = tuple(
        {
            "Target": {
                "Attribute": "Tags" if key == tags else "Properties",
                **({} if key == tags else {"Name": key}),
                "RequiresRecreation": "Always"
                if key in certain
                else "Conditionally"
                if key in perhaps
                else "Never",
            },
            "Evaluation": "Dynamic" if key in open_ else "Static",
            "ChangeSource": "ResourceAttribute" if key in open_ else "DirectModification",
        }
        for key in sorted(changed)
    )
    return Change(
        action="Modify",
        name=record.name,
        type=record.type,
        physical=record.now.id,
        replacement=replacement,
        scope=tuple(sorted({detail["Target"]["Attribute"] for detail in details})) or ("Properties",),
        details=details,
    )
