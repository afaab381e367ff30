"""Input checked against the constraints of its model, reported in AWS's words.

Lengths, ranges, patterns, enums and required members come from the model. The texts and their order (enum,
length, pattern) are those that the services answer with; members are named from the lower-cased root, list
elements as `tags.1.member.key`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import regex

from lambay.api.model import NUMBERS, Member, Operation, ServiceModel, Shape
from lambay.aws import AWSError

_log = logging.getLogger("lambay.api")

# Java writes characters beyond the basic plane as a range of surrogate pairs.
_ASTRAL = (r"\uD800\uDC00-\uDBFF\uDFFF", "\ud800\udc00-\udbff\udfff", "\\U00010000-\\U0010FFFF")


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a service refuses input: with which code, and whether list elements are also said to be
    non-null.
    """

    code: str
    elements_not_null: bool = False


_MANNERS = {
    "lambda": _Manner("ValidationException", elements_not_null=True),
    "efs": _Manner("ValidationException"),
    "logs": _Manner("InvalidParameterException"),
    "ecs": _Manner("InvalidParameterException"),
    "s3": _Manner("InvalidArgument"),
}
_BY_PROTOCOL = {
    "query": _Manner("ValidationError"),
    "ec2": _Manner("InvalidParameterValue"),
}
_DEFAULT = _Manner("ValidationException")

# Longer texts are matched each time: nobody is to fill the memory with them.
_REMEMBERED = 256

# Lambda words its runtimes differently, because a runtime may also be given by its version's ARN.
_LAMBDA_RUNTIMES = "Runtime"


def check(operation: Operation, protocol: str, given: Mapping[str, Any]) -> None:
    """Raises the service's own error naming every member that breaks a constraint, all of them in one
    text.
    """
    shape = operation.input
    if shape is None or not _constrained(shape):
        return
    service = operation.service
    manner = _MANNERS.get(service.service) or _BY_PROTOCOL.get(protocol) or _DEFAULT
    found: list[str] = []
    _structure(shape, given, "", found, manner)
    if not found:
        return
    _lambda_runtime(service, shape, given)
    noun = "validation error" if len(found) == 1 else "validation errors"
    raise AWSError(manner.code, f"{len(found)} {noun} detected: {'; '.join(found)}", status=400)


def _lambda_runtime(service: ServiceModel, shape: Shape, given: Mapping[str, Any]) -> None:
    member = shape.members.get("Runtime")
    value = given.get("Runtime")
    if service.service != "lambda" or member is None or member.shape.name != _LAMBDA_RUNTIMES:
        return
    if value is not None and value not in member.shape.enum:
        raise AWSError(
            "InvalidParameterValueException",
            f"Value {value} at 'runtime' failed to satisfy constraint: "
            f"{_enum_text(member.shape)} or be a valid ARN",
        )


def _structure(shape: Shape, value: Mapping[str, Any], path: str, found: list[str], manner: _Manner) -> None:
    for name in shape.required:
        if value.get(name) is None:
            found.append(f"Value null at '{path}{_lower(name)}' failed to satisfy constraint: {_NOT_NULL}")
    for name, item in value.items():
        member = shape.members.get(name)
        if member is not None and item is not None and _constrained(member.shape):
            _value(member, item, path + _lower(name), found, manner)


def _value(member: Member, value: Any, path: str, found: list[str], manner: _Manner) -> None:
    shape = member.shape
    for text in _broken(shape, value):
        found.append(f"{_shown(shape, value)} at '{path}' failed to satisfy constraint: {text}")
    match shape.type:
        case "structure" if not shape.document:
            _structure(shape, value, f"{path}.", found, manner)
        case "list":
            _elements(shape, value, path, found, manner)
        case "map":
            _entries(shape, value, path, found, manner)


def _elements(shape: Shape, value: list[Any], path: str, found: list[str], manner: _Manner) -> None:
    element = shape.element
    assert element is not None
    if None not in value and not _constrained(element.shape):
        return
    if element.shape.type in ("structure", "list", "map"):
        for position, item in enumerate(value, 1):
            if item is None:
                found.append(
                    f"Value null at '{path}.{position}.member' failed to satisfy constraint: {_NOT_NULL}"
                )
            else:
                _value(element, item, f"{path}.{position}.member", found, manner)
    elif any(item is None or _broken(element.shape, item) for item in value):
        rules = _element_rules(element.shape, manner, None in value)
        text = f"Member must satisfy constraint: [{', '.join(rules)}]"
        found.append(f"{_shown(shape, value)} at '{path}' failed to satisfy constraint: {text}")


