"""Who may do what, from outside and from within functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.arrange import RUNTIME, VPC_ACCESS, Deployer, Lambay, bundle, unique

ACCOUNT = "000000000000"
LAMBDA = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}

# Makes the call of the event with the function's own credentials, and says what came of it.
CALLER = """
    import boto3
    from botocore.exceptions import ClientError
    def handler(event, context):
        try:
            getattr(boto3.client(event["service"]), event["method"])(**event.get("input", {}))
            return "done"
        except ClientError as error:
            return [error.response["Error"]["Code"], error.response["Error"]["Message"]]
    """


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def role(deploy: Deployer) -> tuple[str, str]:
    """Name and ARN of a new role for functions, without any permission."""
    name = unique("role")
    made = deploy.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(LAMBDA))
    return name, made["Role"]["Arn"]


def test_a_function_may_do_what_its_role_may(deploy: Deployer) -> None:
    name, arn = role(deploy)
    function = deploy.function(CALLER, Role=arn)
    listing = {"service": "s3", "method": "list_buckets"}
    code, message = deploy.invoke(function, listing)
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{function}"
    assert code in ("AccessDenied", "AccessDeniedException")
    assert message.startswith(f"User: {session} is not authorized to perform: s3:ListAllMyBuckets")
    deploy.iam.put_role_policy(
        RoleName=name, PolicyName="own", PolicyDocument=document(allow("s3:ListAllMyBuckets"))
    )
    assert deploy.invoke(function, listing) == "done"
    deploy.iam.delete_role_policy(RoleName=name, PolicyName="own")
    assert deploy.invoke(function, listing)[0] == code


def test_a_user_may_do_what_both_his_policies_and_his_boundary_allow(deploy: Deployer) -> None:
    name = unique("user")
    deploy.iam.create_user(UserName=name)
    deploy.iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document(allow("*")))
    key = deploy.iam.create_access_key(UserName=name)["AccessKey"]
    efs = deploy.server.boto("efs", key["AccessKeyId"], key["SecretAccessKey"])
    efs.describe_file_systems()
    listing = deploy.iam.create_policy(
        PolicyName=unique("policy"), PolicyDocument=document(allow("lambda:List*"))
    )["Policy"]["Arn"]
    deploy.iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=listing)
    with pytest.raises(
        ClientError, match="because no permissions boundary allows the elasticfilesystem:Desc"
    ):
        efs.describe_file_systems()
    deploy.server.boto("lambda", key["AccessKeyId"], key["SecretAccessKey"]).list_functions()
    deploy.iam.delete_user_permissions_boundary(UserName=name)
    efs.describe_file_systems()


def test_a_function_has_no_way_to_another_roles_rights(deploy: Deployer) -> None:
    """Nor to its own with fewer limits: neither by assuming, nor by handing over, nor by granting itself more."""
    name, arn = role(deploy)
    other, other_arn = role(deploy)
    deploy.iam.put_role_policy(RoleName=other, PolicyName="own", PolicyDocument=document(allow("*")))
    deploy.iam.put_role_policy(
        RoleName=name, PolicyName="own", PolicyDocument=document(allow(["lambda:*", "sts:AssumeRole"]))
    )
    function = deploy.function(CALLER, Role=arn)
    everything = document(allow("*"))
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("sts", "assume_role", {"RoleArn": other_arn, "RoleSessionName": "me"}),
        ("lambda", "update_function_configuration", {"FunctionName": function, "Role": other_arn}),
        ("iam", "put_role_policy", {"RoleName": name, "PolicyName": "p", "PolicyDocument": everything}),
        ("iam", "update_assume_role_policy", {"RoleName": other, "PolicyDocument": everything}),
        ("iam", "create_access_key", {"UserName": "root"}),
    ]
    for service, method, given in attempts:
        answer = deploy.invoke(function, {"service": service, "method": method, "input": given})
        assert answer[0] in ("AccessDenied", "AccessDeniedException"), (method, answer)


def test_whoever_makes_a_function_needs_what_lambda_does_for_him(lambay: Lambay, deploy: Deployer) -> None:
    name, arn = role(deploy)
    deploy.iam.attach_role_policy(RoleName=name, PolicyArn=VPC_ACCESS)
    point = deploy.access_point(deploy.file_system())
    user = unique("ann")
    deploy.iam.create_user(UserName=user)
    key = deploy.iam.create_access_key(UserName=user)["AccessKey"]
    ann = lambay.boto("lambda", key["AccessKeyId"], key["SecretAccessKey"])
    function = unique("function")

    def create() -> str:
        try:
            ann.create_function(
                FunctionName=function,
                Role=arn,
                Runtime=RUNTIME,
                Handler="app.handler",
                Code={"ZipFile": bundle("def handler(event, context): return 1")},
                VpcConfig={"SubnetIds": [deploy.subnet["SubnetId"]], "SecurityGroupIds": [deploy.group]},
                FileSystemConfigs=[{"Arn": point, "LocalMountPath": "/mnt/efs"}],
            )
        except ClientError as error:
            return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
        return ""

    needed = [
        allow("lambda:CreateFunction"),
        allow("iam:PassRole", arn),
        allow(["ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"]),
        allow("elasticfilesystem:DescribeMountTargets"),
    ]
    refusals = []
    for count in range(len(needed) + 1):
        statements = needed[:count] or [allow("lambda:ListFunctions")]
        deploy.iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=document(*statements))
        refusals.append(create())
    for refusal, action in zip(
        refusals,
        (
            "lambda:CreateFunction",
            "iam:PassRole",
            "ec2:DescribeSubnets",
            "elasticfilesystem:DescribeMountTargets",
        ),
        strict=False,
    ):
        assert refusal.startswith("AccessDeniedException: ")
        assert f"is not authorized to perform: {action} on resource" in refusal
    assert refusals[-1] == ""


def test_root_of_another_account_is_a_stranger(lambay: Lambay) -> None:
    with pytest.raises(ClientError, match=r"UnrecognizedClientException|InvalidClientTokenId"):
        lambay.boto("sts", "other", "secret").get_caller_identity()
