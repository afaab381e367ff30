"""Mounts on the host, with the real file server, and what its death does to them."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.efs import FileSystems
from lambay.efs.host_mounts import HostMounts
from lambay.fsd import Fsd
from lambay.http import Request
from lambay.settings import Settings
from lambay.store import Store
from tests.efs.surroundings import ACCOUNT, REGION, House, TinyNeighbours, TinyNetwork, call

ROOT = {"Path": "/models", "CreationInfo": {"OwnerUid": 1001, "OwnerGid": 1002, "Permissions": "0750"}}
POSIX = {"Uid": 1001, "Gid": 1002}


@dataclass
class Host:
    efs: FileSystems
    mounts: HostMounts
    fsd: Fsd
    settings: Settings
    directory: Path

    async def ask(self, method: str, path: str = "", **body: Any) -> Any:
        handler = {"POST": self.mounts.create, "GET": self.mounts.list, "DELETE": self.mounts.delete}[method]
        request = Request(method, f"/_lambay/mounts{path}", "", {}, json.dumps(body).encode())
        response = await handler(request)
        assert isinstance(response.body, bytes)
        return json.loads(response.body)

    async def mount(self, name: str, **body: Any) -> tuple[str, Path]:
        """The mount's id and its directory."""
        mountpoint = self.directory / name
        mountpoint.mkdir()
        made = await self.ask("POST", mountpoint=str(mountpoint), **body)
        assert made["mountpoint"] == str(mountpoint)
        return made["mount"], mountpoint

    async def make(self, **access_point: Any) -> tuple[str, str]:
        """A file system and an access point of it."""
        token = os.urandom(8).hex()
        created = await self.efs.create_file_system(call(), {"CreationToken": token})
        identifier = created["FileSystemId"]
        given = {"ClientToken": token, "FileSystemId": identifier, **access_point}
        return identifier, (await self.efs.create_access_point(call(), given))["AccessPointId"]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    settings = Settings(data_dir=tmp_path / "data", account="999999999999", region="us-east-1")
    settings.data_dir.mkdir()
    store = Store(settings.data_dir / "lambay.db")
    fsd = Fsd(settings)
    await fsd.start()
    efs = FileSystems(store, fsd, TinyNetwork(), TinyNeighbours(), settings, Clock())
    await efs.start()
    mounts = HostMounts(efs, fsd, settings)
    directory = tmp_path / "host"
    directory.mkdir()
    yield Host(efs, mounts, fsd, settings, directory)
    await mounts.stop()
    await efs.stop()
    await fsd.stop()
    store.close()
    assert not [path for path in directory.iterdir() if os.path.ismount(path)]


async def test_what_is_written_through_an_access_point_is_its_users(host: Host) -> None:
    identifier, access_point = await host.make(PosixUser=POSIX, RootDirectory=ROOT)
    _, through = await host.mount("a", access_point=access_point)
    _, whole = await host.mount("b", file_system=identifier)
    await asyncio.to_thread((through / "file").write_text, "words")
    seen = await asyncio.to_thread((whole / "models" / "file").stat)
    assert (seen.st_uid, seen.st_gid) == (1001, 1002)
    directory = await asyncio.to_thread((whole / "models").stat)
    assert (directory.st_uid, directory.st_gid, directory.st_mode & 0o777) == (1001, 1002, 0o750)
    assert await asyncio.to_thread((whole / "models" / "file").read_text) == "words"
    described = await host.efs.describe_file_systems(call(), {"FileSystemId": identifier})
    assert described["FileSystems"][0]["SizeInBytes"]["Value"] == 3 * 6144


async def test_a_file_system_is_mounted_as_root(host: Host) -> None:
    identifier, _ = await host.make()
    _, whole = await host.mount("a", file_system=identifier)
    await asyncio.to_thread((whole / "file").touch)
    assert (await asyncio.to_thread((whole / "file").stat)).st_uid == 0


