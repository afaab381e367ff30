"""A running fleet for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .arrange import Bench, build


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    built = await build(tmp_path)
    yield built
    await built.fleet.stop()
