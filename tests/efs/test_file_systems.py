import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.efs import Limits
from lambay.fsd import Mount
from tests.efs.surroundings import ACCOUNT, KEY, REGION, House, call, opened


async def test_a_new_file_system_is_an_empty_directory(house: House) -> None:
    created = await house.efs.create_file_system(call(), {"CreationToken": "t"})
    assert created["LifeCycleState"] == "creating"
    backing = house.backing(created["FileSystemId"])
    assert (list(backing.iterdir()), backing.stat().st_mode & 0o777) == ([], 0o755)
    assert house.fsd.volumes == {created["FileSystemId"]: backing}


async def test_a_described_file_system_has_all_its_members(house: House) -> None:
    tags = [{"Key": "Name", "Value": "models"}, {"Key": "team", "Value": "search"}]
    identifier = await house.make(CreationToken="t", Tags=tags)
    described = await house.describe(identifier)
    times = [described.pop("CreationTime"), described["SizeInBytes"].pop("Timestamp")]
    assert all(
        abs(time - house.clock.now()) < timedelta(seconds=5) and not time.microsecond for time in times
    )
    assert described == {
        "OwnerId": ACCOUNT,
        "CreationToken": "t",
        "FileSystemId": identifier,
        "FileSystemArn": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/{identifier}",
        "LifeCycleState": "available",
        "Name": "models",
        "NumberOfMountTargets": 0,
        "SizeInBytes": {"Value": 6144, "ValueInIA": 0, "ValueInStandard": 6144, "ValueInArchive": 0},
        "PerformanceMode": "generalPurpose",
        "Encrypted": False,
        "ThroughputMode": "bursting",
        "Tags": tags,
        "FileSystemProtection": {"ReplicationOverwriteProtection": "ENABLED"},
    }


async def test_the_size_is_metered_as_efs_does(house: House) -> None:
    identifier = await house.make()
    (house.backing(identifier) / "a").write_bytes(b"x" * 5000)
    house.efs._sizes.forget(identifier)
    assert (await house.describe(identifier))["SizeInBytes"]["Value"] == 6144 + 8192 + 2048


async def test_a_dear_measurement_is_used_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = await house.make()
    asked = 0
    usage = house.fsd.usage

    async def slow(volume: str) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return await usage(volume)

    monkeypatch.setattr(house.fsd, "usage", slow)
    house.efs._sizes.forget(identifier)
    sizes = await asyncio.gather(*(house.describe(identifier) for _ in range(5)))
    await house.describe(identifier)
    assert (asked, {size["SizeInBytes"]["Value"] for size in sizes}) == (1, {6144})


async def test_without_its_file_server_a_file_system_tells_its_last_size(house: House) -> None:
    identifier = await house.make()
    await house.describe(identifier)
    house.fsd.broken = True
    assert (await house.describe(identifier))["SizeInBytes"]["Value"] == 6144


async def test_the_same_token_finds_the_existing_file_system(house: House) -> None:
    identifier = await house.make(CreationToken="t")
    with pytest.raises(AWSError, match="FileSystemAlreadyExists") as refused:
        await house.make(CreationToken="t")
    assert refused.value.members["FileSystemId"] == identifier
    await house.efs.create_file_system(call(region="us-east-1"), {"CreationToken": "t"})
    await house.efs.create_file_system(call(account="444455556666"), {"CreationToken": "t"})


