"""What a request is for, from whatever it tells."""

from __future__ import annotations

import pytest

from lambay.api.router import Route, Router
from lambay.aws import AWSError
from lambay.http import Request

OWNED = ("efs", "lambda", "logs", "sts")


def signed(scope: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential=AKID/20240101/{scope}/aws4_request, SignedHeaders=host, Signature=0"


async def routed(
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    owned: tuple[str, ...] = OWNED,
) -> Route:
    path, _, query = target.partition("?")
    return await Router(owned, "us-east-1").route(Request(method, path, query, headers or {}, body))


FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.mark.parametrize(
    ("method", "target", "scope", "expected"),
    [
        ("GET", "/2015-02-01/file-systems", "elasticfilesystem", "efs:DescribeFileSystems"),
        ("GET", "/2015-02-01/tags/fs-1/", "elasticfilesystem", "efs:DescribeTags"),
        ("GET", "/2015-02-01/tags/fs-1", "elasticfilesystem", "efs:DescribeTags"),
        ("GET", "/2015-02-01/file-systems/replication-configurations", "elasticfilesystem",
         "efs:DescribeReplicationConfigurations"),
        ("POST", "/2015-03-31/functions/f/invocations", "lambda", "lambda:Invoke"),
        ("POST", "/2015-03-31/functions/", "lambda", "lambda:CreateFunction"),
        ("POST", "/2014-11-13/functions/f/invoke-async/", "lambda", "lambda:InvokeAsync"),
        ("POST", "/2021-11-15/functions/f/response-streaming-invocations", "lambda",
         "lambda:InvokeWithResponseStream"),
        ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=a", "lambda", "lambda:GetLayerVersionByArn"),
        ("GET", "/2018-10-31/layers", "lambda", "lambda:ListLayers"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?List=ALL", "lambda",
         "lambda:ListProvisionedConcurrencyConfigs"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "lambda",
         "lambda:GetProvisionedConcurrencyConfig"),
        ("GET", "/", "s3", "s3:ListBuckets"),
        ("PUT", "/bucket/a/key", "s3", "s3:PutObject"),
        ("PUT", "/bucket/a/key?partNumber=1&uploadId=u", "s3", "s3:UploadPart"),
        ("GET", "/bucket?list-type=2", "s3", "s3:ListObjectsV2"),
        ("GET", "/v20180820/accesspoint", "s3", "s3control:ListAccessPoints"),
        ("GET", "/2013-04-01/hostedzone", "route53", "route53:ListHostedZones"),
        ("GET", "/restapis", "apigateway", "apigateway:GetRestApis"),
        ("GET", "/v2/apis", "apigateway", "apigatewayv2:GetApis"),
        ("POST", "/v2/email/identities", "ses", "sesv2:CreateEmailIdentity"),
    ],
)  # fmt: skip
async def test_a_rest_request_is_found_by_scope_and_path(
    method: str, target: str, scope: str, expected: str
) -> None:
    route = await routed(method, target, {"authorization": signed(f"eu-west-1/{scope}")})
    assert f"{route.service}:{route.operation_name}" == expected
    assert route.region == "eu-west-1"


@pytest.mark.parametrize(
    ("scope", "target", "expected"),
    [
        ("logs", "Logs_20140328.PutLogEvents", "logs:PutLogEvents"),
        ("kms", "TrentService.Encrypt", "kms:Encrypt"),
        ("dynamodb", "DynamoDB_20120810.PutItem", "dynamodb:PutItem"),
        ("dynamodb", "DynamoDBStreams_20120810.ListStreams", "dynamodbstreams:ListStreams"),
        ("events", "AWSEvents.PutRule", "events:PutRule"),
        ("sqs", "AmazonSQS.SendMessage", "sqs:SendMessage"),
        ("states", "AWSStepFunctions.ListStateMachines", "stepfunctions:ListStateMachines"),
        ("monitoring", "GraniteServiceVersion20100801.PutMetricData", "cloudwatch:PutMetricData"),
    ],
)
async def test_a_json_request_is_found_by_its_target(scope: str, target: str, expected: str) -> None:
    route = await routed("POST", "/", {"authorization": signed(f"us-east-1/{scope}"), "x-amz-target": target})
    assert (f"{route.service}:{route.operation_name}", route.protocol) == (expected, "json")


@pytest.mark.parametrize(
    ("scope", "form", "expected"),
    [
        ("sts", b"Action=GetCallerIdentity&Version=2011-06-15", "sts:GetCallerIdentity"),
        ("ec2", b"Action=DescribeVpcs&Version=2016-11-15", "ec2:DescribeVpcs"),
        ("ec2", b"Action=DescribeVpcs&Version=2014-10-01", "ec2:DescribeVpcs"),
        (
            "elasticloadbalancing",
            b"Action=DescribeLoadBalancers&Version=2012-06-01",
            "elb:DescribeLoadBalancers",
        ),
        (
            "elasticloadbalancing",
            b"Action=DescribeLoadBalancers&Version=2015-12-01",
            "elbv2:DescribeLoadBalancers",
        ),
        ("email", b"Action=ListIdentities&Version=2010-12-01", "ses:ListIdentities"),
        ("sqs", b"Action=SendMessage&Version=2012-11-05", "sqs:SendMessage"),
        ("iam", b"Action=ListRoles&Version=2010-05-08", "iam:ListRoles"),
        ("rds", b"Action=DescribeDBInstances&Version=2014-10-31", "rds:DescribeDBInstances"),
    ],
)
async def test_a_form_is_found_by_action_and_version(scope: str, form: bytes, expected: str) -> None:
    route = await routed("POST", "/", {**FORM, "authorization": signed(f"us-east-1/{scope}")}, form)
    assert f"{route.service}:{route.operation_name}" == expected


async def test_a_cbor_request_is_found_by_its_path() -> None:
    route = await routed(
        "POST",
        "/service/GraniteServiceVersion20100801/operation/PutMetricData",
        {"authorization": signed("us-east-1/monitoring"), "smithy-protocol": "rpc-v2-cbor"},
        owned=("cloudwatch",),
    )
    assert (route.service, route.operation_name) == ("cloudwatch", "PutMetricData")
    assert route.protocol == "smithy-rpc-v2-cbor"
    assert route.operation is not None


async def test_a_presigned_url_is_found_by_its_credential() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20240101%2Feu-north-1%2Fs3%2Faws4_request"
    )
    route = await routed("GET", f"/bucket/key?{query}")
    assert (route.service, route.operation_name, route.region) == ("s3", "GetObject", "eu-north-1")


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"),
    [
        ("GET", "/2015-02-01/mount-targets", {}, b"", "efs:DescribeMountTargets"),
        ("GET", "/2021-10-31/functions/f/url", {}, b"", "lambda:GetFunctionUrlConfig"),
        ("POST", "/", FORM, b"Action=AssumeRoleWithSAML&Version=2011-06-15", "sts:AssumeRoleWithSAML"),
        ("POST", "/", FORM, b"Action=DescribeDBClusters&Version=2014-10-31", "rds:DescribeDBClusters"),
        ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", {}, b"", "sts:GetCallerIdentity"),
        ("POST", "/", {"x-amz-target": "AWSCognitoIdentityService.GetId"}, b"", "cognito-identity:GetId"),
        ("GET", "/functions/x", {"host": "lambda.us-east-1.amazonaws.com"}, b"", None),
        ("GET", "/2015-03-31/functions", {"host": "lambda.localhost:4566"}, b"", "lambda:ListFunctions"),
        ("GET", "/a/b", {"host": "localhost:4566"}, b"", "s3:GetObject"),
        ("GET", "/key", {"host": "bucket.s3.us-east-1.localhost:4566"}, b"", "s3:GetObject"),
    ],
)  # fmt: skip
async def test_an_unsigned_request_is_found_by_what_else_it_tells(
    method: str, target: str, headers: dict[str, str], body: bytes, expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(AWSError) as raised:
            await routed(method, target, headers, body)
        assert (raised.value.code, raised.value.status) == ("UnknownOperationException", 404)
        return
    route = await routed(method, target, headers, body)
    assert f"{route.service}:{route.operation_name}" == expected


async def test_a_host_name_gives_the_region() -> None:
    route = await routed("GET", "/2015-03-31/functions", {"host": "lambda.eu-west-3.amazonaws.com"})
    assert route.region == "eu-west-3"


@pytest.mark.parametrize(
    ("host", "target", "operation"),
    [
        ("bucket.s3.eu-west-1.amazonaws.com", "/key", "GetObject"),
        ("my.bucket.s3.localhost:4566", "/", "ListObjects"),
        ("bucket.localhost:4566", "/key", "GetObject"),
        ("localhost:4566", "/bucket/key", "GetObject"),
        ("s3.localhost:4566", "/bucket", "ListObjects"),
        ("s3.eu-west-1.amazonaws.com", "/bucket/key", "GetObject"),
        ("127.0.0.1:4566", "/bucket", "ListObjects"),
    ],
)
async def test_a_bucket_may_be_in_the_host_name(host: str, target: str, operation: str) -> None:
    route = await routed("GET", target, {"host": host, "authorization": signed("eu-west-1/s3")})
    assert route.operation_name == operation


async def test_an_object_that_looks_like_a_form_is_still_an_object() -> None:
    headers = {**FORM, "authorization": signed("us-east-1/s3")}
    route = await routed("PUT", "/bucket/key", headers, b"Action=DeleteBucket&Version=2006-03-01")
    assert (route.service, route.operation_name) == ("s3", "PutObject")


async def test_a_target_means_nothing_to_a_rest_service() -> None:
    headers = {"authorization": signed("us-east-1/lambda"), "x-amz-target": "AWSLambda.DeleteFunction"}
    route = await routed("GET", "/2015-03-31/functions", headers)
    assert route.operation_name == "ListFunctions"


async def test_a_region_that_is_none_is_refused() -> None:
    with pytest.raises(AWSError) as raised:
        await routed("GET", "/", {"authorization": signed("EU%3Aeast/s3")})
    assert "'EU%3Aeast'" in raised.value.message


async def test_an_unknown_path_of_an_owned_service_is_refused() -> None:
    with pytest.raises(AWSError) as raised:
        await routed("GET", "/2015-03-31/nothing", {"authorization": signed("us-east-1/lambda")})
    assert raised.value.code == "UnknownOperationException"
    assert "GET /2015-03-31/nothing" in raised.value.message


async def test_a_signing_name_that_no_service_has_is_named() -> None:
    with pytest.raises(AWSError) as raised:
        await routed("GET", "/", {"authorization": signed("us-east-1/teapot")})
    assert "'teapot'" in raised.value.message


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("lambda:Invoke", "lambda:InvokeFunction"),
        ("lambda:GetFunction", "lambda:GetFunction"),
        ("efs:CreateFileSystem", "elasticfilesystem:CreateFileSystem"),
        ("logs:PutLogEvents", "logs:PutLogEvents"),
        ("s3:ListObjectsV2", "s3:ListBucket"),
        ("cloudwatch:PutMetricData", "cloudwatch:PutMetricData"),
        ("stepfunctions:StartExecution", "states:StartExecution"),
    ],
)
def test_actions_have_iams_names(operation: str, action: str) -> None:
    service, _, name = operation.partition(":")
    assert Route(service, "json", "us-east-1", name).action == action
