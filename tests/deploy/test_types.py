"""One of every resource type, made, changed and taken away."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from botocore import xform_name

from lambay.deploy.types.base import At
from lambay.deploy.types.registry import resource_type, resource_types
from tests.deploy.arrange import Cloud, unique
from tests.deploy.test_stacks import vestiges

NESTED = """
Parameters: {Word: {Type: String}}
Resources: {Note: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !Ref Word}}}
Outputs: {Word: {Value: !GetAtt Note.Value}}
"""
# What the second word does not reach: what has neither a tag nor another property that changes.
UNCHANGED = {
    "AWS::Backup::BackupVault",
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CodeDeploy::Application",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::Route",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPCCidrBlock",
    "AWS::EC2::VPCDHCPOptionsAssociation",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECS::Cluster",
    "AWS::Events::EventBus",
    "AWS::Lambda::ProvisionedConcurrencyConfig",
    "AWS::Logs::LogStream",
}


def layer() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("python/word.py", "WORD = 'layer'\n")
    return packed.getvalue()


def test_every_type_is_made_changed_and_taken_away(cloud: Cloud) -> None:
    template = (Path(__file__).parent / "templates" / "every-type.yaml").read_text()
    s3, bucket, prefix = cloud.server.boto("s3"), unique("templates"), unique("every")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="nested.yaml", Body=NESTED.encode())
    s3.put_object(Bucket=bucket, Key="layer.zip", Body=layer())
    before = vestiges(cloud)

    stack = cloud.create(template, parameters={"Bucket": bucket, "Prefix": prefix})
    while not stack.resources.get("Handle"):
        pass
    cloud.formation.signal_resource(
        StackName=stack.name, LogicalResourceId="Handle", UniqueId="one", Status="SUCCESS"
    )

    assert stack.status == "CREATE_COMPLETE", stack.failures()
    listed = cloud.formation.list_stack_resources(StackName=stack.arn)["StackResourceSummaries"]
    types = {one["LogicalResourceId"]: one["ResourceType"] for one in listed}
    assert set(types.values()) == set(resource_types())
    assert stack.outputs == {"Word": "one", "Nested": "one"}

    assert stack.update(Word="two", Bucket=bucket, Prefix=prefix) == "UPDATE_COMPLETE", stack.failures()

    changed = {
        types[name] for name, status, _ in stack.events() if status == "UPDATE_COMPLETE" and name in types
    }
    assert set(resource_types()) - changed == UNCHANGED
    assert stack.outputs == {"Word": "two", "Nested": "two"}

    assert stack.delete() == "DELETE_COMPLETE", stack.failures()
    assert vestiges(cloud) == before


def test_what_an_interrupted_creation_left_is_found_without_a_name(cloud: Cloud) -> None:
    stack = cloud.create("""
Resources:
  Key: {Type: AWS::KMS::Key, Properties: {PendingWindowInDays: 7}}
  Topic: {Type: AWS::SNS::Topic}
  Queue: {Type: AWS::SQS::Queue}
  Subscription:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Topic, Protocol: sqs, Endpoint: !GetAtt Queue.Arn}
""")
    assert stack.status == "CREATE_COMPLETE", stack.failures()
    queue = stack.resources["Queue"].rpartition("/")[2]
    endpoint = stack.resources["Topic"].replace(":sns:", ":sqs:").rpartition(":")[0] + f":{queue}"

    async def call(service: str, operation: str, input: Mapping[str, Any]) -> dict[str, Any]:
        return cast(dict[str, Any], getattr(cloud.server.boto(service), xform_name(operation))(**input))

    def found(name: str, kind: str, **properties: Any) -> list[str]:
        at = At(
            call,
            "",
            "us-east-1",
            stack.name,
            stack.arn,
            name,
            kind,
            "",
            cast(Any, None),
            cast(Any, None),
            cast(Any, None),
        )
        return list(asyncio.run(resource_type(kind).find(at, properties)))

    assert found("Key", "AWS::KMS::Key") == [stack.resources["Key"]]
    assert found("Other", "AWS::KMS::Key") == []
    assert found(
        "Subscription",
        "AWS::SNS::Subscription",
        TopicArn=stack.resources["Topic"],
        Protocol="sqs",
        Endpoint=endpoint,
    ) == [stack.resources["Subscription"]]
    stack.delete()