async def test_a_read_only_mount_refuses_to_write(host: Host) -> None:
    identifier, _ = await host.make()
    _, whole = await host.mount("a", file_system=identifier, read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        await asyncio.to_thread((whole / "file").touch)


async def test_mounts_are_listed_and_deleted(host: Host) -> None:
    identifier, access_point = await host.make()
    first, at_first = await host.mount("a", access_point=access_point)
    second, _ = await host.mount("b", file_system=identifier, read_only=True)
    listed = (await host.ask("GET"))["mounts"]
    assert [(each["mount"], each["access_point"], each["read_only"]) for each in listed] == [
        (first, access_point, False),
        (second, None, True),
    ]
    assert (await host.ask("DELETE", f"/{first}"))["mountpoint"] == str(at_first)
    assert not os.path.ismount(at_first)
    assert [each["mount"] for each in (await host.ask("GET"))["mounts"]] == [second]
    with pytest.raises(AWSError, match="no mount") as refused:
        await host.ask("DELETE", f"/{first}")
    assert refused.value.status == 404


async def test_an_access_point_without_its_root_says_so(host: Host) -> None:
    _, access_point = await host.make(RootDirectory={"Path": "/absent"})
    with pytest.raises(AWSError, match="/absent does not exist") as refused:
        await host.mount("a", access_point=access_point)
    assert refused.value.status == 409
    assert (await host.ask("GET"))["mounts"] == []


async def test_mountpoints_that_cannot_be(host: Host) -> None:
    identifier, _ = await host.make()
    _, taken = await host.mount("a", file_system=identifier)
    (host.directory / "file").touch()
    for mountpoint, says in (
        ("relative", "absolute"),
        (str(host.directory / "absent"), "not a directory"),
        (str(host.directory / "file"), "not a directory"),
        (str(taken), "already"),
        ("/", "cover"),
        (str(host.settings.data_dir / "file-systems"), "cover"),
    ):
        with pytest.raises(AWSError, match=says):
            await host.ask("POST", mountpoint=mountpoint, file_system=identifier)


async def test_bodies_that_cannot_be(host: Host) -> None:
    mountpoint = str(host.directory)
    for body, says in (
        ({}, "mountpoint"),
        ({"mountpoint": mountpoint}, "one of"),
        ({"mountpoint": mountpoint, "file_system": "fs-1", "access_point": "fsap-1"}, "one of"),
        ({"mountpoint": mountpoint, "file_system": "fs-00000000"}, "does not exist"),
        ({"mountpoint": mountpoint, "access_point": "fsap-00000000"}, "does not exist"),
        ({"mountpoint": mountpoint, "filesystem": "fs-1"}, "filesystem"),
        ({"mountpoint": 4}, "mountpoint"),
    ):
        with pytest.raises(AWSError, match=says):
            await host.ask("POST", **body)


async def test_a_place_may_be_given_with_a_bare_id(host: Host) -> None:
    identifier, _ = await host.make()
    await host.mount("a", file_system=identifier, account=ACCOUNT, region=REGION)
    with pytest.raises(AWSError, match="does not exist"):
        await host.mount("b", file_system=identifier, region="eu-north-1")


async def test_stop_unmounts_and_allows_more(host: Host) -> None:
    identifier, _ = await host.make()
    _, mountpoint = await host.mount("a", file_system=identifier)
    await host.mounts.stop()
    assert not os.path.ismount(mountpoint)
    await host.mount("b", file_system=identifier)


async def test_after_the_death_of_the_file_server_nobody_hangs_and_mounts_are_back(host: Host) -> None:
    _, access_point = await host.make(PosixUser=POSIX, RootDirectory=ROOT)
    _, mountpoint = await host.mount("a", access_point=access_point)
    await asyncio.to_thread((mountpoint / "file").write_text, "kept")
    holder = await asyncio.create_subprocess_exec(
        "flock", str(mountpoint / "file"), "sh", "-c", "echo locked; cat", stdin=-1, stdout=-1
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    waiter = await asyncio.create_subprocess_exec("flock", str(mountpoint / "file"), "true", stderr=-1)
    os.kill((await host.fsd.hello()).pid, signal.SIGKILL)
    assert await asyncio.wait_for(waiter.wait(), 10) != 0
    await host.fsd.hello()
    await asyncio.gather(*host.mounts._remounts)
    assert await asyncio.to_thread((mountpoint / "file").read_text) == "kept"
    await asyncio.to_thread((mountpoint / "file").write_text, "and writable")
    assert holder.stdin is not None
    holder.stdin.close()
    await holder.wait()


async def test_after_a_crash_of_both_processes_the_next_start_unmounts(host: Host) -> None:
    identifier, _ = await host.make()
    _, mountpoint = await host.mount("a", file_system=identifier)
    # The supervisor is gone as after kill -9, and so is fsd; its mounts stay behind, dead.
    assert host.fsd._supervision is not None
    host.fsd._supervision.cancel()
    await asyncio.gather(host.fsd._supervision, return_exceptions=True)
    assert host.fsd._process is not None
    host.fsd._process.kill()
    await host.fsd._process.wait()
    assert os.path.ismount(mountpoint) or not os.path.exists(mountpoint)
    next_one = Fsd(host.settings)
    await next_one.start()
    assert list(mountpoint.iterdir()) == []
    assert not os.path.ismount(mountpoint)
    await next_one.stop()
    host.mounts._mounts.clear()
    host.fsd._supervision = None
    await host.fsd._end_process()


async def test_a_deleted_file_system_is_gone_from_the_host(host: Host) -> None:
    identifier, _ = await host.make()
    _, mountpoint = await host.mount("a", file_system=identifier)
    await asyncio.to_thread((mountpoint / "file").touch)
    await host.efs.delete_file_system(call(), {"FileSystemId": identifier})
    house = House(host.efs, None, None, None, None, host.settings)  # type: ignore[arg-type]
    await house.gone()
    assert list((host.settings.data_dir / "file-systems").rglob("*")) == [
        host.settings.data_dir / "file-systems" / ".deleted"
    ]
    assert not os.path.ismount(mountpoint)
