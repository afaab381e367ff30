"""What survives a stop, a crash in the middle, and a reset."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.fsd import Mount
from lambay.store import Store
from tests.efs.surroundings import ACCOUNT, REGION, TinyFileServer, TinyNetwork, call, opened


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    network = TinyNetwork()
    async with opened(tmp_path, network=network) as house:
        identifier = await house.make(Tags=[{"Key": "Name", "Value": "n"}], ThroughputMode="elastic")
        target = await house.make_target(identifier, SecurityGroups=["sg-00000002"])
        access_point = await house.make_access_point(
            identifier, ClientToken="t", PosixUser={"Uid": 1, "Gid": 2}
        )
        (house.backing(identifier) / "file").write_text("kept")
        before = await house.describe(identifier)
        interfaces = dict(network.interfaces)
    network.interfaces.clear()
    async with opened(tmp_path, network=network) as house:
        assert {**await house.describe(identifier), "SizeInBytes": 0} == {**before, "SizeInBytes": 0}
        assert (house.backing(identifier) / "file").read_text() == "kept"
        assert network.interfaces == interfaces
        assert house.fsd.volumes == {identifier: house.backing(identifier)}
        (found,) = (await house.efs.describe_access_points(call(), {}))["AccessPoints"]
        assert found == access_point | {"LifeCycleState": "available"}
        described = await house.efs.describe_mount_targets(call(), {"FileSystemId": identifier})
        assert described["MountTargets"] == [target | {"LifeCycleState": "available"}]
        with pytest.raises(AWSError, match="AccessPointAlreadyExists"):
            await house.make_access_point(identifier, ClientToken="t")


async def test_a_creation_cut_short_is_completed(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        identifier = await house.make()
        await house.efs._save(
            replace(house.efs._file_systems.get(f"{ACCOUNT}/{REGION}/{identifier}"), state="creating")
        )
        house.backing(identifier).rmdir()
    async with opened(tmp_path) as house:
        assert (await house.describe(identifier))["LifeCycleState"] == "available"
        assert house.backing(identifier).is_dir()


async def test_a_deletion_cut_short_is_completed(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        identifier = await house.make()
        (house.backing(identifier) / "file").touch()
        await house.efs._save(
            replace(house.efs._file_systems.get(f"{ACCOUNT}/{REGION}/{identifier}"), state="deleting")
        )
    async with opened(tmp_path) as house:
        await house.gone()
        assert not house.backing(identifier).exists()
        with pytest.raises(AWSError, match="FileSystemNotFound"):
            await house.describe(identifier)


async def test_files_that_were_being_removed_are_removed_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        deleted = tmp_path / "file-systems" / ".deleted"
        (deleted / "fs-0" / "directory").mkdir(parents=True)
    async with opened(tmp_path) as house:
        await house.gone()
        assert list(deleted.iterdir()) == []


async def test_a_missing_directory_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        identifier = await house.make()
        house.backing(identifier).rename(tmp_path / "elsewhere")
    async with opened(tmp_path) as house:
        assert (await house.describe(identifier))["LifeCycleState"] == "error"
        assert not house.backing(identifier).exists()
        with pytest.raises(AWSError, match="IncorrectFileSystemLifeCycleState"):
            await house.efs.mount_source(identifier, account=ACCOUNT, region=REGION)
    (tmp_path / "elsewhere").rename(house.backing(identifier))
    async with opened(tmp_path) as house:
        assert (await house.describe(identifier))["LifeCycleState"] == "available"


async def test_a_mount_target_that_was_never_acknowledged_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        identifier = await house.make()
        target = await house.make_target(identifier)
        record = house.efs._mount_targets.get(f"{ACCOUNT}/{REGION}/{target['MountTargetId']}")
        await house.efs._save(replace(record, state="creating", interface="", address=""))
    async with opened(tmp_path) as house:
        assert (await house.describe(identifier))["NumberOfMountTargets"] == 0


async def test_a_mount_target_without_its_subnet_is_in_error(tmp_path: Path) -> None:
    network = TinyNetwork()
    async with opened(tmp_path, network=network) as house:
        identifier = await house.make()
        await house.make_target(identifier)
    gone = network.subnets.pop("subnet-00000001")
    async with opened(tmp_path, network=network) as house:
        described = await house.efs.describe_mount_targets(call(), {"FileSystemId": identifier})
        assert described["MountTargets"][0]["LifeCycleState"] == "error"
    network.subnets[gone.id] = gone
    async with opened(tmp_path, network=network) as house:
        described = await house.efs.describe_mount_targets(call(), {"FileSystemId": identifier})
        assert described["MountTargets"][0]["LifeCycleState"] == "available"


async def test_a_write_that_fails_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as house:
        identifier = await house.make()

        async def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Store, "commit", full)
            with pytest.raises(OSError, match="space"):
                await house.make_access_point(identifier, ClientToken="t")
            with pytest.raises(OSError, match="space"):
                await house.make_target(identifier)
        assert (await house.describe(identifier))["NumberOfMountTargets"] == 0
        assert (await house.efs.describe_access_points(call(), {}))["AccessPoints"] == []
        await house.make_access_point(identifier, ClientToken="t")
        await house.make_target(identifier)


async def test_reset_empties_everything(tmp_path: Path) -> None:
    fsd, network = TinyFileServer(), TinyNetwork()
    async with opened(tmp_path, fsd=fsd, network=network) as house:
        identifiers = [await house.make() for _ in range(3)]
        await house.make_target(identifiers[0])
        await house.make_access_point(identifiers[0], ClientToken="t")
        await house.efs.create_replication_configuration(
            call(), {"SourceFileSystemId": identifiers[1], "Destinations": [{"Region": REGION}]}
        )
        await fsd.mount(Mount(mount="m-1", volume=identifiers[0], mountpoint="/nowhere"))
        (house.backing(identifiers[0]) / "file").touch()
        await house.efs.reset()
        assert (await house.efs.describe_file_systems(call(), {}))["FileSystems"] == []
        assert (fsd.volumes, fsd.mounts, network.interfaces) == ({}, {}, {})
        await house.gone()
        assert [path.name for path in (tmp_path / "file-systems").rglob("*")] == [".deleted"]
        again = await house.make()
        await house.make_access_point(again, ClientToken="t")
    async with opened(tmp_path, fsd=fsd, network=network) as house:
        assert list(fsd.volumes) == [again]


async def test_deletions_under_way_do_not_disturb_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        identifiers = [await house.make() for _ in range(10)]
        for identifier in identifiers:
            for number in range(50):
                (house.backing(identifier) / str(number)).touch()
        await asyncio.gather(
            *(house.efs.delete_file_system(call(), {"FileSystemId": each}) for each in identifiers)
        )
        await house.gone()
        assert [path.name for path in (tmp_path / "file-systems").rglob("*")] == [".deleted"]
