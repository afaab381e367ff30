"""Environments from their start to their end, and what they leave: nothing."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lambay.fsd import FsdError
from lambay.runtime import (
    Credentials,
    FileSystemLost,
    FileSystemMount,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
    RuntimeUnavailable,
    SandboxFailure,
)
from lambay.settings import Settings

from .arrange import Bench, build, invocation

ECHO = "def handler(event, context): return event"


def leftovers(tag: str) -> list[str]:
    """What of an instance is still on the machine."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [name for name in mounts if f"/run/lambay/{tag}" in name]
    # Others' control groups come and go meanwhile.
    found += [group for group, _, _ in os.walk("/sys/fs/cgroup") if f"lambay-{tag}" in group]
    found += map(str, Path(f"/run/lambay/{tag}").glob("*"))
    return [*found, *(f"process {process}" for process in processes(f"lambay-{tag}/"))]


def processes(mark: str, file: str = "cgroup") -> list[int]:
    """Those in whose file under /proc the mark stands, but for the dead that init has not collected yet."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            dead = "State:\tZ" in (process / "status").read_text()
            if not dead and mark in (process / file).read_text():
                found.append(int(process.name))
        except OSError:
            # It has just ended.
            continue
    return found


async def some_turns() -> None:
    """Whoever the clock has woken has done what is to be done."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_draining_ends_idle_environments_now_and_busy_ones_later(bench: Bench) -> None:
    spec = bench.function(ECHO)
    busy, idle = await bench.fleet.acquire(spec), await bench.fleet.acquire(spec)
    bench.fleet.release(idle)

    await bench.fleet.drain(spec.function_arn)

    outcome = await bench.fleet.invoke(busy, invocation(spec, 1))
    assert outcome.payload == b"1"
    assert bench.fleet.status().environments == {spec.key: 1}
    bench.fleet.release(busy)
    assert bench.fleet.status().environments == {}


async def test_idle_environments_end_after_a_while(bench: Bench) -> None:
    spec = bench.function(ECHO)
    await bench.answer(spec)
    await some_turns()

    bench.clock.advance(timedelta(seconds=bench.settings.idle_seconds - 60))
    await some_turns()
    before = bench.fleet.status().idle
    bench.clock.advance(timedelta(seconds=60))
    await some_turns()

    assert (before, bench.fleet.status().idle) == (1, 0)


async def test_an_idle_environment_is_frozen_and_thawed_for_its_next_event(bench: Bench) -> None:
    spec = bench.function(
        """
        import threading, time
        beats = 0
        def beat():
            global beats
            while True:
                time.sleep(0.005)
                beats += 1
        threading.Thread(target=beat, daemon=True).start()
        def handler(event, context):
            return beats
        """
    )

    before = await bench.answer(spec)
    await asyncio.sleep(0.5)
    after = await bench.answer(spec)

    assert after - before < 30


async def test_an_environment_is_replaced_when_its_credentials_end(bench: Bench) -> None:
    expiration = datetime.now(UTC) + timedelta(seconds=30)

    async def short(spec: object) -> Credentials:
        return Credentials("ASIA1", "secret", "token", expiration)

    bench.fleet._credentials = short
    spec = bench.function(ECHO)

    first, second = await bench.invoke(spec), await bench.invoke(spec)

    assert first.environment_id != second.environment_id


async def test_one_that_dies_between_invocations_is_replaced(bench: Bench) -> None:
    spec = bench.function(ECHO)
    environment = await bench.fleet.acquire(spec)
    bench.fleet.release(environment)
    slot = environment._slot
    assert slot is not None
    slot.kill()
    await slot.exited

    second = await bench.invoke(spec, 1)

    assert second.payload == b"1"
    assert second.environment_id != environment.id


async def test_layers_are_merged_the_later_over_the_earlier(bench: Bench) -> None:
    spec = bench.function(
        """
        import common, only_first, os
        def handler(event, context):
            return common.NAME, only_first.NAME, os.path.exists("/opt/lib")
        """
    )
    layers = []
    for name, modules in (("first", ("common", "only_first")), ("second", ("common",))):
        layer = bench.directory / name
        (layer / "python").mkdir(parents=True)
        for module in modules:
            (layer / "python" / f"{module}.py").write_text(f"NAME = {name!r}")
        layers.append(layer)

    assert (await bench.answer(replace(spec, layers=tuple(layers))))[:2] == ["second", "first"]
    assert (await bench.answer(replace(spec, key="one", layers=(layers[0],))))[:2] == ["first", "first"]


