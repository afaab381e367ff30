"""The clock: it moves forward only, and takes its sleepers along."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from lambay.clock import Clock


async def test_advance_wakes_those_whose_hour_has_come_and_no_others() -> None:
    clock = Clock()
    hour = asyncio.create_task(clock.sleep(3600))
    day = asyncio.create_task(clock.sleep(86400))
    await asyncio.sleep(0)

    clock.advance(timedelta(hours=2))
    await hour

    assert not day.done()
    day.cancel()


async def test_advance_moves_time_and_not_the_measure_of_work() -> None:
    clock = Clock()
    before, measured = clock.now(), clock.monotonic()

    clock.advance(timedelta(days=30))

    assert clock.now() - before >= timedelta(days=30)
    assert clock.monotonic() - measured < 3600


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = Clock()
    sleeper = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper

    assert clock._sleepers == []


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match=r"by: .* is negative"):
        Clock().advance(timedelta(seconds=-1))
