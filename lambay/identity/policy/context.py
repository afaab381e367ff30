"""The condition keys of a request, and those that every principal brings."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from lambay.aws import Principal
from lambay.identity.policy.patterns import Context

Value = str | bool | int | float | bytes | datetime

_PRINCIPAL_TYPES = {
    "root": "Account",
    "user": "User",
    "assumed-role": "AssumedRole",
    "federated-user": "FederatedUser",
    "service": "Service",
    "anonymous": "Anonymous",
}


def context(keys: Mapping[str, Value | Iterable[Value] | None]) -> dict[str, tuple[str, ...]]:
    """Condition keys as a request carries them, in IAM's notation: names without regard to case.

    A list or tuple makes a multivalued key, an empty one a key without value; None leaves the key out.
    """
    return {name.lower(): _texts(value) for name, value in keys.items() if value is not None}


def principal_context(principal: Principal, tags: Mapping[str, str] | None = None) -> Context:
    """The global keys that say who calls; see IAM User Guide, "AWS global condition context keys".

    `tags` are the principal's: its own and those of the session.
    """
    keys: dict[str, tuple[str, ...]] = {
        "aws:principaltype": (_PRINCIPAL_TYPES[principal.kind],),
        "aws:principalisawsservice": ("true" if principal.kind == "service" else "false",),
        "aws:userid": (principal.user_id,),
    }
    if principal.kind == "service":
        keys["aws:principalservicename"] = (principal.user_id,)
    elif principal.kind != "anonymous":
        keys["aws:principalarn"] = (principal.role_arn or principal.arn,)
        keys["aws:principalaccount"] = (principal.account,)
    if principal.kind == "user":
        keys["aws:username"] = (principal.arn.rpartition("/")[2],)
    for name, value in (tags or {}).items():
        keys[f"aws:principaltag/{name.lower()}"] = (value,)
    return keys


def _texts(value: Value | Iterable[Value]) -> tuple[str, ...]:
    if isinstance(value, str | bool | int | float | bytes | datetime):
        return (_text(value),)
    return tuple(_text(each) for each in value)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
