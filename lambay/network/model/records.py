"""EC2's records, reduced to what decides about packets; see the Amazon VPC User Guide."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Literal

import msgspec

Protocol = Literal["tcp", "udp", "icmp"]

ALL_PROTOCOLS = -1
NUMBERS: dict[Protocol, int] = {"icmp": 1, "tcp": 6, "udp": 17}
ALL_PORTS = (0, 65535)


@cache
def network(cidr: str) -> IPv4Network | IPv6Network:
    return ip_network(cidr, strict=False)


def covers(cidr: str, address: str) -> bool:
    """Whether the block holds the IPv4 address; a block of IPv6 holds none."""
    block = network(cidr)
    return isinstance(block, IPv4Network) and IPv4Address(address) in block


class Vpc(msgspec.Struct, frozen=True):
    id: str
    account: str
    region: str
    cidrs: tuple[str, ...]
    dns: bool = True
    """The attribute enableDnsSupport."""


class Subnet(msgspec.Struct, frozen=True):
    """`zone` is the Availability Zone's name."""

    id: str
    vpc: str
    zone: str
    cidr: str


class Route(msgspec.Struct, frozen=True):
    """`destination` is a CIDR or a prefix list, `target` the id it leads to or `local`."""

    destination: str
    target: str
    active: bool = True


class RouteTable(msgspec.Struct, frozen=True):
    id: str
    vpc: str
    main: bool
    subnets: tuple[str, ...]
    routes: tuple[Route, ...]


class Permission(msgspec.Struct, frozen=True):
    """One peer of one rule of a security group.

    `protocol` is an IP protocol's number or -1 for all; `ports` are inclusive, for TCP and UDP; of ICMP they
    are type and code, -1 for all. `peer` is a CIDR, a security group or a prefix list.
    """

    protocol: int
    ports: tuple[int, int]
    peer: str


class SecurityGroup(msgspec.Struct, frozen=True):
    id: str
    vpc: str
    ingress: tuple[Permission, ...]
    egress: tuple[Permission, ...]
    default: bool = False
    """The VPC's own, which everything without a group has."""


class AclEntry(msgspec.Struct, frozen=True):
    number: int
    egress: bool
    allow: bool
    protocol: int
    cidr: str
    ports: tuple[int, int] = ALL_PORTS


class NetworkAcl(msgspec.Struct, frozen=True):
    """`entries` are in the order of their numbers."""

    id: str
    vpc: str
    default: bool
    subnets: tuple[str, ...]
    entries: tuple[AclEntry, ...]


class InternetGateway(msgspec.Struct, frozen=True):
    """`vpc` is empty while it is attached to none."""

    id: str
    vpc: str


class NatGateway(msgspec.Struct, frozen=True):
    id: str
    vpc: str
    subnet: str
    address: str
    public: bool = True
    state: str = "available"


class Peering(msgspec.Struct, frozen=True):
    id: str
    requester: str
    accepter: str
    state: str = "active"

    def other(self, vpc: str) -> str:
        return self.accepter if vpc == self.requester else self.requester


class Endpoint(msgspec.Struct, frozen=True):
    """A VPC endpoint; `service` is such as `com.amazonaws.eu-west-1.s3`."""

    id: str
    vpc: str
    gateway: bool
    service: str
    state: str
    route_tables: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


class PrefixList(msgspec.Struct, frozen=True):
    id: str
    name: str
    cidrs: tuple[str, ...]


class Interface(msgspec.Struct, frozen=True):
    """`owner` is what it serves, in words: `mount target fsmt-…`; of a function's, `function` is true.

    `file_system` is set where it is a mount target's.
    """

    id: str
    vpc: str
    subnet: str
    address: str
    groups: tuple[str, ...]
    function: bool = False
    owner: str = ""
    file_system: str = ""

    @property
    def title(self) -> str:
        return self.owner or f"network interface {self.id}"


class Topology(msgspec.Struct, frozen=True):
    """Every VPC that may have to do with another; each mapping is by id."""

    vpcs: dict[str, Vpc] = {}
    subnets: dict[str, Subnet] = {}
    route_tables: dict[str, RouteTable] = {}
    groups: dict[str, SecurityGroup] = {}
    acls: dict[str, NetworkAcl] = {}
    internet_gateways: dict[str, InternetGateway] = {}
    nat_gateways: dict[str, NatGateway] = {}
    peerings: dict[str, Peering] = {}
    endpoints: dict[str, Endpoint] = {}
    prefix_lists: dict[str, PrefixList] = {}
    interfaces: dict[str, Interface] = {}

    def joined(self, other: Topology) -> Topology:
        """Both together: of the records that both have, `other`'s."""
        return Topology(*(getattr(self, name) | getattr(other, name) for name in self.__struct_fields__))

    def route_table_of(self, subnet: str) -> RouteTable | None:
        """The subnet's own table, or else its VPC's main one."""
        for table in self.route_tables.values():
            if subnet in table.subnets:
                return table
        vpc = self.subnets[subnet].vpc
        return next((table for table in self.route_tables.values() if table.main and table.vpc == vpc), None)

    def acl_of(self, subnet: str) -> NetworkAcl | None:
        for acl in self.acls.values():
            if subnet in acl.subnets:
                return acl
        vpc = self.subnets[subnet].vpc
        return next((acl for acl in self.acls.values() if acl.default and acl.vpc == vpc), None)

    def subnets_of(self, vpc: str) -> Iterator[Subnet]:
        return (subnet for subnet in self.subnets.values() if subnet.vpc == vpc)

    def interfaces_of(self, vpc: str) -> Iterator[Interface]:
        return (interface for interface in self.interfaces.values() if interface.vpc == vpc)

    def at(self, vpc: str, address: str) -> Interface | None:
        """The interface that has this address in this VPC."""
        return next((each for each in self.interfaces_of(vpc) if each.address == address), None)

    def blocks(self, peer: str) -> tuple[str, ...]:
        """The CIDRs that a CIDR or a prefix list stands for; none for a list that is not there."""
        if not peer.startswith("pl-"):
            return (peer,)
        found = self.prefix_lists.get(peer)
        return found.cidrs if found is not None else ()

    def peered(self, one: str, other: str) -> bool:
        return one == other or any(
            each.state == "active" and {each.requester, each.accepter} == {one, other}
            for each in self.peerings.values()
        )
