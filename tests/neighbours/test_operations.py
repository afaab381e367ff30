"""What is journaled and what is not."""

from __future__ import annotations

import pytest

from lambay.neighbours.operations import changes


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ec2", "DescribeVpcs"),
        ("iam", "ListRoles"),
        ("iam", "SimulatePrincipalPolicy"),
        ("s3", "GetObject"),
        ("s3", "HeadBucket"),
        ("kms", "Decrypt"),
        ("kms", "GenerateDataKey"),
        ("dynamodb", "Query"),
        ("dynamodb", "TransactGetItems"),
        ("ssm", "GetParametersByPath"),
    ],
)
def test_a_read_is_no_change(service: str, operation: str) -> None:
    assert not changes(service, operation, "POST")


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("sqs", "ReceiveMessage"),
        ("kms", "CreateKey"),
        ("kms", "GetParametersForImport"),
        ("cognito-identity", "GetId"),
        ("license-manager", "CheckoutLicense"),
        ("dynamodb", "ExecuteStatement"),
        ("ec2", "RunInstances"),
        ("s3", "PutObject"),
    ],
)
def test_whatever_may_change_state_is_one(service: str, operation: str) -> None:
    assert changes(service, operation, "POST")


@pytest.mark.parametrize(
    ("method", "expected"), [("GET", False), ("HEAD", False), ("POST", True), ("PUT", True)]
)
def test_an_unknown_operation_goes_by_its_method(method: str, expected: bool) -> None:
    assert changes("s3", "", method) is expected
