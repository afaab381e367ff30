"""Hours in minutes: API updates, invocations, kills and restarts, then nothing is left and memory is steady."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.arrange import PATIENCE, Lambay, control_groups
from tests.e2e.soak import Day, Owner
from tests.e2e.test_survival import leftovers

KEEPER = "keeper"


@dataclass(frozen=True)
class Held:
    """What the server has while no function is there."""

    process: int
    descriptors: int
    resident_mb: float
    mounts: int
    groups: int
    links: int

    @classmethod
    def by(cls, day: Day) -> Held:
        process = day.server.process.pid
        status = Path(f"/proc/{process}/status").read_text()
        mounts = Path("/proc/self/mounts").read_text()
        groups = {path.name for path in control_groups(day.tag) if path.name.startswith("slot-")}
        return cls(
            process=process,
            descriptors=len(os.listdir(f"/proc/{process}/fd")),
            resident_mb=int(status.partition("VmRSS:")[2].split()[0]) / 1024,
            mounts=mounts.count(f"/run/lambay/{day.tag}/"),
            groups=len(groups),
            links=day.status()["network"]["links"],
        )


def quiet(day: Day) -> Held:
    """Every function deleted and every environment gone, once what was queued has been written."""
    client = day.server.boto("lambda")
    for function in client.list_functions()["Functions"]:
        if function["FunctionName"] != KEEPER:
            client.delete_function(FunctionName=function["FunctionName"])
    # A failed event waits a minute for its second try.
    until(lambda: written(day) or day.advance(60))
    client.delete_function(FunctionName=KEEPER)
    until(lambda: day.status()["environments"]["environments"] == {})
    until(lambda: list((day.server.data_dir / "code").glob("[0-9a-f]*")) == [])
    # Spare sandboxes are made anew behind those that were used.
    until(lambda: day.status()["environments"]["ready_slots"] == Held.by(day).groups)
    return Held.by(day)


def written(day: Day) -> bool:
    """Whether the shared file has every line that was acknowledged."""
    [log] = (day.server.data_dir / "file-systems").glob("fs-*/data/log")
    return set(day.lines) <= set(log.read_text().splitlines())


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 4 * PATIENCE
    while not true():
        assert time.monotonic() < deadline, true
        time.sleep(0.1)


def spend(day: Day, seconds: float, disturb: Sequence[Callable[[], None]] = (), every: float = 1.0) -> None:
    """Owners at work for that long, disturbed now and then."""
    day.over.clear()
    day.created(day.server.boto("lambda"), KEEPER, 0, Timeout=30, MemorySize=256)
    owners = [Owner(day, number, KEEPER) for number in range(4)]
    for owner in owners:
        owner.start()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not day.faults:
        day.over.wait(min(left, day.dice.uniform(0.5, 1.5) * every))
        if disturb:
            day.dice.choice(disturb)()
    day.over.set()
    for owner in owners:
        owner.join()


def on_the_host(tag: str) -> list[str]:
    """Links and tables of an instance in the host's network namespace."""
    links = [name for name in os.listdir("/sys/class/net") if name.startswith(f"lby{tag}"[:15])]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return links + [line for line in tables.splitlines() if tag in line]


def marked(tag: str) -> list[str]:
    """Processes that are in an instance's control groups or have its mounts."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if "State:\tZ" in (process / "status").read_text() or int(process.name) == os.getpid():
                continue
            if tag in (process / "cgroup").read_text() + (process / "mountinfo").read_text():
                found.append(f"{process.name} {(process / 'cmdline').read_text()}")
    return found


@pytest.mark.soak
def test_a_hard_day_leaves_nothing(tmp_path: Path) -> None:
    """Half an hour, or as many seconds as LAMBAY_SOAK_SECONDS says."""
    seconds = float(os.environ.get("LAMBAY_SOAK_SECONDS", "1800"))
    seed = int(os.environ.get("LAMBAY_SOAK_SEED", random.randrange(1 << 32)))
    print("seed", seed)
    server = Lambay(tmp_path / "data")
    try:
        day = Day(server, seed)
        spend(day, seconds * 0.1)
        assert day.faults == []
        before = quiet(day)
        print(before)

        spend(day, seconds * 0.35)
        assert day.faults == []
        calm = quiet(day)
        print(calm)
        spend(
            day,
            seconds * 0.3,
            [*[day.kill_an_environment] * 8, day.kill_the_file_server, day.kill_a_fork_server],
            every=2,
        )
        assert day.faults == []
        rough = quiet(day)
        print(rough, dict(day.counts))

        for after in (calm, rough):
            assert after.process == before.process
            assert after.descriptors <= before.descriptors + 8
            assert after.mounts == before.mounts
            assert after.links == before.links
            assert after.resident_mb < before.resident_mb + 96

        spend(day, seconds * 0.25, [day.kill_an_environment, day.restart], every=10)
        assert day.faults == []
        print(quiet(day), dict(day.counts))
        assert server.stop() == 0
        assert leftovers(server.data_dir) == []
        assert marked(day.tag) == []
        assert on_the_host(day.tag) == []
    finally:
        if server.process.poll() is None:
            server.stop()
