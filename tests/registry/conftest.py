"""Lambda, ECR and the registry's door on a port of this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.functions.server import TRUST, Server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(tmp_path_factory.mktemp("registry"))
    await server.start()
    await server("iam", "create_role", RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))
    yield server
    await server.stop()
