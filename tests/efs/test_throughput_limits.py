"""Throughput modes held by the real file server, and credits kept over restarts and by the clock."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.clock import Clock
from lambay.efs import FileSystems
from lambay.fsd import Fsd, Mount, PosixIdentity
from lambay.settings import Settings
from lambay.store import Store
from tests.efs.surroundings import TinyNeighbours, TinyNetwork, call

MIB = 1 << 20


class Limited:
    def __init__(self, efs: FileSystems, fsd: Fsd, clock: Clock, directory: Path) -> None:
        self.efs, self.fsd, self.clock, self.directory = efs, fsd, clock, directory

    async def make(self, **given: Any) -> tuple[str, Path]:
        """A file system and where it is mounted."""
        created = await self.efs.create_file_system(call(), {"CreationToken": os.urandom(8).hex(), **given})
        return created["FileSystemId"], await self.mount(created["FileSystemId"])

    async def mount(self, volume: str) -> Path:
        mountpoint = self.directory / volume
        await self.fsd.unmount(volume)
        mountpoint.mkdir(exist_ok=True)
        await self.fsd.mount(
            Mount(mount=volume, volume=volume, mountpoint=str(mountpoint), posix=PosixIdentity(0, 0))
        )
        return mountpoint

    async def credits(self, volume: str) -> int:
        return int((await self.fsd.stats()).volumes[volume]["limits"]["burst_credit_balance"])


@asynccontextmanager
async def limited(directory: Path, *, quotas: bool = True) -> AsyncIterator[Limited]:
    settings = Settings(data_dir=directory / "data", quotas=quotas)
    settings.data_dir.mkdir(exist_ok=True)
    store, fsd, clock = Store(settings.data_dir / "lambay.db"), Fsd(settings), Clock()
    await fsd.start()
    efs = FileSystems(store, fsd, TinyNetwork(), TinyNeighbours(), settings, clock)
    await efs.start()
    (directory / "mounts").mkdir(exist_ok=True)
    try:
        yield Limited(efs, fsd, clock, directory / "mounts")
    finally:
        await efs.stop()
        await fsd.stop()
        store.close()


async def seconds_to_write(path: Path, mebibytes: int) -> float:
    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(mebibytes):
                file.write(b"x" * MIB)

    began = time.monotonic()
    await asyncio.to_thread(write)
    return time.monotonic() - began


async def test_provisioned_throughput_holds_and_switches_live(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, mountpoint = await house.make(ThroughputMode="provisioned", ProvisionedThroughputInMibps=1.0)
        assert await seconds_to_write(mountpoint / "slow", 4) > 2
        await house.efs.update_file_system(call(), {"FileSystemId": volume, "ThroughputMode": "elastic"})
        assert await seconds_to_write(mountpoint / "fast", 4) < 2


async def test_without_quotas_nothing_is_held_back(tmp_path: Path) -> None:
    async with limited(tmp_path, quotas=False) as house:
        volume, mountpoint = await house.make(ThroughputMode="provisioned", ProvisionedThroughputInMibps=1.0)
        assert await seconds_to_write(mountpoint / "file", 8) < 4
        assert (await house.fsd.stats()).volumes[volume]["limits"]["enforced"] is False
        notes = (await house.efs.summary())["file_systems"][0]["stored_not_enforced"]
        assert any("throughput" in note for note in notes)


async def test_without_quotas_credits_are_spent_all_the_same(tmp_path: Path) -> None:
    async with limited(tmp_path, quotas=False) as house:
        volume, mountpoint = await house.make()
        full = await house.credits(volume)
        await seconds_to_write(mountpoint / "file", 16)
        assert full - await house.credits(volume) > 8 * MIB


async def test_limits_hold_after_the_death_of_the_file_server(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, _ = await house.make(ThroughputMode="provisioned", ProvisionedThroughputInMibps=1.0)
        os.kill((await house.fsd.hello()).pid, signal.SIGKILL)
        await house.fsd.hello()
        assert await seconds_to_write(await house.mount(volume) / "slow", 4) > 2


async def test_credits_are_spent_kept_over_a_restart_and_earned_by_the_clock(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, mountpoint = await house.make()
        full = await house.credits(volume)
        await seconds_to_write(mountpoint / "file", 64)
        spent = full - await house.credits(volume)
        assert 48 * MIB < spent < 80 * MIB
        notes = (await house.efs.summary())["file_systems"][0]["stored_not_enforced"]
        assert notes == []
    async with limited(tmp_path) as house:
        left = await house.credits(volume)
        assert full - spent <= left < full - 16 * MIB
        house.clock.advance(timedelta(seconds=16))
        await house.efs._throughput.keep()
        assert 15 * MIB < await house.credits(volume) - left < 24 * MIB


async def test_credits_outlive_a_kill(tmp_path: Path) -> None:
    """What was spent by the last time it was written down, which is every minute."""
    async with limited(tmp_path) as house:
        volume, mountpoint = await house.make()
        full = await house.credits(volume)
        await seconds_to_write(mountpoint / "file", 64)
        await house.efs._throughput.keep()
        left = await house.credits(volume)
        assert left < full - 48 * MIB
        os.kill((await house.fsd.hello()).pid, signal.SIGKILL)
        await house.fsd.hello()
        assert await house.credits(volume) < full - 32 * MIB
        written = house.efs._throughput._ledgers.get(volume)
        assert written is not None
        assert written.credit_bytes < full - 48 * MIB


async def test_a_deleted_file_system_leaves_no_ledger(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, _ = await house.make()
        await house.efs._throughput.keep()
        assert len(house.efs._throughput._ledgers) == 1
        await house.efs.delete_file_system(call(), {"FileSystemId": volume})
        await asyncio.wait(house.efs._removals)
        await house.efs._throughput.keep()
        assert len(house.efs._throughput._ledgers) == 0


async def test_who_bypasses_a_file_system_that_leaves_elastic_mode_is_told(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        told: list[str] = []
        house.efs.on_bypass(told.extend)
        (volume, mountpoint), (other, elsewhere) = [
            await house.make(ThroughputMode="elastic") for _ in range(2)
        ]
        with (mountpoint / "file").open("wb"), (elsewhere / "file").open("wb"):
            await house.efs._throughput.keep()
            assert told == []
            update = {"FileSystemId": volume, "ThroughputMode": "bursting"}
            await house.efs.update_file_system(call(), update)
            assert told == [volume]
            # Until it is closed, for it might have been opened at the moment of the switch.
            await house.efs._throughput.keep()
            assert told == [volume, volume]
        told.clear()
        with (mountpoint / "file").open("wb"):
            await house.efs._throughput.keep()
        assert told == []
        assert other not in told


@pytest.mark.parametrize("mode", ["bursting", "elastic"])
async def test_only_elastic_files_bypass_the_server(tmp_path: Path, mode: str) -> None:
    async with limited(tmp_path) as house:
        _, mountpoint = await house.make(ThroughputMode=mode)
        with (mountpoint / "file").open("wb") as file:
            await asyncio.to_thread(file.write, b"x")
            bypassing = sum(mount["passthrough_files"] for mount in (await house.fsd.stats()).mounts.values())
        expected = mode == "elastic" and (await house.fsd.hello()).passthrough
        assert bypassing == int(expected)


async def test_credits_that_are_set_are_what_there_is(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, mountpoint = await house.make()
        began = time.monotonic()
        report = await house.efs.put_burst_credits(volume, 0)
        assert report.burst_credit_balance < 60 * MIB
        assert report.permitted_throughput == MIB
        await seconds_to_write(mountpoint / "slow", 4)
        # At the baseline of an empty file system, but for the tenth of a second that may be taken in advance.
        assert time.monotonic() - began > 3.5
        report = await house.efs.put_burst_credits(volume, 1 << 30)
        assert report.permitted_throughput == 100 * MIB
        await house.efs.put_burst_credits(volume, 0)
    async with limited(tmp_path) as house:
        assert (await house.efs.burst_credits(volume)).burst_credit_balance < 1 << 30


async def test_no_more_credits_than_a_file_system_may_have(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        volume, _ = await house.make()
        full = await house.credits(volume)
        assert (await house.efs.put_burst_credits(volume, 1 << 50)).burst_credit_balance == full


async def test_credits_of_a_file_system_that_is_not_there(tmp_path: Path) -> None:
    async with limited(tmp_path) as house:
        with pytest.raises(AWSError, match="FileSystemNotFound"):
            await house.efs.put_burst_credits("fs-0123456789abcdef0", 0)
