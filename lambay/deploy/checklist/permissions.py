"""Roles: as little as a function needs, and the statements that never match."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from lambay.deploy.checklist.finding import Finding
from lambay.deploy.checklist.stack import SERVERLESS, Function, Stack, mapping, shown, written

_CLIENT = "elasticfilesystem:client"
_WIDE = {
    "arn:aws:iam::aws:policy/AmazonElasticFileSystemFullAccess": "may delete file systems",
    "arn:aws:iam::aws:policy/AdministratorAccess": "may do everything in the account",
    "arn:aws:iam::aws:policy/AmazonElasticFileSystemClientFullAccess": "acts as root on file systems",
}
_SLOW_START_SECONDS = 30


def check(stack: Stack) -> Iterator[Finding]:
    for each in stack.of_type("AWS::IAM::Role", SERVERLESS):
        for number, policy in enumerate(each.properties.get("ManagedPolicyArns") or []):
            if isinstance(policy, str) and policy in _WIDE:
                yield Finding(
                    stack.line(each.name, "Properties", "ManagedPolicyArns", number),
                    "LB301",
                    "warning",
                    f"{each.name} {_WIDE[policy]}, by {policy.rpartition('/')[2]}.",
                    "Allow elasticfilesystem:ClientMount and ClientWrite on the one file system instead.",
                )
    for name, path, statement in _statements(stack):
        yield from _statement(stack, name, path, statement)
    yield from _shared_roles(stack)
    yield from _timeouts(stack)
    for each in stack.of_type("AWS::Lambda::ProvisionedConcurrencyConfig"):
        yield Finding(
            stack.line(each.name, "Type"),
            "LB304",
            "warning",
            f"{each.name}: AWS has no type {each.type}.",
            "Set ProvisionedConcurrencyConfig of an AWS::Lambda::Alias or AWS::Lambda::Version.",
        )


def _statements(stack: Stack) -> Iterator[tuple[str, tuple[str | int, ...], Mapping[str, Any]]]:
    """Every statement of an identity policy, with where it stands."""
    for each in stack.of_type("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", SERVERLESS):
        inline = each.properties.get("Policies")
        places: list[tuple[tuple[str | int, ...], Any]] = [
            (("PolicyDocument",), each.properties.get("PolicyDocument"))
        ]
        for number, policy in enumerate(inline if isinstance(inline, list) else []):
            document = mapping(policy).get("PolicyDocument")
            if document is None:
                places.append((("Policies", number), policy))
            else:
                places.append((("Policies", number, "PolicyDocument"), document))
        for path, document in places:
            statements = mapping(document).get("Statement")
            for number, statement in enumerate(statements if isinstance(statements, list) else [statements]):
                if isinstance(statement, dict):
                    yield each.name, (*path, "Statement", number), statement


def _statement(
    stack: Stack, name: str, path: tuple[str | int, ...], statement: Mapping[str, Any]
) -> Iterator[Finding]:
    actions = [action.lower() for action in _texts(statement.get("Action"))]
    if statement.get("Effect") != "Allow":
        return
    wide = [action for action in actions if action in ("*", "elasticfilesystem:*")]
    client = [action for action in actions if action.startswith(_CLIENT)]
    line = stack.line(name, "Properties", *path)
    if wide:
        yield Finding(
            line,
            "LB302",
            "warning",
            f"{name} allows {wide[0]}, far more than mounting and writing.",
            "Allow elasticfilesystem:ClientMount and elasticfilesystem:ClientWrite on the file system's ARN.",
        )
    elif client:
        if "elasticfilesystem:clientrootaccess" in actions:
            yield Finding(
                line,
                "LB302",
                "warning",
                f"{name} allows elasticfilesystem:ClientRootAccess: without a PosixUser the function is root there.",
                "Leave it out unless the function has to change owners.",
            )
        resources = statement.get("Resource")
        for resource in resources if isinstance(resources, list) else [resources]:
            yield from _resource(stack, name, line, resource)


def _resource(stack: Stack, name: str, line: int, resource: Any) -> Iterator[Finding]:
    target = stack.referred(resource)
    if (target is not None and target.type == "AWS::EFS::AccessPoint") or ":access-point/" in json.dumps(
        resource, default=str
    ):
        yield Finding(
            line,
            "LB305",
            "error",
            f"{name}: the resource of ClientMount and ClientWrite is the file system; a policy for an access point's "
            "ARN never matches.",
            "Give the file system's ARN as Resource, and the access point's in the condition "
            "StringEquals elasticfilesystem:AccessPointArn.",
        )
    elif resource == "*":
        yield Finding(
            line,
            "LB306",
            "warning",
            f"{name} may mount every file system of the account.",
            "Give the one file system's ARN as Resource.",
        )


def _shared_roles(stack: Stack) -> Iterator[Finding]:
    users: dict[str, list[Function]] = defaultdict(list)
    for function in stack.functions:
        if "Role" in function.properties:
            users[written(function.properties["Role"])].append(function)
    for functions in users.values():
        if len(functions) > 1 and any(each.file_systems for each in functions):
            names = ", ".join(each.name for each in functions)
            role = shown(functions[0].properties["Role"])
            yield Finding(
                stack.line(functions[0].name, "Properties", "Role"),
                "LB303",
                "note",
                f"{names} share {role}: each may do what any of them needs.",
                "Give each function a role of its own.",
            )


def _timeouts(stack: Stack) -> Iterator[Finding]:
    for function in stack.functions:
        if not function.file_systems:
            continue
        given = function.properties.get("Timeout", 3)
        if isinstance(given, int | str) and str(given).isdecimal() and int(given) < _SLOW_START_SECONDS:
            yield Finding(
                stack.line(function.name, "Properties", "Timeout"),
                "LB307",
                "note",
                f"{function.name} has {given} s for everything, a first mount and loading files included.",
                "Set Timeout to 30 to 60 seconds.",
            )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]
