"""Values of the model to and from JSON-like trees, which the JSON and CBOR protocols share."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from lambay.api import timestamps
from lambay.api.model import Member, Shape
from lambay.api.protocols.scalars import fits, is_moment, mismatch, not_finite, number

_log = logging.getLogger("lambay.api")
_reported: set[tuple[str, str]] = set()


class Documents:
    """One dialect: how blobs, timestamps and floats look in the tree. This one is JSON's."""

    def __init__(self) -> None:
        self._readers: dict[str, Callable[[Member, Any, str], Any]] = {
            "structure": lambda member, value, path: self.structure(member.shape, value, path),
            "list": self._list,
            "map": self._map,
            "string": _string,
            "character": _string,
            "integer": _integer,
            "long": _integer,
            "float": _float,
            "double": _float,
            "boolean": _boolean,
            "blob": self.read_blob,
            "timestamp": self.read_timestamp,
        }

    # From the wire.

    def structure(
        self, shape: Shape, value: Any, path: str, members: Iterable[Member] | None = None
    ) -> dict[str, Any]:
        """The members found in `value`; unknown ones and nulls are left out. `members` narrows the choice."""
        if shape.document:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, dict):
            raise mismatch(value, "structure", path)
        found: dict[str, Any] = {}
        for member in shape.members.values() if members is None else members:
            item = value.get(member.wire)
            if item is not None:
                found[member.name] = self.read(member, item, f"{path}.{member.wire}" if path else member.wire)
        return found

    def read(self, member: Member, value: Any, path: str) -> Any:
        """A value of the model from the tree. Raises SerializationException where the types do not fit."""
        return self._readers[member.shape.type](member, value, path)

    def _list(self, member: Member, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise mismatch(value, "list", path)
        element = member.shape.element
        assert element is not None
        read = self._readers[element.shape.type]
        return [
            None if item is None else read(element, item, f"{path}.{position}")
            for position, item in enumerate(value, 1)
        ]

    def _map(self, member: Member, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise mismatch(value, "map", path)
        element = member.shape.value
        assert element is not None
        read = self._readers[element.shape.type]
        return {
            key: None if item is None else read(element, item, f"{path}.{key}") for key, item in value.items()
        }

    def read_blob(self, member: Member, value: Any, path: str) -> bytes:
        if not isinstance(value, str):
            raise mismatch(value, "blob", path)
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise mismatch(value, "blob", path) from None

    def read_timestamp(self, member: Member, value: Any, path: str) -> datetime:
        try:
            return timestamps.parse(value)
        except ValueError:
            raise mismatch(value, "timestamp", path) from None

    # To the wire.

    def tree(
        self, shape: Shape, value: Mapping[str, Any], members: Mapping[str, Member] | None = None
    ) -> dict[str, Any]:
        """The tree of a structure. Members that are None are left out, and so are ones the model lacks."""
        if shape.document:
            return value  # type: ignore[return-value]
        known = shape.members if members is None else members
        tree: dict[str, Any] = {}
        for name, item in value.items():
            member = known.get(name)
            if member is None:
                _report_unknown(shape, name)
            elif item is not None:
                tree[member.wire] = self.write(member, item)
        return tree

    def write(self, member: Member, value: Any) -> Any:
        """A value of the model as the tree has it."""
        shape = member.shape
        match shape.type:
            case "structure":
                return self.tree(shape, value)
            case "list":
                element = shape.element
                assert element is not None
                return [None if item is None else self.write(element, item) for item in value]
            case "map":
                element = shape.value
                assert element is not None
                return {key: self.write(element, item) for key, item in value.items() if item is not None}
            case "blob":
                return self.write_blob(value.encode() if isinstance(value, str) else value)
            case "timestamp":
                return self.write_timestamp(member, value)
            case "float" | "double":
                return self.write_float(value)
            case _:
                return value

    def write_blob(self, value: bytes) -> Any:
        return base64.b64encode(value).decode()

    def write_timestamp(self, member: Member, value: Any) -> Any:
        if not is_moment(value):
            raise TypeError(f"{member.name}: {value!r} is no datetime")
        return timestamps.render(value, member.timestamp_format or "unixTimestamp")

    def write_float(self, value: float) -> Any:
        special = not_finite(value)
        return float(value) if special is None else special


def _string(_member: Member, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise mismatch(value, "string", path)
    return value


def _integer(member: Member, value: Any, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and fits(member, value):
        return value
    raise mismatch(value, member.shape.type, path)


def _float(member: Member, value: Any, path: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if value in ("NaN", "Infinity", "-Infinity"):
        return number(value)
    raise mismatch(value, member.shape.type, path)


def _boolean(_member: Member, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise mismatch(value, "boolean", path)
    return value


def _report_unknown(shape: Shape, name: str) -> None:
    """A member that the model does not have is a service's mistake: said once, and not sent."""
    if name != "ResponseMetadata" and (shape.name, name) not in _reported:
        _reported.add((shape.name, name))
        _log.warning("an operation returned %s, which the model's %s does not have", name, shape.name)
