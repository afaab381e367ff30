"""Stack policies: which resources an update may touch. See the User Guide, "Prevent updates to stack resources"."""

from __future__ import annotations

import fnmatch
from typing import Any

import msgspec

from lambay.deploy.template.errors import invalid


def check(policy: str) -> None:
    """Raises AWSError ValidationError where the text is no stack policy."""
    try:
        body = msgspec.json.decode(policy)
    except msgspec.DecodeError:
        raise invalid("Error validating stack policy: Invalid stack policy") from None
    statements = body.get("Statement") if isinstance(body, dict) else None
    if not isinstance(statements, list):
        raise invalid("Error validating stack policy: Invalid stack policy")
    for statement in statements:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise invalid("Error validating stack policy: Invalid stack policy")


def refusal(policy: str | None, action: str, name: str, kind: str) -> str | None:
    """Why the resource may not be touched so; None where it may. Without a policy everything may be done."""
    if policy is None:
        return None
    allowed = False
    for number, statement in enumerate(msgspec.json.decode(policy).get("Statement", []), start=1):
        if not _applies(statement, action, name, kind):
            continue
        if statement["Effect"] == "Deny":
            return (
                f"Action denied by stack policy: Statement [#{number}] does not allow [{action}] for "
                f"resource [{_id(name)}]"
            )
        allowed = True
    return (
        None
        if allowed
        else f"Action not allowed by stack policy: no statement allows [{action}] for [{_id(name)}]"
    )


def _applies(statement: dict[str, Any], action: str, name: str, kind: str) -> bool:
    if "NotAction" in statement:
        acts = not _matches(statement["NotAction"], action)
    else:
        acts = _matches(statement.get("Action", "Update:*"), action)
    if "NotResource" in statement:
        about = not _matches(statement["NotResource"], _id(name))
    else:
        about = _matches(statement.get("Resource", "*"), _id(name))
    condition = statement.get("Condition", {})
    kinds = [
        item
        for operator in ("StringEquals", "StringLike")
        for item in _listed(condition.get(operator, {}).get("ResourceType", []))
    ]
    return acts and about and (not condition or any(fnmatch.fnmatchcase(kind, item) for item in kinds))


def _id(name: str) -> str:
    return f"LogicalResourceId/{name}"


def _matches(patterns: Any, value: str) -> bool:
    return any(fnmatch.fnmatchcase(value.lower(), str(item).lower()) for item in _listed(patterns))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
