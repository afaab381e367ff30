"""A running Lambay on a free port with a throwaway data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.arrange import Deployer, Lambay


@pytest.fixture(scope="session")
def lambay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambay]:
    server = Lambay(tmp_path_factory.mktemp("lambay"))
    yield server
    server.stop()


@pytest.fixture
def own_lambay(tmp_path: Path) -> Iterator[Lambay]:
    """A server for one test, which may stop, kill and start it."""
    server = Lambay(tmp_path / "data", "--allow-reset")
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="session")
def deploy(lambay: Lambay) -> Deployer:
    return Deployer(lambay)
