"""The account's concurrency is a setting, and a reserved function has ten invocations a second for each execution."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lambay.aws import AWSError

from .conftest import World


async def test_the_accounts_concurrency_is_a_setting(tmp_path: Path) -> None:
    world = World(tmp_path, concurrency=150)
    await world.functions.start()
    try:
        await world.create()
        limits = (await world("GetAccountSettings"))["AccountLimit"]
        assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (150, 150)
        with pytest.raises(AWSError) as caught:
            await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=51)
        assert "below its minimum value of [100]" in caught.value.message
        await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=50)
    finally:
        await world.close()


async def test_a_reserved_function_has_a_rate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1000.0
    monkeypatch.setattr("lambay.functions.admission.time.monotonic", lambda: moment)
    await world.create()
    await world("PutFunctionConcurrency", FunctionName="f", ReservedConcurrentExecutions=2)

    async def reason() -> str:
        try:
            await world("Invoke", FunctionName="f")
        except AWSError as error:
            return f"{error.code} {error.members['Reason']} {error.members['retryAfterSeconds']}"
        return "invoked"

    async def burst() -> Counter[str]:
        return Counter([await reason() for _ in range(25)])

    assert await burst() == {
        "invoked": 20,
        "TooManyRequestsException ReservedFunctionInvocationRateLimitExceeded 1": 5,
    }
    moment += 0.5
    assert (await burst())["invoked"] == 10
