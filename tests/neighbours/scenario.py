"""A rich account, and everything it shows: run in one process to make it, in another to look at it.

`python scenario.py DIRECTORY make|look|snapshot` prints what the account shows as JSON, then dies
without closing anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from lambay.clock import Clock
from lambay.neighbours import Neighbours
from lambay.settings import Settings

HERE: dict[str, Any] = {"account": "111122223333", "region": "eu-west-1"}
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)
ALLOW = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
)
PART = b"p" * (5 * 1024 * 1024)


async def make(neighbours: Neighbours) -> None:
    async def do(service: str, operation: str, **given: Any) -> dict[str, Any]:
        return await neighbours.call(service, operation, given, **HERE)

    await _make_network(do)
    await _make_identity(do)
    await _make_objects(do)
    await _make_keys(do)
    await _make_messages(do)
    await _make_tables(do)
    await _make_rest(do)


async def _make_network(do: Any) -> None:
    vpc = (await do("ec2", "CreateVpc", CidrBlock="10.1.0.0/16"))["Vpc"]["VpcId"]
    subnets = [
        (await do("ec2", "CreateSubnet", VpcId=vpc, CidrBlock=f"10.1.{n}.0/24", AvailabilityZone=zone))[
            "Subnet"
        ]["SubnetId"]
        for n, zone in enumerate(("eu-west-1a", "eu-west-1b"))
    ]
    gateway = (await do("ec2", "CreateInternetGateway"))["InternetGateway"]["InternetGatewayId"]
    await do("ec2", "AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    table = (await do("ec2", "CreateRouteTable", VpcId=vpc))["RouteTable"]["RouteTableId"]
    await do("ec2", "CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    await do("ec2", "AssociateRouteTable", RouteTableId=table, SubnetId=subnets[0])
    group = (await do("ec2", "CreateSecurityGroup", GroupName="nfs", Description="nfs", VpcId=vpc))["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "IpRanges": [{"CidrIp": "10.1.0.0/16"}]}
    await do("ec2", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[rule])
    address = await do("ec2", "AllocateAddress", Domain="vpc")
    await do("ec2", "CreateNatGateway", SubnetId=subnets[0], AllocationId=address["AllocationId"])
    await do("ec2", "CreateNetworkAcl", VpcId=vpc)
    await do("ec2", "CreateNetworkInterface", SubnetId=subnets[1], Groups=[group], Description="mine")
    await do("ec2", "CreateKeyPair", KeyName="rsa")
    await do("ec2", "CreateKeyPair", KeyName="ed", KeyType="ed25519")
    await do("ec2", "RunInstances", ImageId="ami-12c6146b", MinCount=2, MaxCount=2, SubnetId=subnets[1])
    await do("ec2", "CreateVolume", AvailabilityZone="eu-west-1a", Size=8)
    await do("ec2", "CreateVpcEndpoint", VpcId=vpc, ServiceName="com.amazonaws.eu-west-1.s3")
    await do("ec2", "CreateTags", Resources=[vpc, subnets[0]], Tags=[{"Key": "Name", "Value": "one"}])
    other = (await do("ec2", "CreateVpc", CidrBlock="10.2.0.0/16"))["Vpc"]["VpcId"]
    await do("ec2", "CreateVpcPeeringConnection", VpcId=vpc, PeerVpcId=other)
    launch = {"InstanceType": "t3.micro"}
    await do("ec2", "CreateLaunchTemplate", LaunchTemplateName="t", LaunchTemplateData=launch)


async def _make_identity(do: Any) -> None:
    await do("iam", "CreateUser", UserName="ann")
    await do("iam", "CreateAccessKey", UserName="ann")
    await do("iam", "CreateGroup", GroupName="team")
    await do("iam", "AddUserToGroup", GroupName="team", UserName="ann")
    await do("iam", "CreateRole", RoleName="functions", AssumeRolePolicyDocument=TRUST)
    await do("iam", "PutRolePolicy", RoleName="functions", PolicyName="inline", PolicyDocument=ALLOW)
    policy = (await do("iam", "CreatePolicy", PolicyName="own", PolicyDocument=ALLOW))["Policy"]["Arn"]
    await do("iam", "AttachRolePolicy", RoleName="functions", PolicyArn=policy)
    managed = "arn:aws:iam::aws:policy/AmazonElasticFileSystemFullAccess"
    await do("iam", "AttachRolePolicy", RoleName="functions", PolicyArn=managed)
    await do("iam", "CreateInstanceProfile", InstanceProfileName="profile")
    await do("iam", "AddRoleToInstanceProfile", InstanceProfileName="profile", RoleName="functions")


async def _make_objects(do: Any) -> None:
    placed = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    await do("s3", "CreateBucket", Bucket="plain", **placed)
    await do("s3", "CreateBucket", Bucket="versions", **placed)
    enabled = {"Status": "Enabled"}
    await do("s3", "PutBucketVersioning", Bucket="versions", VersioningConfiguration=enabled)
    for text in (b"one", b"two"):
        await do("s3", "PutObject", Bucket="plain", Key="over/written", Body=text, Metadata={"a_b": "c"})
        await do("s3", "PutObject", Bucket="versions", Key="k", Body=text)
    await do("s3", "DeleteObject", Bucket="versions", Key="k")
    await do("s3", "PutObject", Bucket="plain", Key="gone", Body=b"gone")
    await do("s3", "CopyObject", Bucket="plain", Key="copy", CopySource="plain/gone")
    await do("s3", "DeleteObject", Bucket="plain", Key="gone")
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    await do("s3", "PutObjectTagging", Bucket="plain", Key="copy", Tagging=tags)
    upload = (await do("s3", "CreateMultipartUpload", Bucket="plain", Key="parts"))["UploadId"]
    parts = []
    for number, body in enumerate((PART, b"tail"), start=1):
        made = await do(
            "s3", "UploadPart", Bucket="plain", Key="parts", UploadId=upload, PartNumber=number, Body=body
        )
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    whole = {"Parts": parts}
    await do(
        "s3", "CompleteMultipartUpload", Bucket="plain", Key="parts", UploadId=upload, MultipartUpload=whole
    )
    begun = (await do("s3", "CreateMultipartUpload", Bucket="plain", Key="begun"))["UploadId"]
    await do(
        "s3", "UploadPart", Bucket="plain", Key="begun", UploadId=begun, PartNumber=1, Body=b"first part"
    )


async def _make_keys(do: Any) -> None:
    for spec, usage in (
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "SIGN_VERIFY"),
        ("ECC_NIST_P256", "SIGN_VERIFY"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
    ):
        key = (await do("kms", "CreateKey", KeySpec=spec, KeyUsage=usage))["KeyMetadata"]["KeyId"]
        await do("kms", "CreateAlias", AliasName=f"alias/{spec}-{usage}".lower(), TargetKeyId=key)
    await do("ssm", "PutParameter", Name="/secure", Value="hidden", Type="SecureString")
    await do("ssm", "PutParameter", Name="/plain", Value="1", Type="String")
    await do("ssm", "PutParameter", Name="/plain", Value="2", Type="String", Overwrite=True)
    await do("secretsmanager", "CreateSecret", Name="secret", SecretString="first")
    await do("secretsmanager", "PutSecretValue", SecretId="secret", SecretString="second")


async def _make_messages(do: Any) -> None:
    letters = await do("sqs", "CreateQueue", QueueName="letters", Attributes={"VisibilityTimeout": "3600"})
    fifo = await do("sqs", "CreateQueue", QueueName="q.fifo", Attributes={"FifoQueue": "true"})
    queue = (
        await do("sqs", "GetQueueAttributes", QueueUrl=letters["QueueUrl"], AttributeNames=["QueueArn"])
    )["Attributes"]["QueueArn"]
    for text in ("first", "second", "third"):
        await do("sqs", "SendMessage", QueueUrl=letters["QueueUrl"], MessageBody=text)
        await do(
            "sqs",
            "SendMessage",
            QueueUrl=fifo["QueueUrl"],
            MessageBody=text,
            MessageGroupId="g",
            MessageDeduplicationId=text,
        )
    taken = await do("sqs", "ReceiveMessage", QueueUrl=letters["QueueUrl"], MaxNumberOfMessages=2)
    handle = taken["Messages"][0]["ReceiptHandle"]
    await do("sqs", "DeleteMessage", QueueUrl=letters["QueueUrl"], ReceiptHandle=handle)
    topic = (await do("sns", "CreateTopic", Name="topic"))["TopicArn"]
    await do("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue)
    await do("sns", "Publish", TopicArn=topic, Message="published")
    await do("events", "CreateEventBus", Name="bus")
    pattern = json.dumps({"source": ["app"]})
    await do("events", "PutRule", Name="rule", EventPattern=pattern)
    await do("events", "PutTargets", Rule="rule", Targets=[{"Id": "1", "Arn": queue}])
    event = {"Source": "app", "DetailType": "t", "Detail": "{}"}
    await do("events", "PutEvents", Entries=[event])


async def _make_tables(do: Any) -> None:
    await do(
        "dynamodb",
        "CreateTable",
        TableName="table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    for n in range(3):
        item = {"id": {"S": str(n)}, "tags": {"SS": ["x", "y"]}}
        await do("dynamodb", "PutItem", TableName="table", Item=item)
    await do("dynamodb", "DeleteItem", TableName="table", Key={"id": {"S": "1"}})


async def _make_rest(do: Any) -> None:
    await do("ecr", "CreateRepository", repositoryName="images")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": "sha256:" + "0" * 64, "size": 1, "mediaType": "x"},
            "layers": [],
        }
    )
    await do("ecr", "PutImage", repositoryName="images", imageManifest=manifest, imageTag="latest")
    await do("route53", "CreateHostedZone", Name="example.org", CallerReference="1")
    await do("acm", "RequestCertificate", DomainName="example.org")
    await do("kinesis", "CreateStream", StreamName="stream", ShardCount=2)
    await do("kinesis", "PutRecord", StreamName="stream", Data=b"record", PartitionKey="p")
    await do("cloudwatch", "PutMetricAlarm", **_ALARM)
    await do("autoscaling", "CreateLaunchConfiguration", **_LAUNCH)
    await do("ecs", "CreateCluster", clusterName="cluster")
    await do("stepfunctions", "CreateStateMachine", name="m", definition=_MACHINE, roleArn=_ROLE)
    vpc = (await do("ec2", "DescribeVpcs"))["Vpcs"][0]["VpcId"]
    await do("elbv2", "CreateTargetGroup", Name="targets", Protocol="HTTP", Port=80, VpcId=vpc)
    await do("rds", "CreateDBInstance", **_DATABASE)


_ROLE = "arn:aws:iam::111122223333:role/functions"
_ALARM = {
    "AlarmName": "alarm",
    "MetricName": "m",
    "Namespace": "n",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanThreshold",
    "Statistic": "Sum",
}
_LAUNCH = {"LaunchConfigurationName": "launch", "ImageId": "ami-12c6146b", "InstanceType": "t3.micro"}
_MACHINE = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
_DATABASE = {"DBInstanceIdentifier": "db", "DBInstanceClass": "db.t3.micro", "Engine": "postgres"}

_LOOKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ec2", "DescribeVpcs", {}),
    ("ec2", "DescribeSubnets", {}),
    ("ec2", "DescribeSecurityGroups", {}),
    ("ec2", "DescribeSecurityGroupRules", {}),
    ("ec2", "DescribeRouteTables", {}),
    ("ec2", "DescribeInternetGateways", {}),
    ("ec2", "DescribeNatGateways", {}),
    ("ec2", "DescribeAddresses", {}),
    ("ec2", "DescribeNetworkAcls", {}),
    ("ec2", "DescribeNetworkInterfaces", {}),
    ("ec2", "DescribeKeyPairs", {}),
    ("ec2", "DescribeInstances", {}),
    ("ec2", "DescribeVolumes", {}),
    ("ec2", "DescribeVpcEndpoints", {}),
    ("ec2", "DescribeVpcEndpointServices", {}),
    ("ec2", "DescribeVpcPeeringConnections", {}),
    ("ec2", "DescribeLaunchTemplates", {}),
    ("ec2", "DescribeTags", {}),
    ("ec2", "DescribeDhcpOptions", {}),
    ("iam", "ListUsers", {}),
    ("iam", "ListAccessKeys", {"UserName": "ann"}),
    ("iam", "ListGroupsForUser", {"UserName": "ann"}),
    ("iam", "ListRoles", {}),
    ("iam", "GetRole", {"RoleName": "functions"}),
    ("iam", "GetRolePolicy", {"RoleName": "functions", "PolicyName": "inline"}),
    ("iam", "ListAttachedRolePolicies", {"RoleName": "functions"}),
    ("iam", "ListPolicies", {"Scope": "Local"}),
    ("iam", "ListPolicies", {"Scope": "AWS", "MaxItems": 40}),
    ("iam", "ListInstanceProfiles", {}),
    ("s3", "ListBuckets", {}),
    ("s3", "ListObjectsV2", {"Bucket": "plain"}),
    ("s3", "ListObjectVersions", {"Bucket": "versions"}),
    ("s3", "ListMultipartUploads", {"Bucket": "plain"}),
    ("s3", "GetObject", {"Bucket": "plain", "Key": "over/written"}),
    ("s3", "GetObject", {"Bucket": "plain", "Key": "copy"}),
    ("s3", "HeadObject", {"Bucket": "plain", "Key": "parts"}),
    ("s3", "GetObjectTagging", {"Bucket": "plain", "Key": "copy"}),
    ("kms", "ListKeys", {}),
    ("kms", "ListAliases", {}),
    ("kms", "DescribeKey", {"KeyId": "alias/symmetric_default-encrypt_decrypt"}),
    ("kms", "GetPublicKey", {"KeyId": "alias/rsa_2048-sign_verify"}),
    ("kms", "GetPublicKey", {"KeyId": "alias/ecc_nist_p256-sign_verify"}),
    (
        "kms",
        "GenerateMac",
        {"KeyId": "alias/hmac_256-generate_verify_mac", "Message": b"m"} | {"MacAlgorithm": "HMAC_SHA_256"},
    ),
    ("ssm", "DescribeParameters", {}),
    ("ssm", "GetParameterHistory", {"Name": "/plain"}),
    ("ssm", "GetParameter", {"Name": "/secure", "WithDecryption": True}),
    ("secretsmanager", "ListSecrets", {}),
    ("secretsmanager", "GetSecretValue", {"SecretId": "secret"}),
    ("sqs", "ListQueues", {}),
    ("sqs", "GetQueueAttributes", {"QueueUrl": "letters", "AttributeNames": ["All"]}),
    ("sqs", "GetQueueAttributes", {"QueueUrl": "q.fifo", "AttributeNames": ["All"]}),
    ("sns", "ListTopics", {}),
    ("sns", "ListSubscriptions", {}),
    ("events", "ListEventBuses", {}),
    ("events", "ListRules", {}),
    ("events", "ListTargetsByRule", {"Rule": "rule"}),
    ("dynamodb", "DescribeTable", {"TableName": "table"}),
    ("dynamodb", "Scan", {"TableName": "table"}),
    ("dynamodbstreams", "ListStreams", {}),
    ("ecr", "DescribeRepositories", {}),
    ("ecr", "DescribeImages", {"repositoryName": "images"}),
    ("route53", "ListHostedZones", {}),
    ("kinesis", "DescribeStream", {"StreamName": "stream"}),
    ("cloudwatch", "DescribeAlarms", {}),
    ("autoscaling", "DescribeLaunchConfigurations", {}),
    ("ecs", "ListClusters", {}),
    ("stepfunctions", "ListStateMachines", {}),
    ("elbv2", "DescribeTargetGroups", {}),
    ("rds", "DescribeDBInstances", {}),
)


async def look(neighbours: Neighbours) -> dict[str, Any]:
    """What every listing shows, by call, as JSON has it."""
    shown: dict[str, Any] = {}
    for service, operation, given in _LOOKS:
        title = f"{service} {operation} {json.dumps(given, default=str)}"
        shown[title] = await neighbours.call(service, operation, given, **HERE)
    for database in shown["rds DescribeDBInstances {}"]["DBInstances"]:
        del database["LatestRestorableTime"]  # the present, by its nature
    certificates = await neighbours.call("acm", "ListCertificates", {}, **HERE)
    shown["acm"] = [entry["CertificateArn"] for entry in certificates["CertificateSummaryList"]]
    plain: dict[str, Any] = json.loads(json.dumps(shown, default=_plain))
    return plain


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return repr(value)


async def main(directory: str, what: str) -> None:
    neighbours = Neighbours(Path(directory), Settings(), Clock())
    if what == "make":
        await make(neighbours)
    shown = await look(neighbours)
    if what == "snapshot":
        await neighbours.snapshot()
    print(json.dumps(shown), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
