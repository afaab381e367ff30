"""A host that is short of memory, or of descriptors."""

from __future__ import annotations

import errno
import os
import resource
from datetime import timedelta
from pathlib import Path

import pytest

from lambay.runtime import CapacityExceeded, ScalingLimitExceeded
from lambay.runtime.capacity import spare_descriptors, spare_mb
from lambay.runtime.cgroups import ControlGroup
from lambay.runtime.first_process import descriptors
from lambay.runtime.scaling import ScalingRate

from .arrange import Bench, build

ECHO = "def handler(event, context): return event"


def test_a_tenth_of_the_memory_is_kept_for_the_host() -> None:
    assert spare_mb("MemTotal:  2048000 kB\nMemFree: 1 kB\nMemAvailable: 1024000 kB\n") == 1000 - 200
    assert spare_mb("MemTotal: 32768000 kB\nMemFree: 1 kB\nMemAvailable: 1024000 kB\n") == 1000 - 512


async def test_the_longest_idle_environment_makes_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (bench.function(ECHO) for _ in range(3))
    await bench.answer(first)
    await bench.answer(second)
    spares = iter([0, 64, 64])
    monkeypatch.setattr("lambay.runtime.fleet.spare_mb", lambda: next(spares))

    await bench.answer(third)

    assert set(bench.fleet.status().environments) == {second.key, third.key}


async def test_with_nothing_idle_an_environment_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambay.runtime.fleet.spare_mb", lambda: -100)

    with pytest.raises(CapacityExceeded, match="100 MiB of memory are missing"):
        await bench.fleet.acquire(bench.function(ECHO))


async def test_the_last_descriptors_are_not_for_environments(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With none left, a server can neither answer nor end what runs."""
    spec = bench.function(ECHO)
    monkeypatch.setattr("lambay.runtime.fleet.spare_descriptors", lambda: 2)

    with pytest.raises(CapacityExceeded, match="10 file descriptors are missing for another"):
        await bench.fleet.acquire(spec)

    monkeypatch.undo()
    assert await bench.answer(spec, 1) == 1


def test_an_eighth_of_the_descriptors_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8000, 8000))
    before = spare_descriptors()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]

    # Whatever other tests' threads close meanwhile.
    assert before < 7000
    assert 50 < before - spare_descriptors() < 150

    for descriptor in opened:
        os.close(descriptor)


def test_a_function_has_lambdas_limit_of_descriptors_or_its_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, function in ((20_000, 1024), (600, 600), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, host=host: (host, host))
        assert descriptors() == function


async def test_an_environment_ends_without_a_descriptor_for_its_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that had come to its limit could not be stopped any more."""
    bench = await build(tmp_path)
    spec = bench.function(ECHO)
    await bench.answer(spec)

    def kill(group: ControlGroup) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr(ControlGroup, "kill", kill)
        await bench.fleet.drain(spec.key)
    assert bench.fleet.status().environments == {}
    assert await bench.answer(spec, 1) == 1

    await bench.fleet.stop()


def test_a_function_gains_a_thousand_environments_in_ten_seconds() -> None:
    now = [0.0]
    rate = ScalingRate(lambda: now[0])

    def admitted(function: str, wanted: int = 3000) -> int:
        return sum(rate.admit(function) for _ in range(wanted))

    assert admitted("f") == 1000
    assert admitted("g", 10) == 10
    now[0] += 5
    assert admitted("f") == 500
    now[0] += 3600
    assert admitted("f") == 1000


async def test_a_function_that_scales_too_fast_is_throttled_until_time_has_passed(bench: Bench) -> None:
    spec = bench.function(ECHO)
    bench.fleet._scaling = ScalingRate(bench.clock.time, 2, 10.0)
    lent = [await bench.fleet.acquire(spec) for _ in range(2)]

    with pytest.raises(ScalingLimitExceeded, match="execution environments within 10 seconds"):
        await bench.fleet.acquire(spec)
    other = await bench.fleet.acquire(bench.function(ECHO))
    bench.clock.advance(timedelta(seconds=5))
    lent.append(await bench.fleet.acquire(spec))

    for environment in (*lent, other):
        bench.fleet.release(environment)
    assert await bench.answer(spec, 1) == 1