def _entries(shape: Shape, value: Mapping[str, Any], path: str, found: list[str], manner: _Manner) -> None:
    assert shape.key is not None
    assert shape.value is not None
    for part, label, items in (
        (shape.key, "Map keys must satisfy constraint", value.keys()),
        (shape.value, "Map value must satisfy constraint", value.values()),
    ):
        if None not in items and not _constrained(part.shape):
            continue
        if part.shape.type in ("structure", "list", "map"):
            for key, item in value.items():
                if item is None:
                    found.append(
                        f"Value null at '{path}.{key}.member' failed to satisfy constraint: {_NOT_NULL}"
                    )
                else:
                    _value(part, item, f"{path}.{key}.member", found, manner)
        elif any(item is None or _broken(part.shape, item) for item in items):
            rules = _element_rules(part.shape, manner, None in items)
            text = f"{label}: [{', '.join(rules)}]"
            found.append(f"{_shown(shape, value)} at '{path}' failed to satisfy constraint: {text}")


_NOT_NULL = "Member must not be null"


def _broken(shape: Shape, value: Any) -> list[str]:
    """The texts of the constraints that a value itself breaks."""
    texts: list[str] = []
    if shape.enum and value not in shape.enum:
        texts.append(_enum_text(shape))
    if shape.pattern is not None and shape.type == "string" and not _fits(shape, shape.pattern, value):
        texts.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    if shape.min is not None or shape.max is not None:
        size = value if shape.type in NUMBERS else len(value)
        if shape.max is not None and size > shape.max:
            texts.append(_bound_text(shape, "less", shape.max))
        if shape.min is not None and size < shape.min:
            texts.append(_bound_text(shape, "greater", shape.min))
    return texts


def _fits(shape: Shape, pattern: str, value: str) -> bool:
    if _hopeless(shape, value):
        return True
    return (_matches_again if len(value) <= _REMEMBERED else _matches)(pattern, value)


def _matches(pattern: str, value: str) -> bool:
    """What cannot be read constrains nothing."""
    expression = compiled(pattern)
    return expression is None or expression.fullmatch(value) is not None


_matches_again = functools.lru_cache(4096)(_matches)


def _hopeless(shape: Shape, value: str) -> bool:
    """Text so far beyond its length that matching it would only cost time."""
    return shape.max is not None and len(value) > max(4096, 4 * shape.max)


def _rules(shape: Shape) -> list[str]:
    """Every constraint of a shape, as AWS lists them for the elements of lists and maps."""
    texts = [_enum_text(shape)] if shape.enum else []
    if shape.max is not None:
        texts.append(_bound_text(shape, "less", shape.max))
    if shape.min is not None:
        texts.append(_bound_text(shape, "greater", shape.min))
    if shape.pattern is not None:
        texts.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    return texts


def _element_rules(shape: Shape, manner: _Manner, with_null: bool) -> list[str]:
    """The rules of a list's or map's elements; some services always list that they must not be null."""
    return [*_rules(shape), *([_NOT_NULL] if manner.elements_not_null or with_null else [])]


def _enum_text(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _bound_text(shape: Shape, which: str, bound: float) -> str:
    what = "value" if shape.type in NUMBERS else "length"
    # As Java prints a double, `1.0`, and an integer, `1`.
    text = str(float(bound) if shape.type in ("double", "float") else int(bound))
    return f"Member must have {what} {which} than or equal to {text}"


def _shown(shape: Shape, value: Any) -> str:
    """`Value '...'`; secrets are not repeated."""
    return "Value" if _secret(shape) else f"Value '{_java(value)}'"


def _secret(shape: Shape) -> bool:
    inner = (shape.element, shape.key, shape.value)
    return shape.sensitive or any(part is not None and part.shape.sensitive for part in inner)


def _java(value: Any) -> str:
    """A value as the services' Java prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case list():
            return f"[{', '.join(map(_java, value))}]"
        case dict():
            return "{" + ", ".join(f"{key}={_java(item)}" for key, item in value.items()) + "}"
        case bytes():
            return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
        case _:
            return str(value)


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


@functools.cache
def _constrained(shape: Shape) -> bool:
    """Whether anything within a shape can be broken at all; most inputs are large and mostly free."""
    return _search(shape, set())


def _search(shape: Shape, seen: set[str]) -> bool:
    if shape.name in seen:
        return False
    seen.add(shape.name)
    if (
        shape.type in ("list", "map")
        or shape.required
        or shape.enum
        or shape.min is not None
        or shape.max is not None
        or shape.pattern is not None
    ):
        return True
    parts = (*shape.members.values(), shape.element, shape.key, shape.value)
    return any(part is not None and _search(part.shape, seen) for part in parts)


@functools.cache
def compiled(pattern: str) -> regex.Pattern[str] | None:
    """The model's Java-flavoured pattern, or None where it cannot be read (then it constrains nothing)."""
    escaped, literal, modern = _ASTRAL
    try:
        return regex.compile(pattern.replace(escaped, modern).replace(literal, modern), regex.V0)
    except regex.error as error:
        _log.warning("the pattern %r of a model cannot be read: %s", pattern, error)
        return None