async def test_of_many_requests_with_one_token_one_creates(house: House) -> None:
    outcomes = await asyncio.gather(
        *(house.make(CreationToken="t", Encrypted=True) for _ in range(8)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AWSError"] * 7 + ["str"]
    assert len(house.fsd.volumes) == 1


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"ThroughputMode": "provisioned"}, "BadRequest", "is required"),
        ({"ProvisionedThroughputInMibps": 10.0}, "BadRequest", "not bursting"),
        (
            {"ThroughputMode": "provisioned", "ProvisionedThroughputInMibps": 3415.0},
            "ThroughputLimitExceeded",
            "3414",
        ),
        ({"ThroughputMode": "elastic", "PerformanceMode": "maxIO"}, "BadRequest", "maxIO"),
        ({"AvailabilityZoneName": "eu-west-1a", "PerformanceMode": "maxIO"}, "BadRequest", "One Zone"),
        ({"AvailabilityZoneName": "us-east-1a"}, "UnsupportedAvailabilityZone", "us-east-1a"),
        ({"KmsKeyId": KEY}, "BadRequest", "Encrypted"),
        ({"Encrypted": True, "KmsKeyId": "alias/nobody"}, "BadRequest", "alias/nobody"),
        ({"Encrypted": True, "KmsKeyId": "alias/disabled"}, "BadRequest", "Disabled"),
        ({"Encrypted": True, "KmsKeyId": "alias/asymmetric"}, "BadRequest", "symmetric"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "BadRequest", "twice"),
        ({"Tags": [{"Key": "aws:a", "Value": "1"}]}, "BadRequest", "reserved"),
        ({"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}, "BadRequest", "50"),
    ],
)
async def test_what_cannot_be_created(house: House, given: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(AWSError, match=says) as refused:
        await house.make(**given)
    assert refused.value.code == code
    assert not house.fsd.volumes


@pytest.mark.parametrize("given", [{}, {"KmsKeyId": KEY}, {"KmsKeyId": "alias/aws/elasticfilesystem"}])
async def test_encryption_names_a_real_key(house: House, given: dict[str, Any]) -> None:
    described = await house.describe(await house.make(Encrypted=True, **given))
    assert (described["Encrypted"], described["KmsKeyId"]) == (True, KEY)


async def test_a_one_zone_file_system_knows_its_zone_and_is_backed_up(house: House) -> None:
    identifier = await house.make(AvailabilityZoneName="eu-west-1b")
    described = await house.describe(identifier)
    assert (described["AvailabilityZoneName"], described["AvailabilityZoneId"]) == ("eu-west-1b", "euw1-az2")
    backup = await house.efs.describe_backup_policy(call(), {"FileSystemId": identifier})
    assert backup == {"BackupPolicy": {"Status": "ENABLED"}}


async def test_a_creation_that_fails_leaves_nothing(house: House) -> None:
    house.fsd.broken = True
    with pytest.raises(AWSError, match="InternalServerError"):
        await house.make(CreationToken="t")
    house.fsd.broken = False
    await house.make(CreationToken="t")


async def test_the_limit_of_file_systems(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(file_systems=2)) as house:
        await house.make()
        await house.make()
        with pytest.raises(AWSError, match="FileSystemLimitExceeded"):
            await house.make()
        await house.efs.create_file_system(call(account="444455556666"), {"CreationToken": "t"})


@pytest.mark.parametrize(
    "identifier",
    ["fs-00000000", "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-0123456789abcdef0"],
)
async def test_what_does_not_exist_is_not_found(house: House, identifier: str) -> None:
    with pytest.raises(AWSError, match=f"FileSystemNotFound: File system '{identifier}' does not exist"):
        await house.describe(identifier)
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await house.efs.delete_file_system(call(), {"FileSystemId": identifier})


async def test_an_account_sees_its_own_file_systems_only(house: House) -> None:
    identifier = await house.make()
    assert (await house.efs.describe_file_systems(call("444455556666"), {}))["FileSystems"] == []
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await house.efs.describe_file_systems(call("444455556666"), {"FileSystemId": identifier})


async def test_a_file_system_is_found_by_arn_and_by_token(house: House) -> None:
    identifier = await house.make(CreationToken="t")
    arn = (await house.describe(identifier))["FileSystemArn"]
    assert (await house.describe(arn))["FileSystemId"] == identifier
    found = await house.efs.describe_file_systems(call(), {"CreationToken": "t"})
    assert found["FileSystems"][0]["FileSystemId"] == identifier
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await house.efs.describe_file_systems(call(), {"CreationToken": "other"})
    with pytest.raises(AWSError, match="mutually exclusive"):
        await house.efs.describe_file_systems(call(), {"CreationToken": "t", "FileSystemId": identifier})


async def test_pages_hold_every_file_system_once_though_the_list_changes(house: House) -> None:
    made = {await house.make() for _ in range(7)}
    seen: list[str] = []
    asked: dict[str, Any] = {"MaxItems": 3}
    while True:
        output = await house.efs.describe_file_systems(call(), asked)
        assert output.get("Marker") == asked.get("Marker")
        seen += [each["FileSystemId"] for each in output["FileSystems"]]
        await house.efs.delete_file_system(call(), {"FileSystemId": seen[0]})
        if "NextMarker" not in output:
            break
        asked["Marker"] = output["NextMarker"]
    assert (set(seen), len(seen)) == (made, 7)
    with pytest.raises(AWSError, match="BadRequest"):
        await house.efs.describe_file_systems(call(), {"Marker": "not ours!"})


async def test_deletion_removes_the_files_for_real(house: House) -> None:
    identifier = await house.make(CreationToken="t")
    await asyncio.to_thread(_make_deep, house.backing(identifier), 1200)
    await house.make_access_point(identifier)
    await house.efs.delete_file_system(call(), {"FileSystemId": identifier})
    assert (await house.describe(identifier))["LifeCycleState"] == "deleting"
    await house.efs.delete_file_system(call(), {"FileSystemId": identifier})
    await house.gone()
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await house.describe(identifier)
    assert list((house.settings.data_dir / "file-systems").rglob("*/*")) == []
    assert not house.fsd.volumes
    assert (await house.efs.describe_access_points(call(), {}))["AccessPoints"] == []
    await house.make(CreationToken="t")


def _make_deep(path: Path, depth: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


async def test_a_deletion_severs_the_clients(house: House) -> None:
    identifier = await house.make()
    await house.fsd.mount(Mount(mount="m-1", volume=identifier, mountpoint="/nowhere"))
    await house.efs.delete_file_system(call(), {"FileSystemId": identifier})
    await house.gone()
    assert (house.fsd.mounts, house.fsd.volumes) == ({}, {})


async def test_a_file_system_with_mount_targets_is_in_use(house: House) -> None:
    identifier = await house.make()
    target = await house.make_target(identifier)
    with pytest.raises(AWSError, match="FileSystemInUse"):
        await house.efs.delete_file_system(call(), {"FileSystemId": identifier})
    await house.efs.delete_mount_target(call(), {"MountTargetId": target["MountTargetId"]})
    await house.efs.delete_file_system(call(), {"FileSystemId": identifier})


async def update(house: House, identifier: str, **given: Any) -> dict[str, Any]:
    return await house.efs.update_file_system(call(), {"FileSystemId": identifier, **given})


async def test_throughput_changes_live(house: House) -> None:
    identifier = await house.make()
    updated = await update(house, identifier, ThroughputMode="provisioned", ProvisionedThroughputInMibps=64.0)
    assert updated["LifeCycleState"] == "updating"
    described = await house.describe(identifier)
    assert (described["ThroughputMode"], described["ProvisionedThroughputInMibps"]) == ("provisioned", 64.0)
    assert described["LifeCycleState"] == "available"


@pytest.mark.parametrize(
    "restricted",
    [
        {"ThroughputMode": "elastic"},
        {"ThroughputMode": "bursting"},
        {"ProvisionedThroughputInMibps": 63.0},
    ],
)
async def test_leaving_or_decreasing_provisioned_throughput_waits_24_hours(
    house: House, restricted: dict[str, Any]
) -> None:
    identifier = await house.make()
    await update(house, identifier, ThroughputMode="provisioned", ProvisionedThroughputInMibps=32.0)
    await update(house, identifier, ProvisionedThroughputInMibps=64.0)
    house.clock.advance(timedelta(hours=23, minutes=59))
    with pytest.raises(AWSError, match="TooManyRequests"):
        await update(house, identifier, **restricted)
    house.clock.advance(timedelta(minutes=2))
    await update(house, identifier, **restricted)
    described = await house.describe(identifier)
    assert all(described[name] == value for name, value in restricted.items())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "BadRequest"),
        ({"ThroughputMode": "bursting"}, "BadRequest"),
        ({"ThroughputMode": "provisioned"}, "BadRequest"),
        ({"ProvisionedThroughputInMibps": 2.0}, "BadRequest"),
        ({"ThroughputMode": "elastic", "ProvisionedThroughputInMibps": 2.0}, "BadRequest"),
        (
            {"ThroughputMode": "provisioned", "ProvisionedThroughputInMibps": 4000.0},
            "ThroughputLimitExceeded",
        ),
    ],
)
async def test_throughput_that_cannot_be(house: House, given: dict[str, Any], code: str) -> None:
    identifier = await house.make()
    with pytest.raises(AWSError) as refused:
        await update(house, identifier, **given)
    assert refused.value.code == code


