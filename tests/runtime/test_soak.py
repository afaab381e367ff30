"""Mixed stress: functions that answer, fail, crash, hang, fill memory and are drained, at random, on shared files."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lambay.fsd import Fsd
from lambay.runtime import EnvironmentFailure, FileSystemMount
from lambay.settings import Settings

from .arrange import Bench, build
from .test_life import leftovers

SOURCE = """
    import os, time
    def handler(event, context):
        with open("/mnt/shared/log", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if event == "crash":
            os._exit(1)
        if event == "raise":
            raise ValueError
        if event == "hang":
            time.sleep(60)
        if event == "fork":
            for _ in range(20):
                if os.fork() == 0:
                    time.sleep(60)
        if event == "fill":
            held = bytearray(400 << 20)
        return event
    """
EVENTS = (
    "answer",
    "answer",
    "answer",
    "answer",
    "raise",
    "crash",
    "hang",
    "fork",
    "fill",
    "drain",
    "server",
    "fork server",
)


async def stress(bench: Bench, fsd: Fsd, seconds: float, seed: int) -> dict[str, int]:
    dice = random.Random(seed)
    backing = bench.directory / "fs"
    backing.mkdir()
    backing.chmod(0o777)
    mount = FileSystemMount("fs-1", "/mnt/shared", backing=backing)
    specs = [replace(bench.function(SOURCE), file_system=mount, timeout_s=1, memory_mb=256) for _ in range(4)]
    counts: dict[str, int] = {}
    until = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            spec, event = dice.choice(specs), dice.choice(EVENTS)
            if event == "drain":
                await bench.fleet.drain(spec.function_arn)
                continue
            if event == "server":
                hello = fsd.running
                if hello is not None and dice.random() < 0.1:
                    os.kill(hello.pid, 9)
                continue
            if event == "fork server":
                running = bench.fleet._fork_servers._running.values()
                if dice.random() < 0.1:
                    for task in running:
                        if task.done() and task.exception() is None:
                            task.result()._process.kill()
                continue
            try:
                outcome = await bench.invoke(spec, event)
                said = outcome.error_type or "answered"
            except EnvironmentFailure as failure:
                said = type(failure).__name__
            counts[f"{event} {said}"] = counts.get(f"{event} {said}", 0) + 1

    await asyncio.gather(*(client() for _ in range(6)))
    return counts


def resident_mb() -> float:
    """What this process, which is the server, has in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def run(tmp_path: Path, seconds: float) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    fsd = Fsd(Settings(data_dir=tmp_path / "data"))
    await fsd.start()
    bench = await build(tmp_path, file_server=fsd)
    tag = bench.settings.tag
    await bench.answer(bench.function("def handler(event, context): return event"))
    await bench.fleet.reset()
    await bench.fleet.settled()
    descriptors = len(os.listdir("/proc/self/fd"))
    held = resident_mb()

    counts = await stress(bench, fsd, seconds, seed)

    await bench.fleet.reset()
    await bench.fleet.settled()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 4
    # The event loop's and allocator's own reserves grow with the first thousands of invocations.
    assert resident_mb() < held + 96
    await bench.fleet.stop()
    await fsd.stop()
    assert leftovers(tag) == []
    print(dict(sorted(counts.items())))
    assert counts["answer answered"] > 0
    assert not {said for said in counts if said.startswith("answer ")} - {
        "answer answered",
        "answer FileSystemLost",
        "answer MountConnectivityFailure",
        # The fork server's death took its sandboxes along.
        "answer Runtime.ExitError",
        "answer SandboxFailure",
        # One second is not much beside all the others.
        "answer Sandbox.Timedout",
        # An open that the file server's death cut off.
        "answer OSError",
        "answer ConnectionAbortedError",
        "answer FileNotFoundError",
    }


async def test_a_short_stress_leaves_nothing(tmp_path: Path) -> None:
    await run(tmp_path, 8)


@pytest.mark.soak
async def test_a_long_stress_leaves_nothing(tmp_path: Path) -> None:
    """Half an hour, or as many seconds as LAMBAY_SOAK_SECONDS says."""
    await run(tmp_path, float(os.environ.get("LAMBAY_SOAK_SECONDS", "1800")))
