"""File system policies: what is one, and whom it would lock out. Pure.

A file system policy is an IAM resource policy for `elasticfilesystem`; see EFS User Guide, "Using IAM to
control access to file systems", and IAM User Guide, "IAM JSON policy elements reference".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lambay.aws import AWSError, Principal

LONGEST = 20_000

_VERSIONS = ("2012-10-17", "2008-10-17")
_POLICY_ELEMENTS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_PRINCIPAL_TYPES = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})
_AWS_PRINCIPAL = re.compile(
    r"\*|\d{12}|arn:aws[-a-z]*:(iam|sts)::\d{12}:(root|\*|(user|role|group|assumed-role|federated-user)/.+)"
    r"|A[A-Z]{3}[A-Z0-9]{12,}"
)
_OPERATORS = (
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
    "ArnEquals",
    "ArnNotEquals",
    "ArnLike",
    "ArnNotLike",
)
_OPERATOR = re.compile(
    rf"(ForAllValues:|ForAnyValue:)?({'|'.join(_OPERATORS)})(IfExists)?|Null", re.IGNORECASE
)
_SERVICES = (".amazonaws.com", ".amazonaws.com.cn")


def check_policy(text: str, file_system_arn: str) -> dict[str, Any]:
    """The policy, parsed. Raises InvalidPolicyException with the first thing that is wrong."""
    if len(text) > LONGEST:
        raise _invalid(f"Policy: {len(text)} characters exceed the limit of {LONGEST}.")
    try:
        policy = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"Policy is not valid JSON: {error}") from None
    if not isinstance(policy, dict):
        raise _invalid("Policy must be a JSON object.")
    _known(policy, _POLICY_ELEMENTS, "Policy")
    if policy.get("Version", "2012-10-17") not in _VERSIONS:
        raise _invalid(f"Version: {policy['Version']!r} is not one of {', '.join(_VERSIONS)}.")
    if not isinstance(policy.get("Id", ""), str):
        raise _invalid("Id must be a string.")
    if "Statement" not in policy:
        raise _invalid("Statement is required.")
    sids: set[str] = set()
    statements = list(_statements(policy))
    if not statements:
        raise _invalid("Statement must not be empty.")
    for number, statement in enumerate(statements):
        _check_statement(statement, f"Statement[{number}]", file_system_arn, sids)
    return policy


def locks_out(policy: Mapping[str, Any], principal: Principal, file_system_arn: str) -> bool:
    """Whether `policy` denies `principal` a later PutFileSystemPolicy, whatever the request's conditions are.

    A statement with a Condition may or may not apply to that request, so it locks nobody out for certain.
    """
    return any(
        statement["Effect"] == "Deny"
        and "Condition" not in statement
        and _names_principal(statement, principal)
        and _matches(statement, "Action", "elasticfilesystem:PutFileSystemPolicy", _same_action)
        and _matches(statement, "Resource", file_system_arn, _like)
        for statement in _statements(policy)
    )


def _check_statement(statement: Any, at: str, file_system_arn: str, sids: set[str]) -> None:
    if not isinstance(statement, dict):
        raise _invalid(f"{at} must be a JSON object.")
    _known(statement, _STATEMENT_ELEMENTS, at)
    sid = statement.get("Sid")
    if sid is not None:
        if not isinstance(sid, str):
            raise _invalid(f"{at}.Sid must be a string.")
        if sid and sid in sids:
            raise _invalid(f"{at}.Sid: {sid!r} is used twice; statement ids must be unique.")
        sids.add(sid)
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise _invalid(f"{at}.Effect must be Allow or Deny.")
    for element in ("Principal", "Action"):
        if (element in statement) == (f"Not{element}" in statement):
            raise _invalid(f"{at} needs exactly one of {element} and Not{element}.")
    if "Resource" in statement and "NotResource" in statement:
        raise _invalid(f"{at} has both Resource and NotResource.")
    for element in ("Principal", "NotPrincipal"):
        if element in statement:
            _check_principal(statement[element], f"{at}.{element}")
    for element in ("Action", "NotAction"):
        for action in _strings(statement, element, at):
            if action != "*" and not action.lower().startswith("elasticfilesystem:"):
                raise _invalid(f"{at}.{element}: {action!r} is not an action of elasticfilesystem.")
    _strings(statement, "NotResource", at)
    for resource in _strings(statement, "Resource", at):
        if not _like(file_system_arn, resource):
            raise _invalid(f"{at}.Resource: {resource!r} is not this file system, {file_system_arn}.")
    if "Condition" in statement:
        _check_condition(statement["Condition"], f"{at}.Condition")


def _check_principal(principal: Any, at: str) -> None:
    if principal == "*":
        return
    if not isinstance(principal, dict) or not principal:
        raise _invalid(f'{at} must be "*" or an object such as {{"AWS": "123456789012"}}.')
    _known(principal, _PRINCIPAL_TYPES, at)
    for kind in principal:
        for name in _strings(principal, kind, at):
            if kind == "AWS" and not _AWS_PRINCIPAL.fullmatch(name):
                raise _invalid(f"{at}.AWS: {name!r} is not an account, ARN or unique id of a principal.")
            if kind == "Service" and name != "*" and not name.endswith(_SERVICES):
                raise _invalid(f"{at}.Service: {name!r} is not a service principal.")


def _check_condition(condition: Any, at: str) -> None:
    if not isinstance(condition, dict):
        raise _invalid(f"{at} must be a JSON object.")
    for operator, keys in condition.items():
        if not _OPERATOR.fullmatch(operator):
            raise _invalid(f"{at}: {operator!r} is not a condition operator.")
        if not isinstance(keys, dict) or not keys:
            raise _invalid(f"{at}.{operator} must be an object of condition keys.")
        for key, values in keys.items():
            several = values if isinstance(values, list) else [values]
            if not several or not all(isinstance(value, str | bool | int | float) for value in several):
                raise _invalid(f"{at}.{operator}.{key} must be a value or a list of values.")


def _strings(holder: Mapping[str, Any], element: str, at: str) -> list[str]:
    """The element's string or strings; none where it is absent."""
    if element not in holder:
        return []
    value = holder[element]
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(each, str) and each for each in several):
        raise _invalid(f"{at}.{element} must be a string or a list of strings.")
    return list(several)


