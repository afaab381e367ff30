"""Whether a role's trust policy lets a caller assume it.

Evaluates what trust policies are made of: AWS principals, `sts:` actions, and the string, ARN, boolean and
null conditions on the caller and the request. A condition that it does not know never grants and always
denies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from lambay.aws import Principal

Context = Mapping[str, str]


def trusts(policy: str, principal: Principal, action: str, context: Context) -> bool:
    """Whether the trust policy `policy` (JSON text) allows `principal` to do `action` (`sts:AssumeRole`).

    `context` holds condition keys in lower case. An explicit Deny wins; an unreadable policy trusts nobody.
    """
    try:
        document = json.loads(policy)
    except ValueError:
        return False
    allowed = False
    for statement in _listed(document.get("Statement") if isinstance(document, dict) else None):
        if not isinstance(statement, dict) or not _covers(statement, principal, action):
            continue
        denies = statement.get("Effect") == "Deny"
        met = _conditions_met(statement.get("Condition"), context)
        if denies and met is not False:
            return False
        if statement.get("Effect") == "Allow" and met is True:
            allowed = True
    return allowed


def request_context(principal: Principal, **keys: str | None) -> dict[str, str]:
    """The condition keys every request has, and those of `keys` that are given (`sts_ExternalId="…"`)."""
    context = {
        "aws:principalarn": principal.role_arn or principal.arn,
        "aws:principalaccount": principal.account,
        "aws:userid": principal.user_id,
    }
    for name, value in keys.items():
        if value is not None:
            context[name.replace("_", ":", 1).lower()] = value
    return context


def _covers(statement: Mapping[str, Any], principal: Principal, action: str) -> bool:
    if "Action" in statement:
        acted = _acts(statement["Action"], action)
    else:
        acted = not _acts(statement.get("NotAction"), action)
    if not acted:
        return False
    if "NotPrincipal" in statement:
        return not _is_named(statement["NotPrincipal"], principal)
    return _is_named(statement.get("Principal"), principal)


def _acts(actions: Any, action: str) -> bool:
    return any(_like(str(given).lower(), action.lower()) for given in _listed(actions))


def _is_named(named: Any, principal: Principal) -> bool:
    if named == "*":
        return True
    if not isinstance(named, dict):
        return False
    own = {
        "*",
        principal.account,
        f"arn:aws:iam::{principal.account}:root",
        principal.arn,
        principal.role_arn,
    }
    return any(given in own for given in _listed(named.get("AWS")))


def _conditions_met(conditions: Any, context: Context) -> bool | None:
    """True or False, None where a condition is of a kind that is not known here."""
    verdict: bool | None = True
    for operator, wanted in (conditions or {}).items():
        for key, values in wanted.items():
            allowed_values = [_text(value) for value in _listed(values)]
            met = _condition_met(operator, context.get(key.lower()), allowed_values)
            if met is False:
                return False
            if met is None:
                verdict = None
    return verdict


def _condition_met(operator: str, actual: str | None, values: list[str]) -> bool | None:
    if operator == "Null":
        return any((actual is None) == (value == "true") for value in values)
    name = operator.removesuffix("IfExists")
    negated = name.startswith(("StringNot", "ArnNot"))
    if name not in _OPERATORS:
        return None
    if actual is None:
        return negated or operator.endswith("IfExists")
    matches = any(_OPERATORS[name](value, actual) for value in values)
    return matches != negated


def _like(pattern: str, text: str) -> bool:
    return _glob(pattern).fullmatch(text) is not None


@lru_cache(1024)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern), re.DOTALL)


def _equals(value: str, actual: str) -> bool:
    return value == actual


def _equals_ignoring_case(value: str, actual: str) -> bool:
    return value.lower() == actual.lower()


_OPERATORS = {
    "StringEquals": _equals,
    "StringNotEquals": _equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringNotEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": _like,
    "StringNotLike": _like,
    "ArnEquals": _like,
    "ArnNotEquals": _like,
    "ArnLike": _like,
    "ArnNotLike": _like,
    "Bool": _equals_ignoring_case,
}


def _listed(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