async def test_a_runtime_that_the_host_lacks_is_refused_with_the_remedy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"not supported here; these are: python3\.8"):
        await bench.fleet.acquire(bench.function(ECHO, runtime="cobol60"))
    monkeypatch.setattr("lambay.runtime.interpreters.find", lambda runtime: None)
    with pytest.raises(RuntimeUnavailable, match=r"run: .* -m lambay\.runtime\.packages python3\.14"):
        await bench.fleet.acquire(bench.function(ECHO, runtime="python3.14"))


async def test_code_that_is_gone_is_the_hosts_failure(bench: Bench) -> None:
    spec = bench.function(ECHO, code=bench.directory / "nowhere")

    with pytest.raises(SandboxFailure, match="nowhere"):
        await bench.fleet.acquire(spec)

    await bench.fleet.settled()
    assert bench.fleet.status().environments == {}


def with_file_system(bench: Bench, source: str, **changes: object) -> tuple[Path, object]:
    backing = bench.directory / "fs"
    backing.mkdir(exist_ok=True)
    backing.chmod(0o777)
    mount = FileSystemMount("fs-1", "/mnt/shared", backing=backing)
    return backing, replace(bench.function(source), file_system=mount, **changes)


async def test_a_file_system_is_there_before_the_handlers_module_is_imported(bench: Bench) -> None:
    backing, spec = with_file_system(
        bench,
        """
        import os
        FOUND = open("/mnt/shared/greeting").read()
        def handler(event, context):
            open("/mnt/shared/answer", "w").write("from the function")
            return FOUND, os.listdir("/mnt")
        """,
    )
    (backing / "greeting").write_text("hello")

    assert await bench.answer(spec) == ["hello", ["shared"]]
    assert (backing / "answer").read_text() == "from the function"


async def test_the_mount_ends_with_the_environment(bench: Bench) -> None:
    backing, spec = with_file_system(bench, ECHO)
    (backing / "kept").touch()

    await bench.answer(spec)
    held = len(bench.file_server.mounts)
    await bench.fleet.drain(spec.key)
    await bench.fleet.settled()

    assert (held, len(bench.file_server.mounts)) == (1, 0)
    assert (backing / "kept").exists()


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("RootDirectoryMissing", MountFailure),
        ("Timeout", MountTimeout),
        ("ServerDied", MountConnectivityFailure),
    ],
)
async def test_a_refused_mount_is_told_and_nothing_stays(
    bench: Bench, code: str, failure: type[Exception]
) -> None:
    _, spec = with_file_system(bench, ECHO)
    bench.file_server.refusal = FsdError(code, "no")

    with pytest.raises(failure):
        await bench.fleet.acquire(spec)
    bench.file_server.refusal = None

    assert await bench.answer(spec, 5) == 5


async def test_when_the_file_server_dies_its_environments_are_replaced(bench: Bench) -> None:
    _, spec = with_file_system(bench, "import time\ndef handler(event, context): time.sleep(event)")
    idle = await bench.fleet.acquire(spec)
    busy = await bench.fleet.acquire(spec)
    bench.fleet.release(idle)
    running = asyncio.create_task(bench.fleet.invoke(busy, invocation(spec, 60)))
    await asyncio.sleep(0.1)

    bench.file_server.die()

    with pytest.raises(FileSystemLost):
        await running
    bench.fleet.release(busy)
    assert bench.fleet.status().environments == {}
    outcome = await bench.invoke(spec, 0)
    assert outcome.error is None


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Those that are opened after this are above what select(2) can wait for."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, 4096), most))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1024)]
    yield
    for each in opened:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


@pytest.mark.usefixtures("many_descriptors")
async def test_hundreds_of_environments_end_like_one(tmp_path: Path) -> None:
    bench = await build(tmp_path, warm_slots=2)
    await bench.answer(bench.function(ECHO))

    await bench.fleet.stop()

    assert leftovers(bench.settings.tag) == []


async def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    bench = await build(tmp_path, warm_slots=2)
    _, spec = with_file_system(bench, ECHO)
    await bench.answer(spec)
    busy = await bench.fleet.acquire(bench.function("import time\ndef handler(*_): time.sleep(60)"))
    running = asyncio.create_task(bench.fleet.invoke(busy, invocation(spec)))
    await asyncio.sleep(0.05)
    descriptors = len(os.listdir("/proc/self/fd"))

    await bench.fleet.stop()

    outcome = await running
    assert json.loads(outcome.payload)["errorType"] == "Runtime.ExitError"
    assert leftovers(bench.settings.tag) == []
    assert len(os.listdir("/proc/self/fd")) < descriptors


