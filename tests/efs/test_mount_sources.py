import pytest

from lambay.aws import AWSError
from lambay.efs import MountSource
from lambay.fsd import Create, PosixIdentity
from tests.efs.surroundings import ACCOUNT, REGION, House, call

HERE = {"account": ACCOUNT, "region": REGION}


async def test_a_source_is_what_fsd_needs(house: House) -> None:
    identifier = await house.make()
    await house.make_target(identifier, 1)
    await house.make_target(identifier, 2, SecurityGroups=["sg-00000001"])
    access_point = await house.make_access_point(
        identifier,
        PosixUser={"Uid": 1001, "Gid": 1002, "SecondaryGids": [7]},
        RootDirectory={
            "Path": "/models",
            "CreationInfo": {"OwnerUid": 1, "OwnerGid": 2, "Permissions": "0750"},
        },
    )
    source = await house.efs.mount_source(access_point["AccessPointArn"], **HERE)
    assert (source.volume, source.root, source.read_only) == (identifier, "/models", False)
    assert source.create == Create(1, 2, 0o750)
    assert source.posix == PosixIdentity(1001, 1002, (7,))
    assert source.backing == house.backing(identifier)
    assert source.access_point == access_point["AccessPointId"]
    assert set(source.mount_targets) == {"eu-west-1a", "eu-west-1b"}
    assert source.mount_targets["eu-west-1b"].address == "10.0.2.4"
    assert source.mount_targets["eu-west-1b"].security_groups == ("sg-00000001",)


async def test_a_whole_file_system_is_a_source_without_an_identity(house: House) -> None:
    identifier = await house.make()
    source = await house.efs.mount_source(identifier, **HERE)
    assert (source.root, source.create, source.posix, source.access_point) == ("/", None, None, None)


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        ("fs-00000000", "FileSystemNotFound"),
        ("fsap-00000000", "AccessPointNotFound"),
        ("arn:nonsense", "AccessPointNotFound"),
        (f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-00000000", "AccessPointNotFound"),
    ],
)
async def test_sources_that_do_not_exist(house: House, identifier: str, code: str) -> None:
    with pytest.raises(AWSError) as refused:
        await house.efs.mount_source(identifier, **HERE)
    assert refused.value.code == code


async def test_a_function_needs_a_mount_target_in_each_of_its_zones(house: House) -> None:
    identifier = await house.make()
    arn = (await house.make_access_point(identifier))["AccessPointArn"]
    target = await house.make_target(identifier, 1)
    await house.efs.check_function_zones(arn, ["eu-west-1a"], **HERE)
    with pytest.raises(AWSError, match="does not have mount targets created in all availability") as refused:
        await house.efs.check_function_zones(arn, ["eu-west-1a", "eu-west-1b"], **HERE)
    assert refused.value.code == "InvalidParameterValueException"
    assert identifier in refused.value.message
    assert arn in refused.value.message
    await house.efs.delete_mount_target(call(), {"MountTargetId": target["MountTargetId"]})
    with pytest.raises(AWSError, match="does not have mount targets"):
        await house.efs.check_function_zones(arn, ["eu-west-1a"], **HERE)


async def test_a_mount_target_that_is_not_available_yet_is_told_apart(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = await house.make()
    arn = (await house.make_access_point(identifier))["AccessPointArn"]
    create = house.network.create_interface
    told: list[str] = []

    async def create_and_check(*given: object, **named: object) -> object:
        with pytest.raises(AWSError) as refused:
            await house.efs.check_function_zones(arn, ["eu-west-1a"], **HERE)
        told.append(refused.value.message)
        return await create(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(house.network, "create_interface", create_and_check)
    await house.make_target(identifier)
    assert "not all are in the available life cycle state yet" in told[0]


async def test_an_access_point_that_is_not_there_is_an_invalid_parameter(house: House) -> None:
    arn = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-00000000"
    with pytest.raises(AWSError, match=r"InvalidParameterValueException: .*fsap-00000000"):
        await house.efs.check_function_zones(arn, ["eu-west-1a"], **HERE)


async def test_what_is_told_follows_every_change(house: House) -> None:
    identifier = await house.make()
    access_point = (await house.make_access_point(identifier))["AccessPointId"]

    async def told() -> MountSource:
        return await house.efs.mount_source(access_point, **HERE)

    assert (await told()).mount_targets == {}
    target = (await house.make_target(identifier))["MountTargetId"]
    assert (await told()).mount_targets["eu-west-1a"].state == "available"
    await house.efs.modify_mount_target_security_groups(
        call(), {"MountTargetId": target, "SecurityGroups": ["sg-00000003"]}
    )
    assert (await told()).mount_targets["eu-west-1a"].security_groups == ("sg-00000003",)
    await house.efs.delete_mount_target(call(), {"MountTargetId": target})
    assert (await told()).mount_targets == {}
    await house.efs.delete_access_point(call(), {"AccessPointId": access_point})
    with pytest.raises(AWSError, match="AccessPointNotFound"):
        await told()
