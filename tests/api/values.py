"""Inputs and outputs for any shape of a model: one with everything set, and a Hypothesis strategy for
others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from lambay.api.model import Member, Shape

MOMENT = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
_DEPTH = 4

# XML has no other control characters, and header values neither line breaks nor outer blanks.
_TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x1FFFF, exclude_categories=("Cs", "Cc", "Cn")), max_size=12
)
_TOKEN = st.text("abcXYZ019-_.:/ %+é", min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and text.strip("./")
)
_HEADER = st.text("abcXYZ019-_.:/;=", min_size=1, max_size=12)
_MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


def full(shape: Shape, depth: int = 0) -> dict[str, Any]:
    """A structure with every member set; of a union the first, and of recursive ones a few levels."""
    if shape.document:
        return {"any": ["document", 1, None, {"x": True}]}
    members = [member for member in shape.members.values() if not member.shape.event_stream]
    chosen = members[:1] if shape.union else members
    return {
        member.name: _example(member, depth + 1)
        for member in chosen
        if depth < _DEPTH or shape.union or _scalar(member.shape)
    }


def structures(shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Structures with any subset of members; labels and status codes always."""
    if shape.document:
        return st.dictionaries(_TEXT, st.integers() | _TEXT | st.booleans(), max_size=3)
    usable = {
        member.name: _values(member, depth + 1)
        for member in shape.members.values()
        if not member.shape.event_stream and (depth < _DEPTH or shape.union or _scalar(member.shape))
    }
    if shape.union and usable:
        return st.one_of(
            *(values.map(lambda value, name=name: {name: value}) for name, values in usable.items())
        )
    usable = {name: values.filter(bool) if _raw(shape, name) else values for name, values in usable.items()}
    fixed = {name: values for name, values in usable.items() if _always(shape, name)}
    return st.fixed_dictionaries(
        fixed, optional={name: values for name, values in usable.items() if name not in fixed}
    )


def plain(value: Any) -> Any:
    """A value for comparison: times in UTC, and without empty lists and maps, which XML cannot always
    tell.
    """
    match value:
        case datetime():
            return value.astimezone(UTC)
        case dict():
            found = {key: plain(item) for key, item in value.items()}
            return {key: item for key, item in found.items() if item not in ({}, [])}
        case list():
            return [item for item in map(plain, value) if item not in ({}, [])]
        case _:
            return value


def _always(shape: Shape, name: str) -> bool:
    """Labels, status codes and raw bodies, of which nothing can be told from none at all."""
    member = shape.members[name]
    return member.location in ("uri", "statusCode") or _raw(shape, name)


def _raw(shape: Shape, name: str) -> bool:
    return shape.payload == name and shape.members[name].shape.type in ("blob", "string")


def _scalar(shape: Shape) -> bool:
    return shape.type not in ("structure", "list", "map")


def _example(member: Member, depth: int) -> Any:
    shape = member.shape
    match shape.type:
        case "structure":
            return full(shape, depth)
        case "list":
            assert shape.element is not None
            if not _scalar(shape.element.shape) and depth >= _DEPTH:
                return []
            return [_example(shape.element, depth + 1), _example(shape.element, depth + 1)]
        case "map":
            assert shape.key is not None
            assert shape.value is not None
            if not _scalar(shape.value.shape) and depth >= _DEPTH:
                return {}
            return {
                key: _example(shape.value, depth + 1) for key in shape.key.shape.enum[:2] or ("a", "b:c/d")
            }
        case "integer" | "long":
            return 204 if member.location == "statusCode" else 7
        case "float" | "double":
            return 2.5
        case "boolean":
            return True
        case "timestamp":
            return MOMENT
        case "blob":
            return b"\x00\xffblob"
        case _:
            if member.json_value:
                return {"json": 1}
            return shape.enum[0] if shape.enum else "a value & <more>" if not member.location else "a:b/c-d"


def _values(member: Member, depth: int) -> st.SearchStrategy[Any]:
    shape = member.shape
    match shape.type:
        case "structure":
            return structures(shape, depth)
        case "list":
            assert shape.element is not None
            if not _scalar(shape.element.shape) and depth >= _DEPTH:
                return st.just([])
            if member.location == "header" and shape.element.shape.type == "string":
                return st.lists(_HEADER, min_size=1, max_size=3)
            return st.lists(
                _values(shape.element, depth + 1), max_size=3, min_size=1 if member.location else 0
            )
        case "map":
            assert shape.value is not None
            if not _scalar(shape.value.shape) and depth >= _DEPTH:
                return st.just({})
            names = st.text("abc-9", min_size=1, max_size=5) if member.location else _TEXT
            inner = _HEADER if member.location == "headers" else _values(shape.value, depth + 1)
            return st.dictionaries(names, inner, max_size=3)
        case "integer":
            # A status code is a response's, and below 300, or clients take the response for an error.
            return (
                st.sampled_from([200, 202])
                if member.location == "statusCode"
                else st.integers(-(2**31), 2**31 - 1)
            )
        case "long":
            return st.integers(-(2**63), 2**63 - 1)
        case "float" | "double":
            return st.floats(allow_nan=False, allow_infinity=False, width=32)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return _MOMENTS
        case "blob":
            return st.binary(min_size=1 if member.location or member.streaming else 0, max_size=20)
        case _:
            if member.json_value:
                return st.dictionaries(st.text("abc", min_size=1), st.integers(-9, 9), max_size=2)
            if member.location in ("header", "headers", "statusCode"):
                return _HEADER
            if member.location:
                return _TOKEN
            return st.sampled_from(shape.enum) if shape.enum else _TEXT
