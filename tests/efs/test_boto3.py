"""Every operation by boto3 through the real front door, network, neighbours and file server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from lambay.api import Gateway, Listener
from lambay.clock import Clock
from lambay.efs import FileSystems
from lambay.fsd import Fsd
from lambay.identity import Identity
from lambay.neighbours import Neighbours
from lambay.neighbours.access_keys import IamRecords
from lambay.network import Network
from lambay.settings import Settings
from lambay.store import Store

REGION = "eu-west-1"


class Boto:
    """A boto3 client whose methods are coroutines and whose answers have no metadata."""

    def __init__(self, service: str, url: str) -> None:
        self.asked: set[str] = set()
        self._client = boto3.client(
            service,
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}),
        )

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        method = getattr(self._client, operation)
        self.asked.add(operation)

        async def call(**given: Any) -> Any:
            answer = await asyncio.to_thread(method, **given)
            answer.pop("ResponseMetadata", None)
            return answer

        return call

    async def refused(self, operation: str, **given: Any) -> dict[str, Any]:
        """The error that the operation answers with: its parsed body, with `Code` and `Status` added."""
        with pytest.raises(ClientError) as refused:
            await getattr(self, operation)(**given)
        response = refused.value.response
        return {
            **response,
            "Code": response["Error"]["Code"],
            "Status": response["ResponseMetadata"]["HTTPStatusCode"],
        }


class Server:
    def __init__(self, directory: Path) -> None:
        self.settings = Settings(data_dir=directory, region=REGION, host="127.0.0.1")
        self.store = Store(directory / "lambay.db")
        clock = Clock()
        self.fsd = Fsd(self.settings)
        self.neighbours = Neighbours(directory / "neighbours", self.settings, clock)
        network = Network(self.neighbours)
        self.efs = FileSystems(self.store, self.fsd, network, self.neighbours, self.settings, clock)
        identity = Identity(self.store, IamRecords(self.neighbours.ready), self.settings, clock)
        self.listener = Listener(Gateway([self.efs], identity, self.neighbours, self.settings, clock).handle)

    async def start(self) -> str:
        await self.fsd.start()
        await self.efs.start()
        return f"http://127.0.0.1:{(await self.listener.start('127.0.0.1', 0)).port}"

    async def stop(self) -> None:
        await self.listener.stop()
        await self.efs.stop()
        await self.fsd.stop()
        await self.neighbours.close()
        self.store.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Boto, Boto]]:
    """Clients of EFS and EC2."""
    running = Server(tmp_path)
    url = await running.start()
    yield Boto("efs", url), Boto("ec2", url)
    await running.stop()


def operations() -> list[str]:
    return sorted(Loader().load_service_model("efs", "service-2")["operations"])


def test_every_operation_of_the_model_is_there() -> None:
    assert len(operations()) == 31
    assert [name for name in operations() if not hasattr(FileSystems, xform_name(name))] == []


async def test_a_story_of_all_operations(server: tuple[Boto, Boto]) -> None:
    efs, ec2 = server
    created = await efs.create_file_system(
        CreationToken="story", Encrypted=True, ThroughputMode="elastic", Tags=[{"Key": "Name", "Value": "s"}]
    )
    fs = created["FileSystemId"]
    assert created["LifeCycleState"] == "creating"
    refused = await efs.refused("create_file_system", CreationToken="story")
    assert (refused["Code"], refused["Status"], refused["FileSystemId"]) == (
        "FileSystemAlreadyExists",
        409,
        fs,
    )
    (described,) = (await efs.describe_file_systems(CreationToken="story"))["FileSystems"]
    assert (described["LifeCycleState"], described["Name"]) == ("available", "s")
    assert described["SizeInBytes"]["Value"] == 6144
    assert ":kms:" in described["KmsKeyId"]
    updated = await efs.update_file_system(FileSystemId=fs, ThroughputMode="bursting")
    assert updated["ThroughputMode"] == "bursting"
    arn = described["FileSystemArn"]

    subnets = sorted((await ec2.describe_subnets())["Subnets"], key=lambda subnet: subnet["AvailabilityZone"])
    target = await efs.create_mount_target(FileSystemId=arn, SubnetId=subnets[0]["SubnetId"])
    (interface,) = (
        await ec2.describe_network_interfaces(NetworkInterfaceIds=[target["NetworkInterfaceId"]])
    )["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == target["IpAddress"]
    assert interface["Description"] == f"EFS mount target for {fs} ({target['MountTargetId']})"
    assert interface["RequesterManaged"]
    refused = await efs.refused("create_mount_target", FileSystemId=fs, SubnetId=subnets[0]["SubnetId"])
    assert (refused["Code"], refused["Status"]) == ("MountTargetConflict", 409)
    refused = await efs.refused(
        "create_mount_target", FileSystemId=fs, SubnetId=subnets[1]["SubnetId"], IpAddress="10.9.9.9"
    )
    assert (refused["Code"], refused["ErrorCode"]) == ("BadRequest", "BadRequest")
    (listed,) = (await efs.describe_mount_targets(FileSystemId=fs))["MountTargets"]
    assert listed == target | {"LifeCycleState": "available"}
    groups = await efs.describe_mount_target_security_groups(MountTargetId=target["MountTargetId"])
    assert groups["SecurityGroups"] == [interface["Groups"][0]["GroupId"]]
    group = await ec2.create_security_group(GroupName="nfs", Description="d", VpcId=target["VpcId"])
    await efs.modify_mount_target_security_groups(
        MountTargetId=target["MountTargetId"], SecurityGroups=[group["GroupId"]]
    )
    (interface,) = (
        await ec2.describe_network_interfaces(NetworkInterfaceIds=[target["NetworkInterfaceId"]])
    )["NetworkInterfaces"]
    assert [each["GroupId"] for each in interface["Groups"]] == [group["GroupId"]]

    access_point = await efs.create_access_point(
        ClientToken="a",
        FileSystemId=fs,
        PosixUser={"Uid": 1, "Gid": 2, "SecondaryGids": [3]},
        RootDirectory={"Path": "/a", "CreationInfo": {"OwnerUid": 1, "OwnerGid": 2, "Permissions": "755"}},
    )
    (found,) = (await efs.describe_access_points(FileSystemId=fs))["AccessPoints"]
    assert found == access_point | {"LifeCycleState": "available"}
    refused = await efs.refused("create_access_point", ClientToken="a", FileSystemId=fs)
    assert refused["AccessPointId"] == access_point["AccessPointId"]

    await efs.tag_resource(ResourceId=access_point["AccessPointArn"], Tags=[{"Key": "k", "Value": "v"}])
    tagged = await efs.list_tags_for_resource(ResourceId=access_point["AccessPointId"])
    assert tagged["Tags"] == [{"Key": "k", "Value": "v"}]
    await efs.untag_resource(ResourceId=access_point["AccessPointId"], TagKeys=["k"])
    assert (await efs.list_tags_for_resource(ResourceId=access_point["AccessPointId"]))["Tags"] == []
    await efs.create_tags(FileSystemId=fs, Tags=[{"Key": "old", "Value": "way"}])
    assert {"Key": "old", "Value": "way"} in (await efs.describe_tags(FileSystemId=fs))["Tags"]
    await efs.delete_tags(FileSystemId=fs, TagKeys=["old"])

    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "elasticfilesystem:ClientMount"}
        ],
    }
    refused = await efs.refused("describe_file_system_policy", FileSystemId=fs)
    assert (refused["Code"], refused["Status"]) == ("PolicyNotFound", 404)
    refused = await efs.refused("put_file_system_policy", FileSystemId=fs, Policy="{}")
    assert refused["Code"] == "InvalidPolicyException"
    await efs.put_file_system_policy(FileSystemId=fs, Policy=json.dumps(policy))
    assert json.loads((await efs.describe_file_system_policy(FileSystemId=fs))["Policy"]) == policy
    await efs.delete_file_system_policy(FileSystemId=fs)

    lifecycle = [{"TransitionToIA": "AFTER_30_DAYS"}]
    await efs.put_lifecycle_configuration(FileSystemId=fs, LifecyclePolicies=lifecycle)
    kept = await efs.describe_lifecycle_configuration(FileSystemId=fs)
    assert kept["LifecyclePolicies"] == lifecycle
    await efs.put_backup_policy(FileSystemId=fs, BackupPolicy={"Status": "ENABLED"})
    assert (await efs.describe_backup_policy(FileSystemId=fs))["BackupPolicy"] == {"Status": "ENABLED"}
    await efs.put_account_preferences(ResourceIdType="LONG_ID")
    preference = (await efs.describe_account_preferences())["ResourceIdPreference"]
    assert preference["ResourceIdType"] == "LONG_ID"
    protection = await efs.update_file_system_protection(
        FileSystemId=fs, ReplicationOverwriteProtection="DISABLED"
    )
    assert protection == {"ReplicationOverwriteProtection": "DISABLED"}

    replication = await efs.create_replication_configuration(
        SourceFileSystemId=fs, Destinations=[{"Region": "us-east-1"}]
    )
    (shown,) = (await efs.describe_replication_configurations(FileSystemId=fs))["Replications"]
    assert shown == replication
    await efs.delete_replication_configuration(SourceFileSystemId=fs)

    refused = await efs.refused("delete_file_system", FileSystemId=fs)
    assert (refused["Code"], refused["Status"]) == ("FileSystemInUse", 409)
    await efs.delete_access_point(AccessPointId=access_point["AccessPointId"])
    await efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    left = await ec2.describe_network_interfaces()
    assert target["NetworkInterfaceId"] not in [
        each["NetworkInterfaceId"] for each in left["NetworkInterfaces"]
    ]
    await efs.delete_file_system(FileSystemId=fs)
    assert {xform_name(name) for name in operations()} == efs.asked


async def test_mount_targets_are_the_same_after_a_restart(tmp_path: Path) -> None:
    first = Server(tmp_path)
    url = await first.start()
    efs, ec2 = Boto("efs", url), Boto("ec2", url)
    fs = (await efs.create_file_system())["FileSystemId"]
    subnet = (await ec2.describe_subnets())["Subnets"][0]["SubnetId"]
    target = await efs.create_mount_target(FileSystemId=fs, SubnetId=subnet)
    await first.stop()

    second = Server(tmp_path)
    url = await second.start()
    efs, ec2 = Boto("efs", url), Boto("ec2", url)
    (interface,) = (
        await ec2.describe_network_interfaces(NetworkInterfaceIds=[target["NetworkInterfaceId"]])
    )["NetworkInterfaces"]
    assert (interface["SubnetId"], interface["PrivateIpAddress"]) == (subnet, target["IpAddress"])
    (described,) = (await efs.describe_mount_targets(FileSystemId=fs))["MountTargets"]
    assert described == target | {"LifeCycleState": "available"}
    await efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    assert (await ec2.describe_network_interfaces())["NetworkInterfaces"] == []
    await second.stop()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"ThroughputMode": "provisioned"}, "BadRequest"),
        ({"Encrypted": True, "KmsKeyId": "12345678-1234-1234-1234-123456789012"}, "BadRequest"),
        ({"AvailabilityZoneName": "mars-1a"}, "UnsupportedAvailabilityZone"),
    ],
)
async def test_what_the_neighbours_refuse(
    server: tuple[Boto, Boto], given: dict[str, Any], code: str
) -> None:
    efs, _ = server
    assert (await efs.refused("create_file_system", **given))["Code"] == code


async def test_a_one_zone_file_system_has_the_zones_id(server: tuple[Boto, Boto]) -> None:
    efs, _ = server
    created = await efs.create_file_system(AvailabilityZoneName="eu-west-1b")
    assert (created["AvailabilityZoneName"], created["AvailabilityZoneId"][:-1]) == ("eu-west-1b", "euw1-az")
