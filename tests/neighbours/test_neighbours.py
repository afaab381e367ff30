"""One door for every service that is not ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from lambay.aws import Call, Principal
from lambay.http import Request

from .clients import ACCOUNT, REGION, connect, opened, refused


async def test_a_client_sees_what_it_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        ec2 = connect(neighbours, "ec2")
        made = await ec2.create_vpc(CidrBlock="10.9.0.0/16")
        found = await ec2.describe_vpcs(VpcIds=[made["Vpc"]["VpcId"]])
        assert found["Vpcs"][0]["CidrBlock"] == "10.9.0.0/16"
        assert found["Vpcs"][0]["OwnerId"] == ACCOUNT


async def test_our_own_rooms_call_as_boto3_does(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        made = await neighbours.call(
            "ssm", "PutParameter", {"Name": "/a", "Value": "1", "Type": "String"}, **HERE
        )
        got = await neighbours.call("ssm", "GetParameter", {"Name": "/a"}, **HERE)
        assert made["Version"] == 1
        assert got["Parameter"]["ARN"] == f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/a"


async def test_an_error_of_a_neighbour_is_raised_with_its_code_and_status(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        error = await refused(neighbours.call("ec2", "DescribeSubnets", {"SubnetIds": ["subnet-0"]}, **HERE))
        assert (error.code, error.status) == ("InvalidSubnetID.NotFound", 400)
        assert "subnet-0" in error.message


@pytest.mark.parametrize("member", ["GroupIds", "GroupNames"])
async def test_a_security_group_that_does_not_exist_is_named(tmp_path: Path, member: str) -> None:
    async with opened(tmp_path) as neighbours:
        groups = (await neighbours.call("ec2", "DescribeSecurityGroups", {}, **HERE))["SecurityGroups"]
        known = groups[0][member.removesuffix("s")]
        asked = {member: [known, "sg-00000000"]}
        error = await refused(neighbours.call("ec2", "DescribeSecurityGroups", asked, **HERE))
        assert (error.code, error.message) == (
            "InvalidGroup.NotFound",
            "The security group 'sg-00000000' does not exist",
        )


async def test_accounts_and_regions_are_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        one, other = connect(neighbours, "sqs"), connect(neighbours, "sqs", account="444455556666")
        abroad = connect(neighbours, "sqs", region="us-west-2")
        await one.create_queue(QueueName="q")
        assert "QueueUrls" not in await other.list_queues()
        assert "QueueUrls" not in await abroad.list_queues()


async def test_a_queue_url_leads_back_to_us(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs = connect(neighbours, "sqs", endpoint="http://lambay.example:4566")
        made = await sqs.create_queue(QueueName="q")
        assert made["QueueUrl"] == f"http://lambay.example:4566/{ACCOUNT}/q"


async def test_what_a_json_body_says_is_data_and_no_other_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        sqs = connect(neighbours, "sqs")
        queue, other = [(await sqs.create_queue(QueueName=name))["QueueUrl"] for name in ("q", "other")]
        text = f"x&Action=DeleteQueue&QueueUrl={other}&y=1"
        await sqs.send_message(QueueUrl=queue, MessageBody=text)
        assert (await sqs.receive_message(QueueUrl=queue))["Messages"][0]["Body"] == text
        assert (await sqs.list_queues())["QueueUrls"] == [queue, other]
        ssm = connect(neighbours, "ssm")
        await ssm.put_parameter(Name="/a", Type="String", Value="x&Action=DeleteParameter&Name=/b&y")
        assert (await ssm.get_parameter(Name="/a"))["Parameter"]["Value"].startswith("x&Action")


async def test_aws_managed_policies_exist(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        found = await iam.get_policy(
            PolicyArn="arn:aws:iam::aws:policy/AmazonElasticFileSystemClientFullAccess"
        )
        assert found["Policy"]["PolicyName"] == "AmazonElasticFileSystemClientFullAccess"


@pytest.mark.parametrize("service", ["sts", "no-such-service", "gamelift"])
async def test_a_service_that_moto_lacks_is_named(tmp_path: Path, service: str) -> None:
    async with opened(tmp_path) as neighbours:
        error = await refused(neighbours.handle(_call(service, "ListThings"), Request("POST", "/", "", {})))
        assert (error.code, error.status) == ("NotImplemented", 501)
        assert service in error.message


async def test_an_operation_that_moto_lacks_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        error = await refused(neighbours.call("ec2", "DescribeVerifiedAccessTrustProviders", {}, **HERE))
        assert (error.code, error.status) == ("NotImplemented", 501)
        assert "DescribeVerifiedAccessTrustProviders" in error.message


async def test_a_defect_of_moto_is_an_internal_failure_and_not_journaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as neighbours:
        await neighbours.call("ssm", "DescribeParameters", {}, **HERE)
        from moto.ssm.models import SimpleSystemManagerBackend

        monkeypatch.setattr(SimpleSystemManagerBackend, "put_parameter", _defective)
        given = {"Name": "/a", "Value": "1", "Type": "String"}
        error = await refused(neighbours.call("ssm", "PutParameter", given, **HERE))
        assert (error.code, error.status) == ("InternalFailure", 500)
        assert "the defect" not in error.message
        assert "the defect" in caplog.text
        assert neighbours.status().entries == 0


async def test_policy_documents_come_decoded_as_boto3_gives_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        given = {"RoleName": "r", "AssumeRolePolicyDocument": '{"Version": "2012-10-17"}'}
        await neighbours.call("iam", "CreateRole", given, **HERE)
        got = await neighbours.call("iam", "GetRole", {"RoleName": "r"}, **HERE)
        assert got["Role"]["AssumeRolePolicyDocument"] == {"Version": "2012-10-17"}


async def test_the_event_loop_stays_responsive_while_moto_loads(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        call = asyncio.ensure_future(neighbours.call("batch", "DescribeComputeEnvironments", {}, **HERE))
        turns = 0
        while not call.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100


async def test_reads_and_failures_leave_no_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        await iam.list_roles()
        with pytest.raises(ClientError, match="NoSuchEntity"):
            await iam.delete_role(RoleName="absent")
        assert neighbours.status().entries == 0
        await iam.create_user(UserName="ann")
        assert neighbours.status().entries == 1


async def test_reset_empties_everything(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        s3, ec2 = connect(neighbours, "s3"), connect(neighbours, "ec2")
        before = (await ec2.describe_vpcs())["Vpcs"][0]["VpcId"]
        await s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        await s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        await neighbours.reset()
        assert (await s3.list_buckets())["Buckets"] == []
        assert (await ec2.describe_vpcs())["Vpcs"][0]["VpcId"] != before
        assert [path for path in tmp_path.rglob("*") if path.is_file() and "journal" not in path.name] == []
    async with opened(tmp_path) as again:
        assert (await connect(again, "s3").list_buckets())["Buckets"] == []


async def test_moto_is_not_imported_before_it_is_needed(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        assert not neighbours.status().loaded
        await neighbours.call("ec2", "DescribeVpcs", {}, **HERE)
        assert neighbours.status().loaded


HERE = {"account": ACCOUNT, "region": REGION}


def _call(service: str, operation: str) -> Call:
    root = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    return Call("request", ACCOUNT, REGION, root, service, operation)


def _defective(*_: object, **__: object) -> None:
    raise RuntimeError("the defect")
