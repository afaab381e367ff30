"""The first NFS clients of a server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from lambay.nfs.exports import Exports


def exports(identities: Any) -> Exports:
    return Exports(Mock(), AsyncMock(), Mock(), "off", AsyncMock(), identities)


async def test_who_comes_while_the_first_is_served_waits_for_the_certificate_as_well() -> None:
    certified = threading.Event()

    def identities() -> list[str]:
        certified.wait()
        return ["identity"]

    served = exports(identities)
    clients = [asyncio.create_task(served._encrypt()) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    early = [client for client in clients if client.done()]
    certified.set()
    await asyncio.gather(*clients)

    assert early == []
    served._fsd.nfs_tls.assert_awaited_once_with(["identity"])  # type: ignore[attr-defined]


async def test_a_certificate_that_could_not_be_made_is_made_for_the_next() -> None:
    identities = Mock(side_effect=[OSError("no space left"), ["identity"]])
    served = exports(identities)
    with pytest.raises(OSError, match="no space left"):
        await served._encrypt()

    await served._encrypt()

    served._fsd.nfs_tls.assert_awaited_once_with(["identity"])  # type: ignore[attr-defined]
