"""One server for all stacks of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.arrange import Cloud
from tests.e2e.arrange import Lambay


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    server = Lambay(tmp_path_factory.mktemp("stacks"))
    yield Cloud(server)
    server.stop()


@pytest.fixture
def template() -> str:
    """The stack that the guides' fragments make: two zones, NAT, a file system, an access point, two functions."""
    return (Path(__file__).parent / "templates" / "shared-files.yaml").read_text()
