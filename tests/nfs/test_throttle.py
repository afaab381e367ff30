"""Throughput modes hold NFS clients back as they do functions, and nobody but those of the file system."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection

MIB = 1 << 20
BLOCK = bytes(MIB)
Connect = Callable[..., Connection]


def provisioned() -> dict[str, Any]:
    return {"throughput": {"mode": "provisioned", "bytes_per_second": MIB}}


def bursting_without_credits() -> dict[str, Any]:
    """The baseline of an empty file system is 1 MiB/s."""
    ledger = {"credit_bytes": 0, "credit_fraction": 0, "at": time.time_ns()}
    return {"throughput": {"mode": "bursting"}, "standard_bytes": 0, "ledger": ledger}


def limit(door: Door, **fields: Any) -> None:
    door.call("volume.limits", volume="fs-1", performance="general_purpose", **fields)


def timed(act: Callable[[], Any]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


@pytest.mark.parametrize("mode", [provisioned, bursting_without_credits])
def test_reads_and_writes_are_held_back(door: Door, client: Client, mode: Callable[[], Any]) -> None:
    handle, state = client.open("slow")
    limit(door, throughput={"mode": "elastic"})
    for block in range(3):
        client.ok(wire.putfh(handle), wire.write(state, block * MIB, BLOCK))
    limit(door, **mode())
    # A MiB at 1 MiB/s, of which a tenth of a second may be taken in advance.
    assert timed(lambda: client.ok(wire.putfh(handle), wire.write(state, 0, BLOCK))) > 0.85

    def read() -> None:
        for block in range(3):
            client.ok(wire.putfh(handle), wire.read(state, block * MIB, MIB))

    # Reads count a third.
    assert timed(read) > 0.85


def test_who_is_held_back_holds_up_nobody_else(door: Door, connect: Connect) -> None:
    """Half a minute's worth of requests, more than there are threads: other file systems' clients notice nothing."""
    door.offer_another()
    other = Client(connect(), ("fs-2",))
    crowd = [Client(connect(), ("fs-1",)) for _ in range(2)]
    opened = [client.open("much") for client in crowd]
    limit(door, **provisioned())
    for client, (handle, state) in zip(crowd, opened, strict=True):
        for slot in range(1, 16):
            steps = (
                wire.sequence(client.session, 1, slot),
                wire.putfh(handle),
                wire.write(state, slot * MIB, BLOCK),
            )
            _, record = client.connection.call_record(
                1, wire.opaque(b"test") + wire.u32(1, len(steps)) + b"".join(steps)
            )
            client.connection.send(record)
    for n in range(64):
        other.open(f"{n}")
    # The first has its answer within a second or so.
    assert crowd[0].connection.receive()
