"""Subnets and derived interfaces, as EC2's clients see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.neighbours import Neighbours
from lambay.network import Network
from lambay.settings import Settings

HERE: dict[str, Any] = {"account": "111122223333", "region": "eu-west-1"}


@pytest.fixture
async def neighbours(tmp_path: Path) -> AsyncIterator[Neighbours]:
    opened = Neighbours(tmp_path, Settings(), Clock())
    yield opened
    await opened.close()


@pytest.fixture
def network(neighbours: Neighbours) -> Network:
    return Network(neighbours)


async def ec2(neighbours: Neighbours, operation: str, **given: Any) -> dict[str, Any]:
    return await neighbours.call("ec2", operation, given, **HERE)


async def a_subnet(neighbours: Neighbours, cidr: str = "10.0.1.0/24") -> str:
    vpc = await ec2(neighbours, "CreateVpc", CidrBlock="10.0.0.0/16")
    made = await ec2(
        neighbours,
        "CreateSubnet",
        VpcId=vpc["Vpc"]["VpcId"],
        CidrBlock=cidr,
        AvailabilityZone="eu-west-1b",
    )
    return str(made["Subnet"]["SubnetId"])


async def its_default_group(neighbours: Neighbours, network: Network, subnet: str) -> str:
    return await network.default_security_group((await network.subnet(subnet, **HERE)).vpc, **HERE)


async def described(neighbours: Neighbours, interface: str) -> dict[str, Any]:
    found = await ec2(neighbours, "DescribeNetworkInterfaces", NetworkInterfaceIds=[interface])
    entry: dict[str, Any] = found["NetworkInterfaces"][0]
    return entry


async def test_a_subnet_is_known_by_its_zone(neighbours: Neighbours, network: Network) -> None:
    subnet = await network.subnet(await a_subnet(neighbours), **HERE)
    assert (subnet.zone, subnet.cidr, subnet.available_addresses) == ("eu-west-1b", "10.0.1.0/24", 251)
    assert subnet.zone_id.startswith("euw1-az")
    assert subnet.vpc.startswith("vpc-")


async def test_an_absent_subnet_is_not_found(network: Network) -> None:
    with pytest.raises(AWSError) as refused:
        await network.subnet("subnet-0123456789abcdef0", **HERE)
    assert refused.value.code == "InvalidSubnetID.NotFound"


async def test_a_group_of_another_vpc_is_refused(neighbours: Neighbours, network: Network) -> None:
    here, there = await a_subnet(neighbours), await a_subnet(neighbours)
    theirs = await its_default_group(neighbours, network, there)
    vpc = (await network.subnet(here, **HERE)).vpc
    with pytest.raises(AWSError) as refused:
        await network.check_security_groups([theirs], vpc, **HERE)
    assert refused.value.code == "InvalidGroup.NotFound"
    await network.check_security_groups([await its_default_group(neighbours, network, here)], vpc, **HERE)


async def test_a_mount_targets_interface_looks_as_in_aws(neighbours: Neighbours, network: Network) -> None:
    subnet = await a_subnet(neighbours)
    group = await its_default_group(neighbours, network, subnet)
    made = await network.create_interface(
        subnet, [group], description="EFS mount target for fs-1 (fsmt-1)", **HERE
    )
    seen = await described(neighbours, made.id)
    assert seen["Description"] == "EFS mount target for fs-1 (fsmt-1)"
    assert seen["PrivateIpAddress"] == made.address
    assert seen["RequesterManaged"] is True
    assert seen["InterfaceType"] == "interface"
    assert seen["Status"] == "in-use"
    assert [entry["GroupId"] for entry in seen["Groups"]] == [group]
    assert seen["Attachment"]["InstanceOwnerId"] == "amazon-aws"
    assert (await network.subnet(subnet, **HERE)).available_addresses == 250


async def test_a_functions_interface_has_its_own_type(neighbours: Neighbours, network: Network) -> None:
    subnet = await a_subnet(neighbours)
    group = await its_default_group(neighbours, network, subnet)
    made = await network.create_interface(
        subnet,
        [group],
        description="AWS Lambda VPC ENI-f-1",
        kind="lambda",
        requester="amazon-lambda",
        **HERE,
    )
    seen = await described(neighbours, made.id)
    assert (seen["InterfaceType"], seen["RequesterId"]) == ("lambda", "amazon-lambda")


async def test_an_address_is_given_once(neighbours: Neighbours, network: Network) -> None:
    subnet = await a_subnet(neighbours)
    group = await its_default_group(neighbours, network, subnet)
    first = await network.create_interface(subnet, [group], description="", address="10.0.1.77", **HERE)
    assert first.address == "10.0.1.77"
    with pytest.raises(AWSError) as refused:
        await network.create_interface(subnet, [group], description="", address="10.0.1.77", **HERE)
    assert refused.value.code == "InvalidIPAddress.InUse"
    with pytest.raises(AWSError) as refused:
        await ec2(neighbours, "CreateNetworkInterface", SubnetId=subnet, PrivateIpAddress="10.0.1.77")
    assert refused.value.code == "InvalidIPAddress.InUse"


@pytest.mark.parametrize("address", ["10.0.2.9", "10.0.1.0", "10.0.1.3", "10.0.1.255", "nowhere"])
async def test_an_address_that_the_subnet_cannot_give_is_refused(
    neighbours: Neighbours, network: Network, address: str
) -> None:
    subnet = await a_subnet(neighbours)
    group = await its_default_group(neighbours, network, subnet)
    with pytest.raises(AWSError) as refused:
        await network.create_interface(subnet, [group], description="", address=address, **HERE)
    assert refused.value.code == "InvalidParameterValue"
    assert address in refused.value.message


async def test_a_full_subnet_says_so(neighbours: Neighbours, network: Network) -> None:
    subnet = await a_subnet(neighbours, "10.0.1.0/28")
    group = await its_default_group(neighbours, network, subnet)
    addresses = {
        (await network.create_interface(subnet, [group], description="", **HERE)).address for _ in range(11)
    }
    assert len(addresses) == 11
    with pytest.raises(AWSError) as refused:
        await network.create_interface(subnet, [group], description="", **HERE)
    assert refused.value.code == "InsufficientFreeAddressesInSubnet"


async def test_instances_and_derived_interfaces_never_share_an_address(
    neighbours: Neighbours, network: Network
) -> None:
    subnet = await a_subnet(neighbours, "10.0.1.0/28")
    group = await its_default_group(neighbours, network, subnet)
    addresses = []
    for _ in range(3):
        addresses.append((await network.create_interface(subnet, [group], description="", **HERE)).address)
        run = await ec2(
            neighbours, "RunInstances", ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet
        )
        addresses.append(run["Instances"][0]["PrivateIpAddress"])
        made = await ec2(neighbours, "CreateNetworkInterface", SubnetId=subnet)
        addresses.append(made["NetworkInterface"]["PrivateIpAddress"])
    assert len(set(addresses)) == 9


async def test_a_client_cannot_take_the_ground_from_under_a_mount_target(
    neighbours: Neighbours, network: Network
) -> None:
    subnet = await a_subnet(neighbours)
    vpc = (await network.subnet(subnet, **HERE)).vpc
    made = await ec2(neighbours, "CreateSecurityGroup", GroupName="nfs", Description="nfs", VpcId=vpc)
    group = made["GroupId"]
    interface = await network.create_interface(subnet, [group], description="", **HERE)
    for operation, given, code in (
        ("DeleteSubnet", {"SubnetId": subnet}, "DependencyViolation"),
        ("DeleteSecurityGroup", {"GroupId": group}, "DependencyViolation"),
        ("DeleteNetworkInterface", {"NetworkInterfaceId": interface.id}, "InvalidNetworkInterface.InUse"),
    ):
        with pytest.raises(AWSError) as refused:
            await ec2(neighbours, operation, **given)
        assert refused.value.code == code
    await network.delete_interface(interface.id, **HERE)
    await ec2(neighbours, "DeleteSecurityGroup", GroupId=group)
    await ec2(neighbours, "DeleteSubnet", SubnetId=subnet)


async def test_groups_of_an_interface_change(neighbours: Neighbours, network: Network) -> None:
    subnet = await a_subnet(neighbours)
    vpc = (await network.subnet(subnet, **HERE)).vpc
    default = await network.default_security_group(vpc, **HERE)
    other = (await ec2(neighbours, "CreateSecurityGroup", GroupName="g", Description="g", VpcId=vpc))[
        "GroupId"
    ]
    made = await network.create_interface(subnet, [default], description="", **HERE)
    await network.set_interface_groups(made.id, [other], **HERE)
    assert [group["GroupId"] for group in (await described(neighbours, made.id))["Groups"]] == [other]


async def test_an_interface_comes_back_as_it_was_after_a_restart(tmp_path: Path) -> None:
    first = Neighbours(tmp_path, Settings(), Clock())
    network = Network(first)
    subnet = await a_subnet(first)
    group = await its_default_group(first, network, subnet)
    made = await network.create_interface(subnet, [group], description="EFS mount target", **HERE)
    run = await ec2(first, "RunInstances", ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet)
    before = await described(first, made.id)
    await first.close()

    second = Neighbours(tmp_path, Settings(), Clock())
    network = Network(second)
    found = await ec2(second, "DescribeNetworkInterfaces")
    assert made.id not in [entry["NetworkInterfaceId"] for entry in found["NetworkInterfaces"]]
    for _ in range(2):
        await network.ensure_interface(
            made.id, subnet, [group], made.address, description="EFS mount target", **HERE
        )
    after = await described(second, made.id)
    attached = {"AttachTime"}
    assert {k: v for k, v in after.items() if k != "Attachment"} == {
        k: v for k, v in before.items() if k != "Attachment"
    }
    assert {k: v for k, v in after["Attachment"].items() if k not in attached} == {
        k: v for k, v in before["Attachment"].items() if k not in attached
    }
    again = await ec2(second, "DescribeInstances", InstanceIds=[run["Instances"][0]["InstanceId"]])
    assert (
        again["Reservations"][0]["Instances"][0]["PrivateIpAddress"]
        == run["Instances"][0]["PrivateIpAddress"]
    )
    await second.close()
