"""What is counted of a VPC's traffic: packets through real namespaces against what the test sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from lambay.network import namespaces
from lambay.network.metering import Meter
from lambay.network.model import Topology
from tests.network.fabric import Environment, Fabric, listen
from tests.network.test_packets import INTERNET, Outside
from tests.network.test_reach import FUNCTION, TARGET, WORLD, with_

SIZE = 3 << 20
# Headers, acknowledgements, and on a busy machine what is sent once more; but nothing twice.
MARGIN = 0.6
TO_TARGET = Meter("1", "r", "fs-1", "zones")
NEAR = replace(FUNCTION, id="eni-g", subnet="subnet-a2", address="10.0.2.9")
COUNTED = replace(
    WORLD,
    interfaces=WORLD.interfaces | {"eni-m": replace(TARGET, file_system="fs-1"), "eni-g": NEAR},
    nat_gateways={"nat-1": replace(WORLD.nat_gateways["nat-1"], subnet="subnet-a3")},
)


@pytest.fixture(scope="module")
def internet() -> Iterator[Outside]:
    outside = Outside(INTERNET)
    yield outside
    outside.close()


@pytest.fixture
def fabric(internet: Outside) -> Iterator[Fabric]:
    made = Fabric()
    yield made
    made.close()


def exchange(environment: Environment, listening: socket.socket, forth: int, back: int) -> None:
    """A connection from the environment, with so many bytes each way."""

    def serve() -> None:
        accepted, _ = listening.accept()
        with accepted:
            left = forth
            while left:
                left -= len(accepted.recv(min(left, 1 << 16)))
            accepted.sendall(bytes(back))

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    with namespaces.open_socket(environment.namespace, socket.SOCK_STREAM) as connected:
        connected.setblocking(True)
        connected.connect(listening.getsockname())
        connected.sendall(bytes(forth))
        left = back
        while left:
            left -= len(connected.recv(min(left, 1 << 16)))
    serving.join()


def passed(fabric: Fabric, vpc: str = "vpc-a") -> dict[Meter, int]:
    return {each.meter: each.bytes for each in fabric.routers[vpc].passed()}


def nearly(size: int) -> Callable[[int], bool]:
    return lambda counted: size <= counted <= size * (1 + MARGIN)


def test_bytes_to_a_mount_target_in_another_zone_both_ways(fabric: Fabric) -> None:
    fabric.apply(COUNTED)
    far = fabric.environment(FUNCTION)
    with listen(fabric.routers["vpc-a"], TARGET.address, 2049) as listening:
        exchange(far, listening, SIZE, 2 * SIZE)

    counted = passed(fabric)

    assert set(counted) == {TO_TARGET}
    assert nearly(3 * SIZE)(counted[TO_TARGET])
    assert passed(fabric) == {}


def test_nothing_is_counted_within_a_zone(fabric: Fabric) -> None:
    group = replace(COUNTED.groups["sg-m"], ingress=COUNTED.groups["sg-f"].egress)
    fabric.apply(replace(COUNTED, groups=COUNTED.groups | {"sg-m": group}))
    near = fabric.environment(NEAR)
    with listen(fabric.routers["vpc-a"], TARGET.address, 2049) as listening:
        exchange(near, listening, SIZE, SIZE)

    assert passed(fabric) == {}


@pytest.mark.parametrize("zone", ["ra", "rb"])
def test_bytes_through_a_nat_gateway_and_from_zone_to_zone(
    fabric: Fabric, internet: Outside, zone: str
) -> None:
    subnet = replace(COUNTED.subnets["subnet-a3"], zone=zone)
    fabric.apply(replace(COUNTED, subnets=COUNTED.subnets | {"subnet-a3": subnet}))
    caller = fabric.environment(FUNCTION)
    with namespaces.inside(internet.namespace):
        listening = socket.create_server((INTERNET, 8080))
    with listening:
        exchange(caller, listening, SIZE, 2 * SIZE)

    counted = {meter.way: size for meter, size in passed(fabric).items() if meter.resource == "nat-1"}

    assert nearly(SIZE)(counted["out"])
    assert nearly(2 * SIZE)(counted["in"])
    assert counted.get("zones", 0) == (0 if zone == "ra" else counted["out"] + counted["in"])


def test_a_count_survives_what_changes(fabric: Fabric) -> None:
    fabric.apply(COUNTED)
    far = fabric.environment(FUNCTION)
    with listen(fabric.routers["vpc-a"], TARGET.address, 2049) as listening:
        exchange(far, listening, SIZE, 0)
        # Another mount target of the file system, other subnets; then none of it.
        other = replace(TARGET, id="eni-o", address="10.0.2.8", file_system="fs-1")
        more = replace(COUNTED, interfaces=COUNTED.interfaces | {other.id: other})
        fabric.apply(more)
        exchange(far, listening, SIZE, 0)
    fabric.apply(_without_targets(more))

    assert nearly(2 * SIZE)(passed(fabric)[TO_TARGET])


def test_a_peered_vpc_in_another_zone_counts_where_the_mount_target_is(fabric: Fabric) -> None:
    far = replace(WORLD.interfaces["eni-n"], file_system="fs-2")
    subnet = replace(WORLD.subnets["subnet-b1"], zone="rc")
    fabric.apply(replace(with_("interfaces", far), subnets=WORLD.subnets | {"subnet-b1": subnet}))
    caller = fabric.environment(FUNCTION)
    with listen(fabric.routers["vpc-b"], far.address, 2049) as listening:
        exchange(caller, listening, SIZE, 0)

    assert nearly(SIZE)(passed(fabric, "vpc-b")[Meter("2", "r", "fs-2", "zones")])
    assert passed(fabric, "vpc-a") == {}


def _without_targets(topology: Topology) -> Topology:
    return replace(
        topology, interfaces={each.id: each for each in topology.interfaces.values() if each.function}
    )