async def test_max_io_cannot_become_elastic(house: House) -> None:
    with pytest.raises(AWSError, match="maxIO"):
        await update(house, await house.make(PerformanceMode="maxIO"), ThroughputMode="elastic")


async def test_archive_keeps_a_file_system_elastic(house: House) -> None:
    identifier = await house.make(ThroughputMode="elastic")
    policies = [{"TransitionToArchive": "AFTER_90_DAYS"}]
    await house.efs.put_lifecycle_configuration(
        call(), {"FileSystemId": identifier, "LifecyclePolicies": policies}
    )
    with pytest.raises(AWSError, match="Archive"):
        await update(house, identifier, ThroughputMode="bursting")


async def test_protection_is_switched(house: House) -> None:
    identifier = await house.make()
    for wanted in ("DISABLED", "ENABLED"):
        given = {"FileSystemId": identifier, "ReplicationOverwriteProtection": wanted}
        assert await house.efs.update_file_system_protection(call(), given) == {
            "ReplicationOverwriteProtection": wanted
        }
        assert (await house.describe(identifier))["FileSystemProtection"] == {
            "ReplicationOverwriteProtection": wanted
        }
    with pytest.raises(AWSError, match="BadRequest"):
        await house.efs.update_file_system_protection(
            call(), {"FileSystemId": identifier, "ReplicationOverwriteProtection": "REPLICATING"}
        )


async def test_a_file_system_that_is_being_deleted_takes_no_changes(house: House) -> None:
    identifier = await house.make()
    await house.efs.delete_file_system(call(), {"FileSystemId": identifier})
    policy = {"LifecyclePolicies": []}
    for change in (
        update(house, identifier, ThroughputMode="elastic"),
        house.make_target(identifier),
        house.make_access_point(identifier),
        house.efs.put_lifecycle_configuration(call(), {"FileSystemId": identifier, **policy}),
    ):
        with pytest.raises(AWSError, match="IncorrectFileSystemLifeCycleState"):
            await change
