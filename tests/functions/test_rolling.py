"""Traffic moves by weight and with updates; what ran before keeps its connections for a while."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from .conftest import World, zipped


@pytest.fixture
async def draining(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, drain_seconds=30)
    await world.functions.start()
    yield world
    await world.close()


async def test_an_update_leaves_the_old_environments_for_the_draining_time(draining: World) -> None:
    await draining.create()
    await draining("Invoke", FunctionName="f")
    old = draining.fleet.runs[0][0]
    await draining("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"index.py": "new"}))
    await draining.settle()
    await draining("Invoke", FunctionName="f")
    assert draining.fleet.runs[1][0].key != old.key
    assert draining.fleet.drained == []
    # Another deletion collects code meanwhile, but not what still drains.
    await draining.create("g", Code={"ZipFile": zipped({"index.py": "other"})})
    await draining("DeleteFunction", FunctionName="g")
    await draining.settle()
    assert (old.code / "index.py").exists()
    draining.fleet.drained.clear()
    draining.clock.advance(timedelta(seconds=30))
    await draining.until(lambda: draining.fleet.drained == [old.key])
    await draining.settle()
    assert not old.code.exists()


async def test_a_deleted_function_is_not_waited_for(draining: World) -> None:
    await draining.create()
    await draining("DeleteFunction", FunctionName="f")
    await draining.settle()
    assert len(draining.fleet.drained) == 1


async def test_an_alias_shares_its_invocations_by_weight(world: World) -> None:
    await world.create()
    await world("PublishVersion", FunctionName="f")
    await world("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"index.py": "new"}))
    await world.settle()
    await world("PublishVersion", FunctionName="f")
    await world(
        "CreateAlias",
        FunctionName="f",
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    random.seed(20261121)

    async def shares() -> Counter[str]:
        answers = [await world("Invoke", FunctionName="f", Qualifier="live") for _ in range(400)]
        return Counter(answer["ExecutedVersion"] for answer in answers)

    assert 60 < (await shares())["2"] < 140
    await world("UpdateAlias", FunctionName="f", Name="live", FunctionVersion="2", RoutingConfig={})
    assert await shares() == {"2": 400}
