"""Constraints of the models, in AWS's words."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.api import model, validation
from lambay.aws import AWSError

ROLE = "arn:aws:iam::123456789012:role/r"
FUNCTION = {"FunctionName": "f", "Role": ROLE, "Code": {}}


def refusal(service: str, operation: str, given: dict[str, Any]) -> AWSError:
    described = model.load(service).operation(operation)
    assert described is not None
    with pytest.raises(AWSError) as raised:
        validation.check(described, described.service.protocols[-1], given)
    assert raised.value.status in (400, None)
    return raised.value


NOT_NULL = "Member must not be null"


def test_the_text_is_lambdas() -> None:
    error = refusal("lambda", "CreateFunction", {**FUNCTION, "MemorySize": 64})
    assert str(error) == (
        "ValidationException: 1 validation error detected: Value '64' at 'memorySize' failed to satisfy "
        "constraint: Member must have value greater than or equal to 128"
    )


@pytest.mark.parametrize(
    ("service", "operation", "given", "code", "problems"),
    [
        (
            "lambda",
            "CreateFunction",
            {**FUNCTION, "Timeout": 0, "FileSystemConfigs": [{"Arn": None, "LocalMountPath": "/flock/q3"}]},
            "ValidationException",
            {
                "'0' at 'timeout'": "Member must have value greater than or equal to 1",
                "null at 'fileSystemConfigs.1.member.arn'": NOT_NULL,
                "'/flock/q3' at 'fileSystemConfigs.1.member.localMountPath'": (
                    "Member must satisfy regular expression pattern: /mnt/[a-zA-Z0-9-_.]+"
                ),
            },
        ),
        (
            "lambda",
            "CreateFunction",
            {**FUNCTION, "Architectures": ["foo"]},
            "ValidationException",
            {
                "'[foo]' at 'architectures'": (
                    "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], "
                    "Member must not be null]"
                )
            },
        ),
        (
            "lambda",
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "live",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}},
            },
            "ValidationException",
            {
                "'{2=2.0}' at 'routingConfig.additionalVersionWeights'": (
                    "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
                    "Member must have value greater than or equal to 0.0, Member must not be null]"
                )
            },
        ),
        (
            "lambda",
            "CreateFunction",
            {"FunctionName": "f"},
            "ValidationException",
            {"null at 'role'": NOT_NULL, "null at 'code'": NOT_NULL},
        ),
        (
            "efs",
            "CreateAccessPoint",
            {"ClientToken": "t", "FileSystemId": "fs-0123456789abcdef0", "RootDirectory": {"Path": "//a"}},
            "ValidationException",
            {
                "'//a' at 'rootDirectory.path'": (
                    "Member must satisfy regular expression pattern: "
                    r"^(\/|(\/(?!\.)+[^$#<>;`|&?{}^*/\n]+){1,4})$"
                )
            },
        ),
        (
            "logs",
            "PutLogEvents",
            {"logGroupName": "g", "logStreamName": "s", "logEvents": [{"message": "m"}]},
            "InvalidParameterException",
            {"null at 'logEvents.1.member.timestamp'": NOT_NULL},
        ),
        (
            "logs",
            "PutLogEvents",
            {"logGroupName": "g", "logStreamName": "s", "logEvents": []},
            "InvalidParameterException",
            {"'[]' at 'logEvents'": "Member must have length greater than or equal to 1"},
        ),
        (
            "sts",
            "AssumeRole",
            {"RoleArn": "r", "RoleSessionName": "session", "DurationSeconds": 1},
            "ValidationError",
            {
                "'r' at 'roleArn'": "Member must have length greater than or equal to 20",
                "'1' at 'durationSeconds'": "Member must have value greater than or equal to 900",
            },
        ),
        ("ecs", "CreateService", {}, "InvalidParameterException", {"null at 'serviceName'": NOT_NULL}),
    ],
)
def test_each_service_names_every_member_that_is_wrong(
    service: str, operation: str, given: dict[str, Any], code: str, problems: dict[str, str]
) -> None:
    error = refusal(service, operation, given)
    assert error.code == code
    noun = "error" if len(problems) == 1 else "errors"
    listed = "; ".join(
        f"Value {what} failed to satisfy constraint: {rule}" for what, rule in problems.items()
    )
    assert error.message == f"{len(problems)} validation {noun} detected: {listed}"


@pytest.mark.parametrize(
    ("service", "operation", "given", "where"),
    [
        ("lambda", "CreateFunction", {**FUNCTION, "Layers": [None]}, "'[null]' at 'layers'"),
        ("lambda", "CreateFunction", {**FUNCTION, "Tags": {"a": None}}, "'{a=null}' at 'tags'"),
        ("logs", "CreateLogGroup", {"logGroupName": "g", "tags": {"a": None}}, "'{a=null}' at 'tags'"),
        (
            "lambda",
            "CreateFunction",
            {**FUNCTION, "FileSystemConfigs": [None]},
            "null at 'fileSystemConfigs.1.member'",
        ),
    ],
)
def test_nulls_within_lists_and_maps_are_refused(
    service: str, operation: str, given: dict[str, Any], where: str
) -> None:
    message = refusal(service, operation, given).message
    assert message.startswith(f"1 validation error detected: Value {where} failed to satisfy constraint: ")
    assert message.rstrip("]").endswith(NOT_NULL)


def test_one_value_may_break_several_constraints() -> None:
    """The texts and their order are those of CloudWatch Logs."""
    error = refusal("logs", "DescribeLogGroups", {"logGroupNamePrefix": ""})
    where = "Value '' at 'logGroupNamePrefix' failed to satisfy constraint: Member must"
    assert error.message == (
        rf"2 validation errors detected: {where} satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+; "
        f"{where} have length greater than or equal to 1"
    )


def test_an_unknown_runtime_is_told_as_lambda_does() -> None:
    error = refusal("lambda", "CreateFunction", {**FUNCTION, "Runtime": "python9.9"})
    assert error.code == "InvalidParameterValueException"
    where, _, rule = error.message.partition(" failed to satisfy constraint: ")
    assert where == "Value python9.9 at 'runtime'"
    assert rule.startswith("Member must satisfy enum value set: [nodejs, ")
    assert error.message.endswith("] or be a valid ARN")


def test_secrets_are_not_repeated() -> None:
    error = refusal("lambda", "CreateFunction", {**FUNCTION, "Environment": {"Variables": {"1x": "hunter2"}}})
    assert "hunter2" not in error.message
    where, _, rule = error.message.partition(" failed to satisfy constraint: ")
    assert where == "1 validation error detected: Value at 'environment.variables'"
    assert rule.startswith(
        "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: "
    )


@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        (
            "lambda",
            "CreateFunction",
            {**FUNCTION, "MemorySize": 128, "Timeout": 900, "Runtime": "python3.11"},
        ),
        ("lambda", "Invoke", {"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"}),
        ("lambda", "GetAccountSettings", {}),
        (
            "efs",
            "TagResource",
            {"ResourceId": "fs-0123456789abcdef0", "Tags": [{"Key": "größe", "Value": "é 1"}]},
        ),
        ("efs", "CreateFileSystem", {"CreationToken": "t", "ThroughputMode": "elastic"}),
        ("logs", "FilterLogEvents", {"logGroupName": "/aws/lambda/f", "filterPattern": "ERROR"}),
    ],
)
def test_good_input_passes(service: str, operation: str, given: dict[str, Any]) -> None:
    described = model.load(service).operation(operation)
    assert described is not None
    validation.check(described, described.service.protocols[-1], given)


@pytest.mark.parametrize("service", ["efs", "lambda", "logs", "sts", "cloudwatch", "cloudformation", "ecs"])
def test_every_pattern_of_the_owned_services_can_be_read(service: str) -> None:
    loaded = model.load(service)
    patterns = [shape.pattern for shape in map(loaded.shape, loaded.shape_names) if shape.pattern]
    assert patterns
    assert [pattern for pattern in patterns if validation.compiled(pattern) is None] == []
