"""Security groups, network ACLs and route tables: each a yes, a no, or the entry that decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lambay.network.model.records import (
    ALL_PROTOCOLS,
    NUMBERS,
    AclEntry,
    Interface,
    NetworkAcl,
    Permission,
    Protocol,
    Route,
    RouteTable,
    Topology,
    covers,
    network,
)

Direction = Literal["ingress", "egress"]
ECHO_REQUEST = 8

# Where the ports of connections begin that a Linux host opens by itself (ip_local_port_range), and end.
EPHEMERAL = (32768, 60999)


def group_admits(
    topology: Topology,
    interface: Interface,
    direction: Direction,
    peer: Interface | str,
    protocol: Protocol,
    port: int,
) -> bool:
    """Whether a security group of `interface` lets a new connection go to (or come from) `peer`."""
    for identifier in interface.groups:
        group = topology.groups.get(identifier)
        if group is None:
            continue
        rules = group.ingress if direction == "ingress" else group.egress
        if any(
            _about(rule, protocol, port) and _names(topology, interface, rule.peer, peer) for rule in rules
        ):
            return True
    return False


def _about(rule: Permission, protocol: Protocol, port: int) -> bool:
    if rule.protocol == ALL_PROTOCOLS:
        return True
    if rule.protocol != NUMBERS[protocol]:
        return False
    if protocol == "icmp":
        return rule.ports[0] in (-1, ECHO_REQUEST)
    return rule.ports[0] <= port <= rule.ports[1]


def _names(topology: Topology, interface: Interface, named: str, peer: Interface | str) -> bool:
    if named.startswith("sg-"):
        # A group of a peered VPC may be named as long as the peering is active.
        return (
            isinstance(peer, Interface) and named in peer.groups and topology.peered(interface.vpc, peer.vpc)
        )
    address = peer.address if isinstance(peer, Interface) else peer
    return any(covers(block, address) for block in topology.blocks(named))


def acl_decides(
    acl: NetworkAcl, direction: Direction, address: str, protocol: Protocol, port: int
) -> AclEntry | None:
    """The first entry that is about this packet; `address` is the far end's. None is the final deny."""
    for entry in acl.entries:
        if entry.egress is not (direction == "egress"):
            continue
        if entry.protocol not in (ALL_PROTOCOLS, NUMBERS[protocol]):
            continue
        if (
            entry.protocol != ALL_PROTOCOLS
            and protocol != "icmp"
            and not entry.ports[0] <= port <= entry.ports[1]
        ):
            continue
        if covers(entry.cidr, address):
            return entry
    return None


def acl_refuses(
    acl: NetworkAcl, direction: Direction, address: str, protocol: Protocol, ports: Iterable[int]
) -> int | None:
    """The first of `ports` that the ACL denies."""
    for port in ports:
        entry = acl_decides(acl, direction, address, protocol, port)
        if entry is None or not entry.allow:
            return port
    return None


def corners(acl: NetworkAcl, ports: tuple[int, int]) -> list[int]:
    """Those of the range of ports at which the ACL may change its mind, the range's ends among them."""
    first, last = ports
    found = {first, last}
    for entry in acl.entries:
        for port in (entry.ports[0] - 1, entry.ports[0], entry.ports[1], entry.ports[1] + 1):
            if first <= port <= last:
                found.add(port)
    return sorted(found)


def route_for(topology: Topology, table: RouteTable, address: str) -> Route | None:
    """The route with the longest prefix that covers the address; see "Route priority"."""
    best: tuple[int, Route] | None = None
    for route in table.routes:
        for block in topology.blocks(route.destination):
            length = network(block).prefixlen
            # Of the same length, a static route wins over one by prefix list.
            rank = 2 * length + (not route.destination.startswith("pl-"))
            if covers(block, address) and (best is None or rank > best[0]):
                best = (rank, route)
    return best[1] if best is not None else None
