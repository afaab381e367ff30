"""What is asked of IAM for a request: actions, ARNs, keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambay.api.permissions import needs
from lambay.api.router import Router
from lambay.aws import AWSError, Call, Principal
from lambay.http import Request

ACCOUNT = "111122223333"
ANN = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN", "AKIAANN")
OWNED = ("lambda", "efs", "logs", "sts")

EFS = f"arn:aws:elasticfilesystem:eu-west-1:{ACCOUNT}"
LAMBDA = f"arn:aws:lambda:eu-west-1:{ACCOUNT}"
LOGS = f"arn:aws:logs:eu-west-1:{ACCOUNT}"
FS = "fs-0123456789abcdef0"
FSAP = "fsap-0123456789abcdef0"
FORM = {"content-type": "application/x-www-form-urlencoded"}
TARGETS = {"logs": "Logs_20140328", "sqs": "AmazonSQS"}


def request(signing_name: str, method: str, path: str, body: Any = None, **headers: str) -> Request:
    path, _, query = path.partition("?")
    scope = f"AKIAANN/20240131/eu-west-1/{signing_name}/aws4_request"
    return Request(
        method,
        path,
        query,
        {"authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0", **headers},
        b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode(),
    )


async def needed(asked: Request) -> list[tuple[str, tuple[str | None, ...]]]:
    return [(need.action, need.resources) for need in await all_needs(asked)]


async def all_needs(asked: Request) -> Any:
    route = await Router(OWNED, "us-east-1").route(asked)
    call = Call("r", ACCOUNT, route.region, ANN, route.service, route.operation_name)
    return needs(route, call, asked)


@pytest.mark.parametrize(
    ("signing_name", "method", "path", "body", "action", "resource"),
    [
        (
            "elasticfilesystem",
            "POST",
            "/2015-02-01/file-systems",
            {"CreationToken": "a"},
            "CreateFileSystem",
            "*",
        ),
        (
            "elasticfilesystem",
            "GET",
            "/2015-02-01/file-systems",
            None,
            "DescribeFileSystems",
            f"{EFS}:file-system/*",
        ),
        (
            "elasticfilesystem",
            "GET",
            f"/2015-02-01/file-systems?FileSystemId={FS}",
            None,
            "DescribeFileSystems",
            f"{EFS}:file-system/{FS}",
        ),
        (
            "elasticfilesystem",
            "DELETE",
            f"/2015-02-01/file-systems/{FS}",
            None,
            "DeleteFileSystem",
            f"{EFS}:file-system/{FS}",
        ),
        (
            "elasticfilesystem",
            "POST",
            "/2015-02-01/access-points",
            {"ClientToken": "a", "FileSystemId": FS},
            "CreateAccessPoint",
            f"{EFS}:file-system/{FS}",
        ),
        (
            "elasticfilesystem",
            "POST",
            "/2015-02-01/access-points",
            {"ClientToken": "a", "FileSystemId": f"{EFS}:file-system/{FS}"},
            "CreateAccessPoint",
            f"{EFS}:file-system/{FS}",
        ),
        (
            "elasticfilesystem",
            "DELETE",
            f"/2015-02-01/access-points/{FSAP}",
            None,
            "DeleteAccessPoint",
            f"{EFS}:access-point/{FSAP}",
        ),
        (
            "elasticfilesystem",
            "GET",
            f"/2015-02-01/resource-tags/{FSAP}",
            None,
            "ListTagsForResource",
            f"{EFS}:access-point/{FSAP}",
        ),
        (
            "elasticfilesystem",
            "DELETE",
            "/2015-02-01/mount-targets/fsmt-0123456789abcdef0",
            None,
            "DeleteMountTarget",
            None,
        ),
        ("lambda", "GET", "/2015-03-31/functions", None, "ListFunctions", "*"),
        ("lambda", "GET", "/2015-03-31/functions/f", None, "GetFunction", f"{LAMBDA}:function:f"),
        ("lambda", "GET", "/2015-03-31/functions/f%3Alive", None, "GetFunction", f"{LAMBDA}:function:f:live"),
        (
            "lambda",
            "GET",
            "/2015-03-31/functions/f?Qualifier=1",
            None,
            "GetFunction",
            f"{LAMBDA}:function:f:1",
        ),
        (
            "lambda",
            "POST",
            "/2015-03-31/functions/f/invocations?Qualifier=live",
            None,
            "InvokeFunction",
            f"{LAMBDA}:function:f:live",
        ),
        (
            "lambda",
            "POST",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-west-2%3A444455556666%3Afunction%3Af/invocations",
            None,
            "InvokeFunction",
            "arn:aws:lambda:us-west-2:444455556666:function:f",
        ),
        (
            "lambda",
            "POST",
            "/2015-03-31/functions/444455556666%3Afunction%3Af%3A7/invocations",
            None,
            "InvokeFunction",
            "arn:aws:lambda:eu-west-1:444455556666:function:f:7",
        ),
        (
            "lambda",
            "GET",
            "/2018-10-31/layers/l/versions/3",
            None,
            "GetLayerVersion",
            f"{LAMBDA}:layer:l:3",
        ),
        (
            "lambda",
            "GET",
            "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Af",
            None,
            "ListTags",
            f"{LAMBDA}:function:f",
        ),
        ("s3", "GET", "/bucket/a/b%20c", None, "GetObject", "arn:aws:s3:::bucket/a/b c"),
        ("s3", "PUT", "/bucket/key", "x", "PutObject", "arn:aws:s3:::bucket/key"),
        ("s3", "GET", "/bucket?list-type=2", None, "ListBucket", "arn:aws:s3:::bucket"),
        ("s3", "GET", "/", None, "ListAllMyBuckets", "*"),
        ("s3", "POST", "/bucket?delete", "<Delete/>", "DeleteObject", None),
    ],
)
async def test_a_rest_request(
    signing_name: str, method: str, path: str, body: Any, action: str, resource: str | None
) -> None:
    prefix = "elasticfilesystem" if signing_name == "elasticfilesystem" else signing_name
    asked = request(signing_name, method, path, body)
    assert await needed(asked) == [(f"{prefix}:{action}", (resource,))]


@pytest.mark.parametrize(
    ("service", "operation", "body", "resource"),
    [
        ("logs", "CreateLogGroup", {"logGroupName": "/g"}, f"{LOGS}:log-group:/g:log-stream:"),
        (
            "logs",
            "CreateLogStream",
            {"logGroupName": "/g", "logStreamName": "s"},
            f"{LOGS}:log-group:/g:log-stream:s",
        ),
        ("logs", "DescribeLogGroups", {}, f"{LOGS}:log-group::log-stream:"),
        (
            "logs",
            "FilterLogEvents",
            {"logGroupIdentifier": f"{LOGS}:log-group:/g"},
            f"{LOGS}:log-group:/g:log-stream:",
        ),
        ("logs", "ListTagsForResource", {"resourceArn": f"{LOGS}:log-group:/g"}, f"{LOGS}:log-group:/g"),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": "http://localhost:4566/444455556666/q", "MessageBody": "x"},
            "arn:aws:sqs:eu-west-1:444455556666:q",
        ),
        ("sqs", "CreateQueue", {"QueueName": "q"}, f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"),
        ("sqs", "ListQueues", {}, "*"),
        ("sqs", "SendMessage", "not JSON", None),
    ],
)
async def test_a_json_request(service: str, operation: str, body: Any, resource: str | None) -> None:
    asked = request(
        service,
        "POST",
        "/",
        body,
        **{"x-amz-target": f"{TARGETS[service]}.{operation}", "content-type": "application/x-amz-json-1.1"},
    )
    assert await needed(asked) == [(f"{service}:{operation}", (resource,))]


@pytest.mark.parametrize(
    ("service", "form", "action", "resource"),
    [
        ("sts", "Action=GetCallerIdentity&Version=2011-06-15", "sts:GetCallerIdentity", "*"),
        (
            "sts",
            "Action=GetFederationToken&Version=2011-06-15&Name=carol",
            "sts:GetFederationToken",
            f"arn:aws:sts::{ACCOUNT}:federated-user/carol",
        ),
        (
            "sns",
            "Action=Publish&Version=2010-03-31&TopicArn=arn:aws:sns:eu-west-1:1:t",
            "sns:Publish",
            "arn:aws:sns:eu-west-1:1:t",
        ),
        (
            "sns",
            "Action=CreateTopic&Version=2010-03-31&Name=t",
            "sns:CreateTopic",
            f"arn:aws:sns:eu-west-1:{ACCOUNT}:t",
        ),
        ("iam", "Action=ListUsers&Version=2010-05-08", "iam:ListUsers", None),
    ],
)
async def test_a_query_request(service: str, form: str, action: str, resource: str | None) -> None:
    asked = request(service, "POST", "/", form, **{"content-type": "application/x-www-form-urlencoded"})
    assert await needed(asked) == [(action, (resource,))]


async def test_whoever_hands_a_role_over_must_be_allowed_to() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    body = {
        "FunctionName": "f",
        "Role": role,
        "Code": {"ZipFile": "UEsFBgAA"},
        "Runtime": "python3.12",
        "Handler": "a.b",
    }
    create, hand_over = await all_needs(request("lambda", "POST", "/2015-03-31/functions", body))
    assert (create.action, create.resources) == ("lambda:CreateFunction", (f"{LAMBDA}:function:f",))
    assert (hand_over.action, hand_over.resources) == ("iam:PassRole", (role,))
    assert hand_over.keys["iam:PassedToService"] == "lambda.amazonaws.com"


async def test_whoever_makes_a_function_in_a_vpc_may_look_at_what_it_needs() -> None:
    key = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/k"
    point = f"{EFS}:access-point/{FSAP}"
    body = {
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "FileSystemConfigs": [{"Arn": point, "LocalMountPath": "/mnt/efs"}],
        "KMSKeyArn": key,
    }
    asked = request("lambda", "PUT", "/2015-03-31/functions/f/configuration", body)
    assert (await needed(asked))[1:] == [
        ("ec2:DescribeSubnets", ("*",)),
        ("ec2:DescribeSecurityGroups", ("*",)),
        ("ec2:DescribeVpcs", ("*",)),
        ("elasticfilesystem:DescribeMountTargets", (None,)),
        ("kms:CreateGrant", (key,)),
    ]


async def test_whoever_encrypts_a_file_system_may_use_the_key() -> None:
    body = {"CreationToken": "a", "Encrypted": True, "KmsKeyId": "alias/a"}
    asked = request("elasticfilesystem", "POST", "/2015-02-01/file-systems", body)
    alias = f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/a"
    assert (await needed(asked))[1:] == [("kms:DescribeKey", (alias,)), ("kms:CreateGrant", (alias,))]


@pytest.mark.parametrize("key", ["k", "alias/a"])
async def test_keys_are_named_as_kms_names_them(key: str) -> None:
    asked = request("kms", "POST", "/", {"KeyId": key}, **{"x-amz-target": "TrentService.Encrypt"})
    named = key if key.startswith("alias/") else f"key/{key}"
    assert await needed(asked) == [("kms:Encrypt", (f"arn:aws:kms:eu-west-1:{ACCOUNT}:{named}",))]


async def test_input_that_breaks_the_model_is_refused_at_once() -> None:
    with pytest.raises(AWSError):
        await needed(request("lambda", "POST", "/2015-03-31/functions", {"FunctionName": 7}))


async def test_whoever_copies_an_object_must_be_allowed_to_read_it() -> None:
    asked = request("s3", "PUT", "/mine/key", "", **{"x-amz-copy-source": "/theirs/a%20b?versionId=1"})
    assert await needed(asked) == [
        ("s3:PutObject", ("arn:aws:s3:::mine/key",)),
        ("s3:GetObject", ("arn:aws:s3:::theirs/a b",)),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        request("s3", "PUT", "/bucket?acl&policy", "{}"),
        request("s3", "GET", "/bucket/key?tagging&uploadId=1"),
        request("sns", "POST", "/", "Action=ListTopics&Action=DeleteTopic", **FORM),
        request("sns", "POST", "/?Action=DeleteTopic", "Action=ListTopics", **FORM),
        request("sns", "POST", "/", "Action=Publish&TopicArn=a&TopicArn=b", **FORM),
        request("iam", "GET", "/?Action=ListUsers&Version=2010-05-08&Action=DeleteUser"),
    ],
)
async def test_a_request_with_two_meanings_is_refused(asked: Request) -> None:
    with pytest.raises(AWSError) as refused:
        await needed(asked)
    assert refused.value.code in ("InvalidArgument", "MalformedQueryString")