def _statements(policy: Mapping[str, Any]) -> Iterator[Any]:
    statement = policy["Statement"]
    yield from statement if isinstance(statement, list) else [statement]


def _known(element: Mapping[str, Any], names: frozenset[str], at: str) -> None:
    for name in element:
        if name not in names:
            raise _invalid(f"{at}: {name!r} is not an element here; known are {', '.join(sorted(names))}.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an element is given twice in one object")
    return found


def _matches(
    statement: Mapping[str, Any], element: str, wanted: str, same: Callable[[str, str], bool]
) -> bool:
    """Whether an element, or its negation, covers `wanted`; an absent Resource is the file system itself."""
    if f"Not{element}" in statement:
        return not any(same(wanted, each) for each in _strings(statement, f"Not{element}", ""))
    return element not in statement or any(same(wanted, each) for each in _strings(statement, element, ""))


def _like(text: str, pattern: str) -> bool:
    """IAM's wildcards: `*` for any characters, `?` for one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _same_action(action: str, pattern: str) -> bool:
    return _like(action.lower(), pattern.lower())


def _names_principal(statement: Mapping[str, Any], principal: Principal) -> bool:
    negated = "NotPrincipal" in statement
    element = statement["NotPrincipal" if negated else "Principal"]
    if element == "*":
        return not negated
    account = principal.account
    names = {"*", account, f"arn:aws:iam::{account}:root", principal.arn, principal.role_arn}
    return any(name in names for name in _strings(element, "AWS", "")) is not negated


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidPolicyException", message)
