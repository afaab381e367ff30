"""The public registry's schemas of resource types, as cfn-lint ships them: what a property may be and what replaces.

See the CloudFormation CLI User Guide, "Resource type schema".
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lambay.deploy.template.functions import text

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """`create_only` and `read_only` are paths of property names; `*` stands for any item of a list."""

    type: str
    body: Mapping[str, Any]
    create_only: frozenset[_Path]
    read_only: frozenset[_Path]

    @property
    def attributes(self) -> frozenset[str]:
        """What Fn::GetAtt knows: read-only properties, joined by dots."""
        return frozenset(".".join(path) for path in self.read_only)

    @property
    def tag_property(self) -> str | None:
        """The property that takes a stack's tags."""
        tagging = self.body.get("tagging") or {}
        name = str(tagging.get("tagProperty", "/properties/Tags")).rpartition("/")[2]
        return name if tagging.get("taggable", True) is not False and name in self.properties() else None

    def tagged(self, properties: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """`properties` with a stack's tags among its own, which win."""
        name = self.tag_property
        if name is None or not tags:
            return dict(properties)
        own = properties.get(name)
        if self._target(self.properties()[name]).get("type") == "array":
            listed = own if isinstance(own, list) else []
            keys = {tag.get("Key") for tag in listed}
            added = [{"Key": key, "Value": value} for key, value in tags.items() if key not in keys]
            return {**properties, name: [*listed, *added]}
        return {**properties, name: {**tags, **(own if isinstance(own, dict) else {})}}

    def properties(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.body.get("properties", {})
        return found

    def coerce(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """The properties with texts made numbers and booleans, and the reverse, where the schema says so."""
        made: dict[str, Any] = self._coerce(properties, self.body)
        return made

    def faults(self, properties: Mapping[str, Any]) -> list[str]:
        """What is wrong, as CloudFormation words it: `#: required key [X] not found`."""
        return list(self._faults(properties, self.body, "#"))

    def replaced_by(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
        """The top-level properties whose change makes a new resource."""
        return frozenset(
            path[0] for path in self.create_only if list(_at(before, path)) != list(_at(after, path))
        )

    def _target(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(16):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            found: Any = self.body
            for part in reference.removeprefix("#/").split("/"):
                found = found.get(part, {})
            schema = found
        return schema

    def _coerce(self, value: Any, schema: Mapping[str, Any]) -> Any:
        schema = self._target(schema)
        kinds = schema.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds or []
        if isinstance(value, dict):
            known = schema.get("properties", {})
            rest = schema.get("additionalProperties")
            patterns = list(schema.get("patternProperties", {}).values())
            other = rest if isinstance(rest, dict) else patterns[0] if patterns else {}
            for choice in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
                known = {**self._target(choice).get("properties", {}), **known}
            return {key: self._coerce(item, known.get(key, other)) for key, item in value.items()}
        if isinstance(value, list):
            item = schema.get("items", {})
            return [self._coerce(entry, item) for entry in value] if isinstance(item, dict) else value
        if "array" in kinds and len(kinds) == 1 and value is not None:
            return [self._coerce(value, schema.get("items", {}))]
        return _scalar(value, kinds)

    def _faults(self, value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
        schema = self._target(schema)
        if isinstance(value, dict):
            known = schema.get("properties", {})
            for name in schema.get("required", ()):
                if name not in value:
                    yield f"{where}: required key [{name}] not found"
            if schema.get("additionalProperties") is False and not schema.get("patternProperties"):
                for name in value:
                    if name not in known:
                        yield f"{where}: extraneous key [{name}] is not permitted"
            for name, item in value.items():
                if name in known:
                    yield from self._faults(item, known[name], f"{where}/{name}")
            return
        if isinstance(value, list):
            item = schema.get("items")
            if isinstance(item, dict):
                for number, entry in enumerate(value):
                    yield from self._faults(entry, item, f"{where}/{number}")
            return
        kinds = schema.get("type")
        if kinds == "object":
            yield f"{where}: expected type: JSONObject, found: {_kind(value)}"
        elif kinds in ("integer", "number") and isinstance(value, str):
            yield f"{where}: expected type: Number, found: String"
        elif kinds == "boolean" and not isinstance(value, bool):
            yield f"{where}: expected type: Boolean, found: {_kind(value)}"
        allowed = schema.get("enum")
        if allowed and value not in allowed:
            yield f"{where}: {text(value)} is not a valid enum value"


@cache
def schema(name: str) -> Schema | None:
    """The schema of a resource type by its name; None where the registry has none."""
    content = _index().get(name)
    if content is None:
        return None
    body = msgspec.json.decode((_root() / "resources" / f"{content}.json").read_bytes())
    return Schema(
        name,
        body,
        frozenset(map(_path, body.get("createOnlyProperties", ()))),
        frozenset(map(_path, body.get("readOnlyProperties", ()))),
    )


def known_types() -> frozenset[str]:
    """Every resource type that AWS has."""
    return frozenset(_index())


@cache
def _index() -> dict[str, str]:
    found: dict[str, str] = msgspec.json.decode((_root() / "providers" / "us-east-1.json").read_bytes())
    return found


def _root() -> Path:
    """cfn-lint's data, found without importing it: that takes seconds and no schema needs it."""
    found = importlib.util.find_spec("cfnlint")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "schemas"


def _path(pointer: str) -> _Path:
    return tuple(pointer.removeprefix("/properties/").split("/"))


def _at(value: Any, path: _Path) -> Iterator[Any]:
    """What stands at `path`, every item's where it leads through a list."""
    if not path:
        yield value
        return
    name, *rest = path
    if isinstance(value, list):
        for item in value:
            yield from _at(item, tuple(rest) if name == "*" else path)
    elif isinstance(value, Mapping) and name in value:
        yield from _at(value[name], tuple(rest))


def _scalar(value: Any, kinds: list[str]) -> Any:
    if isinstance(value, str):
        if "string" in kinds or not kinds:
            return value
        if "boolean" in kinds and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if "integer" in kinds or "number" in kinds:
            try:
                return int(value)
            except ValueError:
                try:
                    return float(value)
                except ValueError:
                    return value
        return value
    if isinstance(value, (bool, int, float)) and kinds and "string" in kinds:
        natural = {"boolean"} if isinstance(value, bool) else {"integer", "number"}
        return value if natural & set(kinds) else text(value)
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return int(value)
    return value


def _kind(value: Any) -> str:
    return {bool: "Boolean", int: "Integer", float: "Number", str: "String"}.get(type(value), "Null")
