"""Can this interface open a connection to that address, and if not, what stops it first?

The steps are a packet's: out of the interface (security group), out of its subnet (network ACL), along the
route table, into the other subnet (network ACL) and interface (security group), and the answer's way back
(network ACLs, which are stateless, and the other side's routes). See "How Reachability Analyzer works".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lambay.network.model.records import Interface, NatGateway, Protocol, Subnet, Topology
from lambay.network.model.rules import (
    EPHEMERAL,
    Direction,
    acl_decides,
    acl_refuses,
    corners,
    group_admits,
    route_for,
)

StopKind = Literal[
    "security group",
    "network ACL",
    "no route",
    "route leads nowhere",
    "NAT gateway",
    "internet gateway",
    "no public address",
    "peering",
    "no such address",
    "accepts no connections",
]


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops a connection: the kind, the ids that matter, and a sentence that names them."""

    kind: StopKind
    ids: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Reachable, or the first thing that stops it."""

    stop: Stop | None = None

    @property
    def allowed(self) -> bool:
        return self.stop is None

    @property
    def sentence(self) -> str:
        return self.stop.sentence if self.stop is not None else ""


def reach(
    topology: Topology,
    source: Interface,
    destination: Interface | str,
    protocol: Protocol,
    port: int,
    ephemeral: tuple[int, int] = EPHEMERAL,
) -> Verdict:
    """Whether `source` can open a connection to `port` of `destination`.

    A string is an IPv4 address outside of every VPC. `ephemeral` are the ports that answers may come to; all
    of them must be let through. For ICMP `port` says nothing.
    """
    return Verdict(next(_Way(topology, source, destination, protocol, port, ephemeral).stops(), None))


@dataclass(frozen=True, slots=True)
class _Way:
    topology: Topology
    source: Interface
    destination: Interface | str
    protocol: Protocol
    port: int
    ephemeral: tuple[int, int]

    @property
    def address(self) -> str:
        return self.destination.address if isinstance(self.destination, Interface) else self.destination

    @property
    def what(self) -> str:
        return "ICMP" if self.protocol == "icmp" else f"{self.protocol.upper()} {self.port}"

    def stops(self) -> Iterator[Stop]:
        topology, source = self.topology, self.source
        if not group_admits(topology, source, "egress", self.destination, self.protocol, self.port):
            yield self._group_stop(source, "outbound", "to", _name(self.destination))
        target = self.destination
        subnet = topology.subnets[source.subnet]
        inside = isinstance(target, Interface) and target.subnet == subnet.id
        if not inside:
            yield from self._acl(subnet, "egress", self.address, (self.port, self.port))
        table = topology.route_table_of(subnet.id)
        route = route_for(topology, table, self.address) if table is not None else None
        if table is None or route is None:
            yield Stop(
                "no route",
                (table.id if table else "", subnet.id),
                f"route table {table.id if table else '(none)'} of subnet {subnet.id} has no route to "
                f"{self.address}",
            )
            return
        kind = route.target.split("-", 1)[0]
        if not route.active:
            yield Stop(
                "route leads nowhere",
                (table.id, route.target),
                f"route {route.destination} of route table {table.id} is a blackhole: {route.target} is gone",
            )
        elif kind == "local":
            yield from self._arrive(subnet, source.vpc)
        elif kind == "pcx":
            yield from self._over_peering(subnet, route.target)
        elif kind == "nat":
            yield from self._through_nat(subnet, route.target)
        elif kind == "igw":
            yield from self._internet_gateway(subnet, route.target)
            yield Stop(
                "no public address",
                (source.id, route.target),
                f"{source.title} has no public address, so internet gateway {route.target} does not serve it; "
                f"subnet {subnet.id} needs a route to a NAT gateway",
            )
        elif kind == "vpce":
            endpoint = topology.endpoints.get(route.target)
            if endpoint is None or endpoint.state != "available":
                yield Stop(
                    "route leads nowhere", (route.target,), f"VPC endpoint {route.target} is not available"
                )
        else:
            yield Stop(
                "route leads nowhere",
                (table.id, route.target),
                f"route {route.destination} of route table {table.id} leads to {route.target}, which carries "
                "nothing",
            )

    def _arrive(self, subnet: Subnet, vpc: str) -> Iterator[Stop]:
        """From `subnet` to the destination in `vpc`, and the answer back; each end's ACLs at its own subnet."""
        target = self.destination
        if not isinstance(target, Interface) or target.vpc != vpc:
            yield Stop(
                "no such address", (vpc,), f"no network interface in VPC {vpc} has the address {self.address}"
            )
            return
        there = self.topology.subnets[target.subnet]
        if there.id != subnet.id:
            yield from self._acl(there, "ingress", self.source.address, (self.port, self.port))
        if target.function:
            yield Stop(
                "accepts no connections",
                (target.id,),
                f"{target.title} is a function's: it opens connections and accepts none",
            )
        if not group_admits(self.topology, target, "ingress", self.source, self.protocol, self.port):
            yield self._group_stop(target, "inbound", "from", self._named_source(target))
        if there.id != subnet.id:
            yield from self._acl(there, "egress", self.source.address, self.ephemeral, back=True)
            yield from self._way_back(there, subnet)
            yield from self._acl(subnet, "ingress", target.address, self.ephemeral, back=True)

    def _way_back(self, there: Subnet, subnet: Subnet) -> Iterator[Stop]:
        """The destination's routes to the source, where another VPC answers."""
        if there.vpc == subnet.vpc:
            return
        table = self.topology.route_table_of(there.id)
        route = route_for(self.topology, table, self.source.address) if table is not None else None
        peering = self.topology.peerings.get(route.target) if route is not None and route.active else None
        if peering is None or peering.other(there.vpc) != subnet.vpc or peering.state != "active":
            name = table.id if table is not None else "(none)"
            yield Stop(
                "no route",
                (name, there.id),
                f"route table {name} of subnet {there.id} has no route back to {self.source.address} in VPC "
                f"{subnet.vpc}",
            )

    def _over_peering(self, subnet: Subnet, identifier: str) -> Iterator[Stop]:
        peering = self.topology.peerings.get(identifier)
        if peering is None or peering.state != "active":
            state = peering.state if peering is not None else "deleted"
            yield Stop("peering", (identifier,), f"VPC peering connection {identifier} is {state}")
            return
        yield from self._arrive(subnet, peering.other(subnet.vpc))

    def _through_nat(self, subnet: Subnet, identifier: str) -> Iterator[Stop]:
        topology = self.topology
        gateway = topology.nat_gateways.get(identifier)
        if gateway is None or gateway.state != "available":
            state = gateway.state if gateway is not None else "deleted"
            yield Stop("NAT gateway", (identifier,), f"NAT gateway {identifier} is {state}")
            return
        if not gateway.public:
            yield Stop(
                "NAT gateway", (identifier,), f"NAT gateway {identifier} is private: it has no public address"
            )
        place = topology.subnets[gateway.subnet]
        if place.id != subnet.id:
            yield from self._acl(place, "ingress", self.source.address, (self.port, self.port))
        yield from self._nat_to_internet(gateway, place)
        yield from self._acl(place, "ingress", self.address, self.ephemeral, back=True)
        if place.id != subnet.id:
            yield from self._acl(place, "egress", self.source.address, self.ephemeral, back=True)
        yield from self._acl(subnet, "ingress", self.address, self.ephemeral, back=True)

    def _nat_to_internet(self, gateway: NatGateway, place: Subnet) -> Iterator[Stop]:
        table = self.topology.route_table_of(place.id)
        route = route_for(self.topology, table, self.address) if table is not None else None
        if table is None or route is None or not route.active or not route.target.startswith("igw-"):
            name = table.id if table is not None else "(none)"
            yield Stop(
                "no route",
                (name, place.id, gateway.id),
                f"route table {name} of subnet {place.id}, where NAT gateway {gateway.id} is, has no route to "
                f"{self.address} by an internet gateway",
            )
            return
        yield from self._acl(place, "egress", self.address, (self.port, self.port))
        yield from self._internet_gateway(place, route.target)

    def _internet_gateway(self, subnet: Subnet, identifier: str) -> Iterator[Stop]:
        found = self.topology.internet_gateways.get(identifier)
        if found is None or found.vpc != subnet.vpc:
            yield Stop(
                "internet gateway",
                (identifier, subnet.vpc),
                f"internet gateway {identifier} is not attached to VPC {subnet.vpc}",
            )

    def _acl(
        self, subnet: Subnet, direction: Direction, address: str, ports: tuple[int, int], back: bool = False
    ) -> Iterator[Stop]:
        acl = self.topology.acl_of(subnet.id)
        if acl is None:
            return
        refused = acl_refuses(acl, direction, address, self.protocol, corners(acl, ports))
        if refused is None:
            return
        entry = acl_decides(acl, direction, address, self.protocol, refused)
        rule = f"by rule {entry.number}" if entry is not None else "by its final rule"
        words = "inbound" if direction == "ingress" else "outbound"
        what = self.what
        if back and self.protocol != "icmp":
            what = f"the answers on {self.protocol.upper()} {refused}"
        place = "from" if direction == "ingress" else "to"
        yield Stop(
            "network ACL",
            (acl.id, subnet.id),
            f"network ACL {acl.id} of subnet {subnet.id} denies {words} {what} {place} {address} {rule}",
        )

    def _group_stop(self, interface: Interface, words: str, place: str, peer: str) -> Stop:
        groups = ", ".join(interface.groups)
        plural = "s" if len(interface.groups) > 1 else ""
        have = "have" if plural else "has"
        if not interface.groups:
            groups, have = "(none)", "has"
        return Stop(
            "security group",
            interface.groups,
            f"security group{plural} {groups} of {interface.title} {have} no {words} rule for {self.what} "
            f"{place} {peer}",
        )

    def _named_source(self, target: Interface) -> str:
        """The source as a rule would name it: by group where it may, by address where it must."""
        if self.topology.peered(self.source.vpc, target.vpc) and self.source.groups:
            return " or ".join(self.source.groups)
        return self.source.address


def _name(end: Interface | str) -> str:
    if isinstance(end, str):
        return end
    return f"{end.title} ({end.address})" if end.owner else end.address