async def test_descriptors_and_mounts_do_not_pile_up(bench: Bench) -> None:
    async def once() -> tuple[int, int]:
        _, spec = with_file_system(bench, ECHO)
        await bench.answer(spec)
        await bench.fleet.drain(spec.key)
        await bench.fleet.settled()
        mounts = Path("/proc/self/mountinfo").read_text().count(bench.settings.tag)
        return len(os.listdir("/proc/self/fd")), mounts

    await once()
    early = await once()
    for _ in range(5):
        late = await once()

    assert late == early


async def test_a_killed_instance_leaves_no_process_and_the_next_start_clears_the_rest(tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, pathlib, uvloop
        from tests.runtime.arrange import build, invocation
        async def main():
            bench = await build(pathlib.Path({str(tmp_path)!r}))
            spec = bench.function("import time\\ndef handler(*_): time.sleep(60)", timeout_s=100)
            environment = await bench.fleet.acquire(spec)
            task = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec)))
            await asyncio.sleep(0.05)
            print("running", flush=True)
            await task
        uvloop.run(main())
        """
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert victim.stdout is not None
    assert await victim.stdout.readline() == b"running\n"
    tag = Settings(data_dir=tmp_path / "data").tag
    its_own = processes(f"PPid:\t{victim.pid}\n", "status")
    sandboxed = [os.pidfd_open(process) for process in [*processes(f"lambay-{tag}/"), *its_own]]

    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    ended = [await asyncio.to_thread(_ends_within, 10, process) for process in sandboxed]
    bench = await build(tmp_path)
    answer = await bench.answer(bench.function(ECHO, key="again"), 1)
    await bench.fleet.stop()

    assert len(ended) > 3
    assert all(ended)
    assert answer == 1
    assert leftovers(tag) == []


def _ends_within(seconds: float, process: int) -> bool:
    ended = bool(select.select([process], [], [], seconds)[0])
    os.close(process)
    return ended


async def test_two_instances_run_side_by_side(tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "second").mkdir()
    other = await build(tmp_path / "second")
    source = "import os\ndef handler(event, context): return os.getuid()"

    here, there = await bench.answer(bench.function(source)), await other.answer(other.function(source))
    await other.fleet.stop()

    assert here != there
    assert await bench.answer(bench.function(source)) != here


async def test_draining_returns_when_the_file_system_is_free(bench: Bench) -> None:
    _, spec = with_file_system(bench, ECHO)
    await bench.answer(spec)

    await bench.fleet.drain(spec.function_arn)

    assert bench.file_server.mounts == {}


async def test_a_reset_ends_busy_environments_too(bench: Bench) -> None:
    spec = bench.function("import time\ndef handler(*_): time.sleep(60)")
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec)))
    await asyncio.sleep(0.05)

    await bench.fleet.reset()

    assert (await running).error == "Unhandled"
    bench.fleet.release(environment)
    assert bench.fleet.status().environments == {}


async def test_an_environment_whose_caller_went_away_gets_no_other_event(bench: Bench) -> None:
    spec = bench.function(
        "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event"
    )
    environment = await bench.fleet.acquire(spec)
    running = asyncio.create_task(bench.fleet.invoke(environment, invocation(spec, 1)))
    await asyncio.sleep(0.1)

    running.cancel()
    await asyncio.wait([running])
    bench.fleet.release(environment)

    assert await bench.answer(spec, 0) == 0
    assert environment.id not in (await bench.invoke(spec, 0)).environment_id


async def test_one_that_dies_between_being_lent_and_its_event_is_built_anew(bench: Bench) -> None:
    spec = bench.function("import os\ndef handler(event, context): return os.getpid()")
    environment = await bench.fleet.acquire(spec)
    slot = environment._slot
    assert slot is not None
    slot.kill()
    await slot.exited

    outcome = await bench.fleet.invoke(environment, invocation(spec))
    bench.fleet.release(environment)

    assert outcome.error is None
    assert (await bench.invoke(spec)).environment_id == outcome.environment_id


async def test_stopping_in_the_midst_of_cold_starts(tmp_path: Path) -> None:
    bench = await build(tmp_path, warm_slots=0)
    _, spec = with_file_system(bench, ECHO)
    starting = [asyncio.create_task(bench.fleet.acquire(spec)) for _ in range(6)]
    await asyncio.sleep(0.15)

    async with asyncio.timeout(20):
        await bench.fleet.stop()
        await asyncio.wait(starting)

    for task in starting:
        task.exception()
    assert leftovers(bench.settings.tag) == []


async def test_provisioned_environments_stay_however_long_they_are_idle(bench: Bench) -> None:
    spec = bench.function(ECHO, initialization_type="provisioned-concurrency")
    first = await bench.invoke(spec)

    bench.clock.advance(timedelta(days=1))
    await some_turns()

    assert (await bench.invoke(spec)).environment_id == first.environment_id


async def test_cold_starts_that_are_cancelled_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    bench = await build(tmp_path, warm_slots=1)
    _, spec = with_file_system(bench, ECHO, ephemeral_mb=600)
    for moment in range(0, 120, 8):
        starting = asyncio.create_task(bench.fleet.acquire(spec))
        await asyncio.sleep(moment / 1000)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            bench.fleet.release(starting.result())
            await bench.fleet.drain(spec.key)
    await bench.fleet.settled()

    assert bench.fleet.status().environments == {}
    assert bench.file_server.mounts == {}
    await bench.fleet.stop()
    assert leftovers(bench.settings.tag) == []


async def test_a_reset_in_the_midst_of_cold_starts(tmp_path: Path) -> None:
    bench = await build(tmp_path, warm_slots=0)
    _, spec = with_file_system(bench, ECHO)
    for moment in (0, 0.03, 0.1, 0.15, 0.2):
        starting = [asyncio.create_task(bench.fleet.acquire(spec)) for _ in range(2)]
        await asyncio.sleep(moment)
        await bench.fleet.reset()
        await asyncio.wait(starting)
        for task in starting:
            if task.exception() is None:
                bench.fleet.release(task.result())

    await bench.fleet.reset()
    await bench.fleet.settled()

    assert bench.fleet.status().environments == {}
    assert bench.file_server.mounts == {}
    assert processes(f"lambay-{bench.settings.tag}/") == []
    await bench.fleet.stop()
    assert leftovers(bench.settings.tag) == []


KEEPING = """
    import os, time
    def handler(event, context):
        found = sorted(os.listdir("/tmp"))
        os.makedirs("/tmp/deep/er", exist_ok=True)
        with open(f"/tmp/deep/er/{len(found)}", "w") as file:
            file.write("kept")
        open(f"/tmp/{event}", "w").close()
        if event == "crash":
            os._exit(1)
        if event == "hang":
            time.sleep(600)
        size = os.statvfs("/tmp")
        return [found, os.getuid(), size.f_blocks * size.f_frsize >> 20]
    """


@pytest.mark.parametrize("megabytes", [512, 1024])
async def test_tmp_outlives_a_crash(bench: Bench, megabytes: int) -> None:
    spec = bench.function(KEEPING, ephemeral_mb=megabytes, timeout_s=60)

    found, uid, size = await bench.answer(spec, "first")
    crashed = await bench.invoke(spec, "crash")
    again = await bench.invoke(spec, "crash")
    last = await bench.answer(spec, "last")

    assert found == []
    assert last == [["crash", "deep", "first"], uid, size]
    assert megabytes <= size < megabytes * 1.1
    assert crashed.environment_id == again.environment_id
    # Another environment has its own.
    await bench.fleet.reset()
    assert (await bench.answer(spec, "again"))[0] == []


async def test_tmp_outlives_a_timeout(bench: Bench) -> None:
    spec = bench.function(KEEPING, timeout_s=5)

    hung = await bench.invoke(spec, "hang")

    assert hung.error_type == "Sandbox.Timedout"
    assert (await bench.answer(spec, "last"))[0] == ["deep", "hang"]


async def test_tmp_outlives_an_init_phase_that_failed(bench: Bench) -> None:
    spec = bench.function(
        """
        import os
        if not os.path.exists("/tmp/tried"):
            open("/tmp/tried", "w").close()
            raise RuntimeError("not yet")
        def handler(event, context):
            return os.listdir("/tmp")
        """
    )

    assert await bench.answer(spec) == ["tried"]


async def test_what_a_reset_environment_keeps_goes_with_it(bench: Bench) -> None:
    spec = bench.function(KEEPING)
    await bench.invoke(spec, "crash")
    await bench.fleet.settled()
    held = len(os.listdir("/proc/self/fd"))

    await bench.fleet.drain(spec.function_arn)
    await bench.fleet.settled()

    assert len(os.listdir("/proc/self/fd")) == held - 1
    await bench.fleet.stop()
    assert leftovers(bench.settings.tag) == []
    backing = [
        path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file") if path.exists()
    ]
    assert not [text for text in backing if str(bench.directory) in text]
