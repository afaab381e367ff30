import asyncio
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.efs import Limits
from tests.efs.surroundings import ACCOUNT, VPC_GROUP, House, TinyNetwork, call, opened


async def test_a_mount_target_has_an_address_of_its_subnet(house: House) -> None:
    identifier = await house.make()
    created = await house.make_target(identifier)
    assert created["LifeCycleState"] == "creating"
    (interface,) = house.network.interfaces.values()
    assert created == {
        "OwnerId": ACCOUNT,
        "MountTargetId": created["MountTargetId"],
        "FileSystemId": identifier,
        "SubnetId": "subnet-00000001",
        "LifeCycleState": "creating",
        "IpAddress": "10.0.1.4",
        "NetworkInterfaceId": interface.id,
        "AvailabilityZoneId": "euw1-az1",
        "AvailabilityZoneName": "eu-west-1a",
        "VpcId": "vpc-00000001",
    }
    assert interface.description == f"EFS mount target for {identifier} ({created['MountTargetId']})"
    assert interface.groups == (VPC_GROUP,)
    assert (await house.describe(identifier))["NumberOfMountTargets"] == 1
    (described,) = (await _describe(house, FileSystemId=identifier))["MountTargets"]
    assert described == created | {"LifeCycleState": "available"}


async def test_the_given_address_and_groups_are_taken(house: House) -> None:
    groups = ["sg-00000001", "sg-00000002"]
    created = await house.make_target(await house.make(), IpAddress="10.0.1.77", SecurityGroups=groups)
    assert created["IpAddress"] == "10.0.1.77"
    assert house.network.interfaces[created["NetworkInterfaceId"]].groups == tuple(groups)
    assert await _groups(house, created) == groups


@pytest.mark.parametrize(
    ("subnet", "given", "code", "says"),
    [
        (9, {}, "SubnetNotFound", "subnet-00000009"),
        (1, {"SecurityGroups": ["sg-77777777"]}, "SecurityGroupNotFound", "sg-77777777"),
        (1, {"SecurityGroups": ["sg-99999999"]}, "SecurityGroupNotFound", "sg-99999999"),
        (1, {"SecurityGroups": [f"sg-{n:08x}" for n in range(1, 7)]}, "SecurityGroupLimitExceeded", "5"),
        (1, {"IpAddress": "10.0.2.9"}, "BadRequest", "range"),
        (1, {"IpAddress": "10.0.1.999"}, "BadRequest", "10.0.1.999"),
        (1, {"IpAddress": "10.0.1.9"}, "IpAddressInUse", "10.0.1.9"),
        (5, {}, "NoFreeAddressesInSubnet", "subnet-00000005"),
        (1, {"IpAddressType": "DUAL_STACK"}, "BadRequest", "IPV4_ONLY"),
        (1, {"Ipv6Address": "2001:db8::1"}, "BadRequest", "IPv6"),
    ],
)
async def test_what_cannot_be_created(
    house: House, subnet: int, given: dict[str, Any], code: str, says: str
) -> None:
    await house.make_target(await house.make(), IpAddress="10.0.1.9")
    identifier = await house.make()
    with pytest.raises(AWSError, match=says) as refused:
        await house.make_target(identifier, subnet, **given)
    assert refused.value.code == code
    assert len(house.network.interfaces) == 1
    assert (await house.describe(identifier))["NumberOfMountTargets"] == 0


async def test_the_account_runs_out_of_interfaces(house: House) -> None:
    house.network.interface_limit = 0
    with pytest.raises(AWSError, match="NetworkInterfaceLimitExceeded"):
        await house.make_target(await house.make())


async def test_one_mount_target_a_zone(house: House) -> None:
    identifier = await house.make()
    await house.make_target(identifier, 1)
    with pytest.raises(AWSError, match="MountTargetConflict: mount target already exists in this AZ"):
        await house.make_target(identifier, 3)
    await house.make_target(identifier, 2)


