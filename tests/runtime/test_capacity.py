"""A host that is short of memory."""

from __future__ import annotations

import pytest

from lambay.runtime import CapacityExceeded
from lambay.runtime.capacity import spare_mb

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
