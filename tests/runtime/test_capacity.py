"""A host that is short of memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lambay.runtime import CapacityExceeded, ScalingLimitExceeded
from lambay.runtime.capacity import spare_mb
from lambay.runtime.scaling import ScalingRate

from .arrange import Bench

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
