"""What a mount moved, from span to span."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lambay.fsd import FsdError, Stats
from lambay.runtime import traffic
from lambay.runtime.traffic import Traffic


class Counters:
    """A file server that has nothing but counters."""

    def __init__(self) -> None:
        self.mounts: dict[str, dict[str, int]] = {}
        self.error: FsdError | None = None
        self.hangs = False

    async def stats(self) -> Stats:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return Stats(mounts=self.mounts)


class Noted(dict[str, Any]):
    """A span that is its attributes."""

    def note(self, attributes: dict[str, Any]) -> None:
        self.update(attributes)


async def told(of: Traffic, mount: str | None = "m-1") -> dict[str, Any]:
    """What is not zero of what is told."""
    span = Noted()
    await of.tell(span, mount)  # type: ignore[arg-type]
    return {name.removeprefix("lambay.efs."): value for name, value in span.items() if value}


async def test_each_span_has_what_was_moved_since_the_one_before() -> None:
    server = Counters()
    of = Traffic(server)  # type: ignore[arg-type]
    server.mounts["m-1"] = {"read_bytes": 100, "read_ops": 2, "metadata_ops": 5}
    first = await told(of)
    server.mounts["m-1"] = {
        "read_bytes": 100,
        "read_ops": 2,
        "metadata_ops": 6,
        "write_bytes": 9,
        "write_ops": 1,
    }

    second = await told(of)

    assert first == {"read_bytes": 100, "read_ops": 2, "metadata_ops": 5}
    assert second == {"metadata_ops": 1, "write_bytes": 9, "write_ops": 1}


async def test_another_mount_counts_from_its_own_beginning() -> None:
    server = Counters()
    of = Traffic(server)  # type: ignore[arg-type]
    server.mounts = {"m-1": {"read_bytes": 100}, "m-2": {"read_bytes": 120}}
    await told(of, "m-1")

    assert await told(of, "m-2") == {"read_bytes": 120}


@pytest.mark.parametrize("mount", [None, "m-unknown"])
async def test_without_a_mount_nothing_is_told(mount: str | None) -> None:
    server = Counters()
    server.mounts["m-1"] = {"read_bytes": 100}

    assert await told(Traffic(server), mount) == {}  # type: ignore[arg-type]


async def test_a_file_server_that_is_away_or_hangs_fails_and_delays_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "_SECONDS", 0.01)
    server = Counters()
    of = Traffic(server)  # type: ignore[arg-type]
    server.error = FsdError("NotRunning", "away")
    away = await told(of)
    server.hangs = True

    assert (away, await told(of)) == ({}, {})