async def test_of_two_requests_for_one_zone_one_succeeds(house: House) -> None:
    identifier = await house.make()
    outcomes = await asyncio.gather(
        *(house.make_target(identifier, number) for number in (1, 3, 1, 3)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AWSError"] * 3 + ["dict"]
    assert len(house.network.interfaces) == 1


async def test_all_mount_targets_are_in_one_vpc(house: House) -> None:
    identifier = await house.make()
    await house.make_target(identifier, 1)
    with pytest.raises(AWSError, match="not in the same VPC as existing mount targets"):
        await house.make_target(identifier, 4)


async def test_a_one_zone_file_system_has_its_mount_target_there(house: House) -> None:
    identifier = await house.make(AvailabilityZoneName="eu-west-1b")
    with pytest.raises(AWSError, match="AvailabilityZonesMismatch"):
        await house.make_target(identifier, 1)
    await house.make_target(identifier, 2)


async def test_mount_targets_are_found_by_each_of_three_names(house: House) -> None:
    identifier = await house.make()
    target = (await house.make_target(identifier))["MountTargetId"]
    access_point = (await house.make_access_point(identifier))["AccessPointArn"]
    for name in (
        {"FileSystemId": identifier},
        {"MountTargetId": target},
        {"AccessPointId": access_point},
    ):
        (found,) = (await _describe(house, **name))["MountTargets"]
        assert found["MountTargetId"] == target
    for names in ({}, {"FileSystemId": identifier, "MountTargetId": target}):
        with pytest.raises(AWSError, match="exactly one"):
            await _describe(house, **names)
    with pytest.raises(AWSError, match="MountTargetNotFound"):
        await _describe(house, MountTargetId="fsmt-00000000")
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await _describe(house, FileSystemId="fs-00000000")
    with pytest.raises(AWSError, match="AccessPointNotFound"):
        await _describe(house, AccessPointId="fsap-00000000")


async def test_pages_of_mount_targets(house: House) -> None:
    identifier = await house.make()
    made = {(await house.make_target(identifier, number))["MountTargetId"] for number in (1, 2)}
    first = await _describe(house, FileSystemId=identifier, MaxItems=1)
    second = await _describe(house, FileSystemId=identifier, MaxItems=1, Marker=first["NextMarker"])
    assert {page["MountTargets"][0]["MountTargetId"] for page in (first, second)} == made
    assert "NextMarker" not in second


async def test_modified_groups_reach_the_interface(house: House) -> None:
    created = await house.make_target(await house.make())
    given = {"MountTargetId": created["MountTargetId"], "SecurityGroups": ["sg-00000003"]}
    await house.efs.modify_mount_target_security_groups(call(), given)
    assert house.network.interfaces[created["NetworkInterfaceId"]].groups == ("sg-00000003",)
    assert await _groups(house, created) == ["sg-00000003"]
    await house.efs.modify_mount_target_security_groups(call(), {"MountTargetId": created["MountTargetId"]})
    assert await _groups(house, created) == [VPC_GROUP]


@pytest.mark.parametrize(
    ("target", "groups", "code"),
    [
        ("fsmt-00000000", ["sg-00000001"], "MountTargetNotFound"),
        (None, ["sg-77777777"], "SecurityGroupNotFound"),
        (None, [f"sg-{n:08x}" for n in range(1, 7)], "SecurityGroupLimitExceeded"),
    ],
)
async def test_groups_that_cannot_be(house: House, target: str | None, groups: list[str], code: str) -> None:
    created = await house.make_target(await house.make())
    given = {"MountTargetId": target or created["MountTargetId"], "SecurityGroups": groups}
    with pytest.raises(AWSError) as refused:
        await house.efs.modify_mount_target_security_groups(call(), given)
    assert refused.value.code == code
    assert await _groups(house, created) == [VPC_GROUP]


async def test_a_deleted_mount_target_gives_its_interface_back(house: House) -> None:
    identifier = await house.make()
    created = await house.make_target(identifier)
    await house.efs.delete_mount_target(call(), {"MountTargetId": created["MountTargetId"]})
    assert not house.network.interfaces
    with pytest.raises(AWSError, match="MountTargetNotFound"):
        await house.efs.delete_mount_target(call(), {"MountTargetId": created["MountTargetId"]})
    with pytest.raises(AWSError, match="MountTargetNotFound"):
        await _groups(house, created)
    await house.make_target(identifier, 3)


async def test_a_mount_target_whose_interface_stays_is_still_being_deleted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = await house.make()
    created = await house.make_target(identifier)

    async def refuse(*_: Any, **__: Any) -> None:
        raise AWSError("InvalidParameterValue", "in use")

    with monkeypatch.context() as patched:
        patched.setattr(house.network, "delete_interface", refuse)
        with pytest.raises(AWSError, match="DependencyTimeout"):
            await house.efs.delete_mount_target(call(), {"MountTargetId": created["MountTargetId"]})
    (described,) = (await _describe(house, FileSystemId=identifier))["MountTargets"]
    assert described["LifeCycleState"] == "deleting"
    with pytest.raises(AWSError, match="IncorrectMountTargetState"):
        await _groups(house, created)
    with pytest.raises(AWSError, match="IncorrectMountTargetState"):
        await house.efs.modify_mount_target_security_groups(
            call(), {"MountTargetId": created["MountTargetId"], "SecurityGroups": []}
        )


async def test_the_limit_of_groups_is_a_quota(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(security_groups=1), network=TinyNetwork()) as house:
        identifier = await house.make()
        with pytest.raises(AWSError, match="SecurityGroupLimitExceeded"):
            await house.make_target(identifier, SecurityGroups=["sg-00000001", "sg-00000002"])
        await house.make_target(identifier, SecurityGroups=["sg-00000001", "sg-00000001"])


async def _describe(house: House, **given: Any) -> dict[str, Any]:
    return await house.efs.describe_mount_targets(call(), given)


async def _groups(house: House, target: dict[str, Any]) -> list[str]:
    output = await house.efs.describe_mount_target_security_groups(
        call(), {"MountTargetId": target["MountTargetId"]}
    )
    return list(output["SecurityGroups"])
