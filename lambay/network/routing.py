"""A subnet's route table as a kernel takes it: destinations without overlap of meaning, each with what it
leads to; what would not get through further on leads nowhere from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from lambay.network.model import NatGateway, Route, RouteTable, Subnet, Topology
from lambay.network.model.records import network

EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class Hop:
    """`id` is the NAT gateway's or the peering's."""

    kind: Literal["local", "nat", "peering", "nowhere"]
    id: str = ""


NOWHERE = Hop("nowhere")


def hops(topology: Topology, subnet: Subnet) -> dict[str, Hop]:
    """What the kernel's table for the subnet says: by destination, of which the longest prefix wins."""
    found: dict[str, Hop] = {EVERYWHERE: NOWHERE}
    table = topology.route_table_of(subnet.id)
    if table is None:
        return found
    # Ascending, so that of two routes for one block the later, preferred one stays.
    for block, route in sorted(
        _blocks(topology, table), key=lambda pair: not pair[1].destination.startswith("pl-")
    ):
        found[str(block)] = _hop(topology, subnet, route)
    for block, route in _blocks(topology, table):
        gateway = topology.nat_gateways.get(route.target)
        if gateway is None or found[str(block)] != Hop("nat", gateway.id):
            continue
        found |= _beyond(topology, gateway, block, {network(each) for each in found})
    return found


def _blocks(topology: Topology, table: RouteTable) -> Iterator[tuple[IPv4Network, Route]]:
    for route in table.routes:
        for cidr in topology.blocks(route.destination):
            block = network(cidr)
            if isinstance(block, IPv4Network):
                yield block, route


def _hop(topology: Topology, subnet: Subnet, route: Route) -> Hop:
    if not route.active:
        return NOWHERE
    if route.target == "local":
        return Hop("local")
    peering = topology.peerings.get(route.target)
    if (
        peering is not None
        and peering.state == "active"
        and subnet.vpc in (peering.requester, peering.accepter)
    ):
        return Hop("peering", peering.id)
    gateway = topology.nat_gateways.get(route.target)
    if gateway is not None and gateway.state == "available" and gateway.public and gateway.vpc == subnet.vpc:
        return Hop("nat", gateway.id)
    return NOWHERE


def _beyond(
    topology: Topology, gateway: NatGateway, block: IPv4Network, taken: set[object]
) -> dict[str, Hop]:
    """Where the NAT gateway's own subnet divides `block` further; `taken` blocks have routes of their own."""
    there = topology.route_table_of(gateway.subnet)
    routes = list(_blocks(topology, there)) if there is not None else []

    def leaves(block: IPv4Network) -> bool:
        """Whether the gateway's subnet sends all of the block to the internet by its own best route."""
        best = max(
            (pair for pair in routes if block.subnet_of(pair[0])),
            key=lambda pair: (pair[0].prefixlen, not pair[1].destination.startswith("pl-")),
            default=None,
        )
        if best is None or not best[1].active:
            return False
        found = topology.internet_gateways.get(best[1].target)
        return found is not None and found.vpc == gateway.vpc

    within = {
        other for other, _ in routes if other.subnet_of(block) and other != block and other not in taken
    }
    # Those under a longer prefix of the first table are that prefix's business.
    longer = [
        each for each in taken if isinstance(each, IPv4Network) and each.subnet_of(block) and each != block
    ]
    own = {other for other in within if not any(other.subnet_of(each) for each in longer)}
    return {str(each): Hop("nat", gateway.id) if leaves(each) else NOWHERE for each in {block, *own}}
