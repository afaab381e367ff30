"""A second evaluator for comparison: the IAM User Guide's sentences, one after the other, on plain JSON.

Slow and without any of the evaluator's parts: wildcards by recursion, nothing compiled, three values
(True, False, None for what cannot be told) where variables have no value.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from lambay.identity.policy import Request

# A literal character is ("=", c); the wildcards are ("*",) and ("?",).
Symbol = tuple[str, ...]


def decide_literally(
    request: Request,
    *,
    identity: list[Any] = [],  # noqa: B006
    resource: Any = None,
    boundary: Any = None,
    session: list[Any] | None = None,
) -> tuple[str, str | None]:
    """The decision, and the kind of policy that made it (None for root's own right)."""
    outcomes = [
        _one_resource(request, each, identity, resource, boundary, session) for each in request.resources
    ]
    for decision in ("explicit deny", "implicit deny"):
        for outcome in outcomes:
            if outcome[0] == decision:
                return outcome
    return outcomes[0]


def _one_resource(
    request: Request, on: str, identity: list[Any], resource: Any, boundary: Any, session: list[Any] | None
) -> tuple[str, str | None]:
    kind = request.principal.kind
    of_resource = request.resource_policy_type.value
    groups = [
        (of_resource, [resource] if resource else []),
        ("identity-based policy", identity),
        ("permissions boundary", [boundary] if boundary else []),
        ("session policy", session or []),
    ]
    for name, policies in groups:
        for policy in policies:
            for statement in _statements(policy):
                if statement["Effect"] == "Deny" and _applies(policy, statement, request, on):
                    return ("explicit deny", name)

    named = "nobody"
    for statement in _statements(resource) if resource else []:
        if statement["Effect"] == "Allow" and _applies(resource, statement, request, on):
            named = max(named, _how_allowed(statement, request), key=_WIDTHS.index)

    if kind in ("service", "anonymous"):
        return ("allowed", of_resource) if named == "itself" else ("implicit deny", of_resource)

    def some_allow(policies: list[Any]) -> bool:
        return any(
            statement["Effect"] == "Allow" and _applies(policy, statement, request, on)
            for policy in policies
            for statement in _statements(policy)
        )

    own = request.resource_account in ("", request.principal.account)
    if not own and named == "nobody":
        return ("implicit deny", of_resource)
    if request.resource_policy_required and named == "nobody":
        return ("implicit deny", of_resource)
    if own and named == "itself":
        return ("allowed", of_resource)

    by: str | None
    if own and named == "entity":
        by = of_resource
    elif kind == "root":
        by = None
    elif some_allow(identity):
        by = "identity-based policy"
    else:
        return ("implicit deny", "identity-based policy")
    if boundary is not None and not some_allow([boundary]):
        return ("implicit deny", "permissions boundary")
    if session is None and kind == "federated-user":
        return ("implicit deny", "session policy")
    if session is not None and not some_allow(session):
        return ("implicit deny", "session policy")
    return ("allowed", by)


_WIDTHS = ["nobody", "account", "entity", "itself"]


def _statements(policy: Any) -> list[Any]:
    return _several(policy["Statement"])


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _applies(policy: Any, statement: Any, request: Request, on: str) -> bool:
    variables = policy.get("Version") == "2012-10-17"
    if statement["Effect"] == "Deny" and not _denied_principal(statement, request):
        return False
    if "Action" in statement:
        acted = any(_glob(a.lower(), request.action.lower()) for a in _several(statement["Action"]))
    else:
        acted = not any(_glob(a.lower(), request.action.lower()) for a in _several(statement["NotAction"]))
    if not acted:
        return False
    if "Resource" in statement or "NotResource" in statement:
        patterns = _several(statement.get("Resource", statement.get("NotResource")))
        fits = _or([_resource_fits(pattern, on, request, variables) for pattern in patterns])
        if fits is not ("Resource" in statement):
            return False
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            if not _met(operator, key, [_text(v) for v in _several(values)], request, variables):
                return False
    return True


def _or(answers: list[bool | None]) -> bool | None:
    if True in answers:
        return True
    return None if None in answers else False


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Principals.


def _own_names(request: Request) -> tuple[set[str], set[str], set[str]]:
    p = request.principal
    account = {p.account, f"arn:aws:iam::{p.account}:root"} if p.account else set()
    if p.kind == "root":
        return account, set(), set()
    if p.kind == "anonymous":
        return set(), set(), set()
    if p.kind == "service":
        return {f"service {p.user_id}", "service *"}, set(), set()
    entity = set()
    if p.kind == "assumed-role":
        entity = {p.role_arn or "", p.user_id.split(":")[0]}
    if p.kind == "federated-user" and request.federated_by:
        entity = {request.federated_by} - account
    return {p.arn, p.user_id}, entity, account


def _listed_names(element: Any) -> set[str]:
    if element == "*":
        return {"*"}
    names = set()
    for kind, given in element.items():
        for name in _several(given):
            names.add(name if kind == "AWS" else f"{kind.lower()} {name}")
    return names


def _how_allowed(statement: Any, request: Request) -> str:
    itself, entity, account = _own_names(request)
    if "NotPrincipal" in statement:
        listed = _listed_names(statement["NotPrincipal"])
        spared = "*" in listed or listed & (itself | entity | account)
        return "nobody" if spared else "itself"
    listed = _listed_names(statement["Principal"])
    if "*" in listed or listed & itself:
        return "itself"
    if listed & entity:
        return "entity"
    return "account" if listed & account else "nobody"


def _denied_principal(statement: Any, request: Request) -> bool:
    if "Principal" in statement:
        return _how_allowed(statement, request) != "nobody"
    if "NotPrincipal" not in statement:
        return True
    listed = _listed_names(statement["NotPrincipal"])
    if "*" in listed:
        return False
    layers = [layer for layer in _own_names(request) if layer]
    return not (layers and all(listed & layer for layer in layers))


# Texts.


def _symbols(text: str, request: Request, variables: bool, wildcards: bool = True) -> list[Symbol] | None:
    symbols: list[Symbol] = []
    while text:
        if variables and text.startswith("${") and "}" in text:
            inner, rest = text[2:].split("}", 1)
            if inner in ("*", "?", "$"):
                symbols.append(("=", inner))
                text = rest
                continue
            key, _, default = inner.partition(",")
            values = request.context.get(key.strip().lower(), ())
            if len(values) == 1:
                value = values[0]
            elif default:
                value = default.strip().strip("'")
            else:
                return None
            symbols += [("=", c) for c in value]
            text = rest
            continue
        symbols.append((text[0],) if wildcards and text[0] in "*?" else ("=", text[0]))
        text = text[1:]
    return symbols


def _glob(pattern: str, text: str) -> bool:
    return _fits(tuple((c,) if c in "*?" else ("=", c) for c in pattern), text)


def _fits(symbols: tuple[Symbol, ...], text: str, within: bool = False) -> bool:
    """`within`: a `*` or `?` does not pass a colon, except a `*` right before a colon or the end."""

    @cache
    def at(i: int, j: int) -> bool:
        if i == len(symbols):
            return j == len(text)
        symbol = symbols[i]
        if symbol[0] == "=":
            return j < len(text) and text[j] == symbol[1] and at(i + 1, j + 1)
        bound = within and sum(s == ("=", ":") for s in symbols[:i]) < 5
        if symbol[0] == "?":
            return j < len(text) and not (bound and text[j] == ":") and at(i + 1, j + 1)
        if at(i + 1, j):
            return True
        k = i
        while k < len(symbols) and symbols[k] == ("*",):
            k += 1
        if bound and not (k == len(symbols) or symbols[k] == ("=", ":")) and text[j : j + 1] == ":":
            return False
        return j < len(text) and at(i, j + 1)

    return at(0, 0)


def _resource_fits(pattern: str, on: str, request: Request, variables: bool) -> bool | None:
    if pattern.strip("*") == "":
        return True
    head = pattern.split(":", 5)
    front = ":".join(head[:5]) + ":" if len(head) == 6 else pattern
    symbols = _symbols(front, request, False)
    assert symbols is not None
    if len(head) == 6:
        tail = _symbols(head[5], request, variables)
        if tail is None:
            return None
        symbols += tail
    elif not any(field.endswith("*") for field in head):
        for _ in range(6 - len(head)):
            symbols += [("=", ":"), ("*",)]
    return _fits(tuple(symbols), on, within=True)


def _arn_fits(symbols: list[Symbol], text: str) -> bool:
    if symbols and all(s == ("*",) for s in symbols):
        return True
    fields: list[list[Symbol]] = [[]]
    for symbol in symbols:
        if symbol == ("=", ":") and len(fields) < 6:
            fields.append([])
        else:
            fields[-1].append(symbol)
    while len(fields) < 6:
        fields.append([("*",)])
    parts = text.split(":", 5)
    if len(parts) < 6:
        return False
    return all(_fits(tuple(field), part) for field, part in zip(fields, parts, strict=True))


# Conditions.


def _met(operator: str, key: str, wanted: list[str], request: Request, variables: bool) -> bool:
    given = list(request.context.get(key.lower(), ()))
    empty = all(value == "" for value in given)
    operator = operator.lower()
    if operator == "null":
        return ("true" if empty else "false") in [w.lower() for w in wanted]
    quantifier = ""
    for prefix in ("forallvalues:", "foranyvalue:"):
        if operator.startswith(prefix):
            quantifier, operator = prefix, operator.removeprefix(prefix)
    exists_only = operator.endswith("ifexists")
    operator = operator.removesuffix("ifexists")
    negated = "not" in operator
    answers = [_compared(operator.replace("not", ""), v, wanted, request, variables) for v in given]
    results = [a is False if negated else a is True for a in answers]
    if quantifier == "forallvalues:":
        return empty or all(results)
    if quantifier == "foranyvalue:":
        return not empty and any(results)
    if not given:
        return exists_only or negated
    return all(results) if negated else any(results)


def _compared(operator: str, value: str, wanted: list[str], request: Request, variables: bool) -> bool | None:
    return _or([_compared_once(operator, value, w, request, variables) for w in wanted])


def _compared_once(operator: str, value: str, want: str, request: Request, variables: bool) -> bool | None:
    if operator.startswith(("string", "arn", "bool")):
        wildcards = operator == "stringlike" or operator.startswith("arn")
        symbols = _symbols(want, request, variables, wildcards)
        if symbols is None:
            return None
        if operator.startswith("arn"):
            return _arn_fits(symbols, value)
        if operator in ("stringequalsignorecase", "bool"):
            return "".join(s[1] for s in symbols).lower() == value.lower()
        return _fits(tuple(symbols), value)
    if operator == "binaryequals":
        try:
            return base64.b64decode(value, validate=True) == base64.b64decode(want, validate=True)
        except ValueError:
            return False
    if operator == "ipaddress":
        try:
            return ipaddress.ip_address(value) in ipaddress.ip_network(want, strict=False)
        except ValueError:
            return False
    read = _number if operator.startswith("numeric") else _date
    a, b = read(value), read(want)
    if a is None or b is None:
        return False
    comparison = operator.removeprefix("numeric").removeprefix("date")
    answers: dict[str, bool] = {
        "equals": a == b,
        "lessthan": a < b,
        "lessthanequals": a <= b,
        "greaterthan": a > b,
        "greaterthanequals": a >= b,
    }
    return answers[comparison]


def _number(text: str) -> Any:
    return Decimal(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def _date(text: str) -> Any:
    # Four digits are a year; every other number is seconds since the epoch.
    if re.fullmatch(r"-?\d+(\.\d+)?", text) and not re.fullmatch(r"\d{4}", text):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(text))
    for shape in ("%Y", "%Y-%m", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, shape).replace(tzinfo=UTC)
        except ValueError:
            pass
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
