"""EFS's throughput modes on a mount: what is held back, for how long, and what it costs.

https://docs.aws.amazon.com/efs/latest/ug/performance.html
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Hire, Mount, Server, Volume, every_way

MIB = 1 << 20
GIB = 1 << 30
HOUR = 3600 * 10**9
BURSTING = {"mode": "bursting"}
ELASTIC = {"mode": "elastic"}


def provisioned(rate: int) -> dict[str, Any]:
    return {"mode": "provisioned", "bytes_per_second": rate}


def limit(fsd: Server, volume: Volume, throughput: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Data of files opened from now on goes through the server, so that it can be held back."""
    answer = fsd.call(
        "volume.limits",
        volume=volume.name,
        throughput=throughput,
        performance="general_purpose",
        passthrough=False,
        **fields,
    )
    report: dict[str, Any] = answer["limits"]
    return report


def report(fsd: Server, volume: Volume) -> dict[str, Any]:
    found: dict[str, Any] = fsd.call("stats")["volumes"][volume.name]["limits"]
    return found


def no_credits() -> dict[str, int]:
    return {"credit_bytes": 0, "credit_fraction": 0, "at": time.time_ns()}


def timed(act: Any, *arguments: Any) -> float:
    begun = time.monotonic()
    act(*arguments)
    return time.monotonic() - begun


@pytest.fixture
def mount(fsd: Server, volume: Volume) -> Mount:
    return fsd.mount(volume)


def test_provisioned_throughput_holds_writes_back(
    fsd: Server, volume: Volume, mount: Mount, actor: Hire
) -> None:
    limit(fsd, volume, provisioned(4 * MIB))
    a = actor()
    # 4 MiB at 4 MiB/s, of which a tenth of a second may be taken in advance.
    assert 0.85 < timed(a, "write_file", f"{mount.path}/f", bytes(4 * MIB)) < 5


def test_reads_count_a_third(fsd: Server, volume: Volume, mount: Mount, actor: Hire) -> None:
    (volume.backing / "f").write_bytes(bytes(6 * MIB))
    limit(fsd, volume, provisioned(2 * MIB))
    a = actor()
    assert 0.85 < timed(a, "read_file", f"{mount.path}/f") < 5


def test_without_credits_bursting_runs_at_its_baseline_until_time_has_earned_some(
    fsd: Server, volume: Volume, mount: Mount, actor: Hire
) -> None:
    found = limit(fsd, volume, BURSTING, ledger=no_credits(), standard_bytes=40 * GIB)
    assert found["permitted_throughput"] == 40 * 50 * 1024
    a = actor()
    # 2 MiB at a baseline of 1.95 MiB/s.
    assert 0.9 < timed(a, "write_file", f"{mount.path}/f", bytes(2 * MIB)) < 5
    fsd.call("clock", now=time.time_ns() + HOUR)
    found = report(fsd, volume)
    assert found["permitted_throughput"] == 100 * MIB
    assert 3500 * 2_048_000 < found["burst_credit_balance"] < 3700 * 2_048_000
    assert timed(a, "write_file", f"{mount.path}/f", bytes(2 * MIB)) < 0.9


def test_credits_are_spent_by_what_is_metered(fsd: Server, volume: Volume, mount: Mount, actor: Hire) -> None:
    (volume.backing / "f").write_bytes(bytes(30 * MIB))
    a = actor()
    limit(fsd, volume, BURSTING)
    before = report(fsd, volume)["burst_credit_balance"]
    # A new file system is full of credits, and what is over the cap is lost: make room for what is earned meanwhile.
    a("write_file", f"{mount.path}/g", bytes(20 * MIB))
    between = report(fsd, volume)["burst_credit_balance"]
    assert 15 * MIB < before - between < 22 * MIB
    a("read_file", f"{mount.path}/f")
    assert 5 * MIB < between - report(fsd, volume)["burst_credit_balance"] < 12 * MIB


def test_modes_switch_live(fsd: Server, volume: Volume, mount: Mount, actor: Hire) -> None:
    limit(fsd, volume, BURSTING, ledger=no_credits())
    limit(fsd, volume, ELASTIC)
    assert report(fsd, volume)["permitted_throughput"] is None
    a = actor()
    assert timed(a, "write_file", f"{mount.path}/f", bytes(4 * MIB)) < 2


def test_quotas_off_counts_and_holds_nothing_back(
    fsd: Server, volume: Volume, mount: Mount, actor: Hire
) -> None:
    limit(fsd, volume, BURSTING, ledger=no_credits(), enforce=False)
    a = actor()
    assert timed(a, "write_file", f"{mount.path}/f", bytes(8 * MIB)) < 2
    assert report(fsd, volume)["ledger"]["credit_bytes"] < -5 * MIB


def test_the_ledger_survives_a_restart_and_earns_while_nobody_serves(
    scratch: Path, fsd: Server, volume: Volume, mount: Mount, actor: Hire
) -> None:
    limit(fsd, volume, BURSTING, ledger=no_credits())
    ledger = report(fsd, volume)["ledger"]
    assert fsd.stop() == 0
    (scratch / "second").mkdir()
    again = Server(scratch / "second")
    again.volume(volume.backing, volume.name)
    again.call("clock", now=ledger["at"] + HOUR)
    found = limit(again, volume, BURSTING, ledger=ledger)
    assert 3600 * MIB <= found["burst_credit_balance"] < 3700 * MIB
    assert again.stop() == 0


@every_way
class TestHeldBack:
    """An operation that waits for its throughput."""

    @pytest.fixture
    def waiting(self, fsd: Server, volume: Volume, mount: Mount, actor: Hire) -> Any:
        """An actor whose write has a minute to wait."""
        limit(fsd, volume, BURSTING, ledger=no_credits())
        a = actor()
        fd = a("open_here", f"{mount.path}/f", os.O_RDWR | os.O_CREAT)
        pending = a.begin("os.pwrite", fd, bytes(60 * MIB), 0)
        # The first request is on its way once the server has metered it.
        while fsd.call("stats")["mounts"][mount.name]["write_bytes"] == 0:
            os.sched_yield()
        return a, pending

    def test_dies_when_it_is_killed(self, waiting: Any) -> None:
        a, pending = waiting
        assert not pending.done
        begun = time.monotonic()
        a.kill()
        assert time.monotonic() - begun < 20

    def test_ends_when_its_mount_goes(self, fsd: Server, mount: Mount, waiting: Any) -> None:
        """With an error, or short where a part of it was answered before."""
        _, pending = waiting
        fsd.unmount(mount)
        try:
            written = pending.result(20)
        except OSError:
            written = 0
        assert written < 60 * MIB

    def test_does_not_hold_up_other_file_systems(
        self, scratch: Path, fsd: Server, actor: Hire, waiting: Any
    ) -> None:
        other = fsd.mount(fsd.volume(scratch / "other"))
        a = actor()
        assert timed(a, "write_file", f"{other.path}/f", bytes(8 * MIB)) < 5
        assert not waiting[1].done
