"""Scalars as text (labels, query strings, headers, form fields, XML) and what is wrong with ill-typed
ones.
"""

from __future__ import annotations

import base64
import binascii
import math
from datetime import datetime
from typing import Any

import msgspec

from lambay.api import timestamps
from lambay.api.model import Member
from lambay.aws import AWSError

_ARTICLES = {
    "string": "a String",
    "character": "a String",
    "integer": "an Integer",
    "long": "a Long",
    "float": "a Float",
    "double": "a Double",
    "boolean": "a Boolean",
    "timestamp": "a Timestamp",
    "blob": "a Blob",
    "list": "a List",
    "map": "a Map",
    "structure": "a Structure",
}
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def token(value: object) -> str:
    """What JSON and CBOR readers call a value in AWS's SerializationException texts."""
    if value is None:
        return "NULL_VALUE"
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, (int, float)):
        return "NUMBER_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    return "START_ARRAY" if isinstance(value, list) else "START_OBJECT"


def mismatch(value: object, wanted: str, path: str) -> AWSError:
    """SerializationException for a value of the wrong type at `path`."""
    where = f" (at '{path}')" if path else ""
    text = f"{token(value)} can not be converted to {_ARTICLES.get(wanted, wanted)}{where}"
    return AWSError("SerializationException", text, status=400)


def malformed(text: str) -> AWSError:
    return AWSError("SerializationException", text, status=400)


def from_text(member: Member, text: str, path: str) -> Any:
    """A scalar from its textual form. Raises SerializationException naming `path`."""
    kind = member.shape.type
    try:
        match kind:
            case "string" | "character":
                return msgspec.json.decode(base64.b64decode(text)) if member.json_value else text
            case "integer" | "long":
                whole = int(text)
                if fits(member, whole):
                    return whole
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "float" | "double":
                return number(text)
            case "timestamp":
                return timestamps.parse(text)
            case "blob":
                return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, binascii.Error, msgspec.DecodeError):
        pass
    raise malformed(f"'{text}' at '{path}' can not be converted to {_ARTICLES.get(kind, kind)}")


def to_text(member: Member, value: Any, timestamp_format: str) -> str:
    """The textual form of a scalar; `timestamp_format` holds where the model names none."""
    match member.shape.type:
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return str(timestamps.render(value, member.timestamp_format or timestamp_format))
        case "blob":
            return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        case "float" | "double":
            special = not_finite(value)
            return special if special is not None else repr(float(value))
        case _:
            if member.json_value:
                return base64.b64encode(msgspec.json.encode(value)).decode()
            return str(value)


def fits(member: Member, value: int) -> bool:
    """Whether a whole number is within its type: integers have 32 bits, longs 64."""
    bits = 31 if member.shape.type == "integer" else 63
    return -(1 << bits) <= value < 1 << bits


def number(text: str) -> float:
    special = _SPECIAL.get(text)
    return special if special is not None else float(text)


def not_finite(value: float) -> str | None:
    """`NaN`, `Infinity` or `-Infinity` as all protocols spell them, else None."""
    if math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def is_moment(value: object) -> bool:
    return isinstance(value, (datetime, int, float)) and not isinstance(value, bool)
