"""All resource types by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache

from lambay.deploy import schemas
from lambay.deploy.types import (
    cloudformation,
    containers,
    ec2,
    ec2_rules,
    efs,
    functions,
    functions_around,
    iam,
    keys,
    logs,
    messaging,
    operations,
    storage,
)
from lambay.deploy.types.base import ResourceType

_MODULES = (
    cloudformation,
    containers,
    ec2,
    ec2_rules,
    efs,
    functions,
    functions_around,
    iam,
    keys,
    logs,
    messaging,
    operations,
    storage,
)


@cache
def resource_types() -> Mapping[str, ResourceType]:
    return {entry.name: entry for module in _MODULES for entry in module.TYPES}


def recognized(name: str) -> bool:
    return name in resource_types() or name.startswith("Custom::")


def resource_type(name: str) -> ResourceType:
    """Raises KeyError where there is none; `recognized` tells."""
    if name.startswith("Custom::"):
        return resource_types()["AWS::CloudFormation::CustomResource"]
    return resource_types()[name]


def advice(name: str) -> str:
    """A sentence about a type that is not there: AWS's but not Lambay's, SAM's, or mistyped."""
    if name.startswith("AWS::Serverless::"):
        return f" {name} is SAM's: give the template Transform: AWS::Serverless-2016-10-31."
    if name in schemas.known_types():
        return f" {name} is a type of AWS that Lambay does not have."
    by_case = {known.lower(): known for known in (*resource_types(), *schemas.known_types())}
    near = difflib.get_close_matches(name.lower(), list(by_case), n=3, cutoff=0.7)
    return (
        f" There is no {name} in AWS; near: {', '.join(by_case[item] for item in near)}."
        if near
        else (f" There is no {name} in AWS.")
    )
