"""A VPC as a network of its own: a namespace that routes, filters, and has the mount targets' addresses.

Every method blocks and belongs to the network's one thread.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Protocol

from lambay.network import addresses, namespaces, ruleset
from lambay.network.links import Links
from lambay.network.metering import Metering, Passed
from lambay.network.model import Subnet, Topology
from lambay.network.nftables import Command, Nftables
from lambay.network.routing import EVERYWHERE, Hop, hops

_MAIN = 254
_FIRST_TABLE = 1000

SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    # A packet that opens nothing must not be taken for the middle of a connection that was allowed.
    "net/netfilter/nf_conntrack_tcp_loose": "0",
}


class Edge(Protocol):
    """The other end of a VPC's cables."""

    def plug_router(self, number: int, router: int) -> None: ...

    def plug_nat(self, number: int, address: str, router: int) -> None: ...

    def unplug_nat(self, number: int) -> None: ...

    def unplug_router(self, number: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Applied:
    rules: list[Command]
    routes: dict[int, dict[str, Hop]]


class Router:
    """One VPC's. `number` tells the VPCs of an instance apart; `peers` are those that exist, by VPC."""

    def __init__(self, vpc: str, number: int, edge: Edge, peers: dict[str, Router]) -> None:
        self.vpc = vpc
        self.number = number
        self.namespace = namespaces.make(SYSCTLS)
        self._edge = edge
        self._peers = peers
        self._nftables = Nftables(self.namespace)
        self._metering = Metering(vpc, self._nftables)
        self._links = Links(self.namespace)
        self._applied: _Applied | None = None
        self._tables: dict[str, int] = {}
        self._rules: dict[str, tuple[int, str]] = {}
        self._nat: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._peerings: dict[str, str] = {}
        self._local: set[str] = set()
        self._links.raise_up("lo", self.address)
        edge.plug_router(number, self.namespace)
        self._links.raise_up(ruleset.EDGE)
        # Nothing passes before its rules have been said.
        self._links.drop_route(EVERYWHERE)

    @property
    def address(self) -> str:
        return addresses.router(self.number)

    def apply(self, topology: Topology, nat_numbers: addresses.Pool) -> None:
        """Make it so. The rules change in one transaction, before any way is opened that they must guard."""
        self._plug(topology, nat_numbers)
        links = ruleset.Links(
            {name: (f"n{number}", addresses.nat(number)) for name, number in self._nat.items()},
            dict(self._peerings),
        )
        rules = ruleset.commands(topology, self.vpc, links)
        if self._applied is None or self._applied.rules != rules:
            self._nftables.commit(rules)
        self._metering.apply(topology, {name: link for name, (link, _) in links.nat.items()})
        routes = self._route(topology)
        for address in ruleset.resolver_addresses(topology, self.vpc):
            self._links.add_address("lo", address)
        self._applied = _Applied(rules, routes)

    def passed(self) -> list[Passed]:
        """What AWS charges for of the VPC's traffic, since this was asked last."""
        return self._metering.read()

    def hold(self, address: str) -> None:
        """The address is the namespace's own from now on."""
        self._links.add_address("lo", address)
        self._local.add(address)

    def let_go(self, address: str) -> None:
        self._links.remove_address("lo", address)
        self._local.discard(address)

    def peer_with(self, link: str) -> None:
        """A peer has plugged its cable in."""
        self._links.raise_up(link)

    def unplug_peering(self, identifier: str) -> None:
        link = self._peerings.pop(identifier, None)
        if link is not None:
            self._links.forget(link)

    def close(self) -> None:
        for identifier, link in list(self._peerings.items()):
            self._links.remove(link)
            for peer in self._peers.values():
                peer.unplug_peering(identifier)
        for number in self._nat.values():
            self._edge.unplug_nat(number)
        self._edge.unplug_router(self.number)
        self._nftables.close()
        self._links.close()
        os.close(self.namespace)

    # -- how -----------------------------------------------------------------------------------------------

    def _plug(self, topology: Topology, numbers: addresses.Pool) -> None:
        wanted = {
            each.id
            for each in topology.nat_gateways.values()
            if each.vpc == self.vpc
            and each.state == "available"
            and each.public
            and each.subnet in topology.subnets
        }
        for gone in self._nat.keys() - wanted:
            number = self._nat.pop(gone)
            self._links.remove(f"n{number}")
            self._edge.unplug_nat(number)
        for new in wanted - self._nat.keys():
            # Kept when it comes back: what is being tracked leaves with the address that it had.
            number = self._numbers.get(new) or self._numbers.setdefault(new, numbers.take())
            self._edge.plug_nat(number, addresses.nat(number), self.namespace)
            self._links.raise_up(f"n{number}", addresses.nat(number))
            self._nat[new] = number
        self._plug_peers(topology)

    def _plug_peers(self, topology: Topology) -> None:
        wanted = {
            each.id: self._peers[each.other(self.vpc)]
            for each in topology.peerings.values()
            if each.state == "active"
            and self.vpc in (each.requester, each.accepter)
            and each.other(self.vpc) in self._peers
        }
        for gone in self._peerings.keys() - wanted.keys():
            self._links.remove(self._peerings.pop(gone))
            for peer in self._peers.values():
                peer.unplug_peering(gone)
        for new, peer in wanted.items():
            if new not in self._peerings:
                link = "p" + new.removeprefix("pcx-")[:13]
                self._links.make_pair(link, link, peer.namespace)
                self._links.raise_up(link)
                peer.peer_with(link)
                self._peerings[new] = peer._peerings[new] = link

    def _route(self, topology: Topology) -> dict[int, dict[str, Hop]]:
        """A table for each subnet, chosen by the source's address; and the main one for what comes back."""
        before = self._applied.routes if self._applied is not None else {}
        after: dict[int, dict[str, Hop]] = {}
        local = {block: Hop("local") for block in topology.vpcs[self.vpc].cidrs if ":" not in block}
        after[_MAIN] = {EVERYWHERE: Hop("nowhere"), **local}
        subnets = {subnet.id: subnet for subnet in topology.subnets_of(self.vpc)}
        for subnet in subnets.values():
            after[self._table(subnet)] = hops(topology, subnet)
        for table, routes in after.items():
            old = before.get(table, {})
            for destination in old.keys() - routes.keys():
                self._links.forget_route(destination, table)
            for destination, hop in routes.items():
                if old.get(destination) != hop or hop.kind == "peering":
                    self._put_route(topology, destination, hop, table)
        for table in before.keys() - after.keys():
            for destination in before[table]:
                self._links.forget_route(destination, table)
        for gone in self._rules.keys() - subnets.keys():
            self._links.forget_rule(self._rules.pop(gone)[0])
        for subnet in subnets.values():
            if subnet.id not in self._rules:
                table = self._table(subnet)
                self._links.rule(table, table, source=subnet.cidr)
                self._rules[subnet.id] = (table, subnet.cidr)
        return after

    def _table(self, subnet: Subnet) -> int:
        return self._tables.setdefault(subnet.id, _FIRST_TABLE + len(self._tables))

    def _put_route(self, topology: Topology, destination: str, hop: Hop, table: int) -> None:
        if hop.kind == "local":
            self._links.route(destination, ruleset.EDGE, addresses.GATEWAY, table)
            return
        if hop.kind == "nat" and hop.id in self._nat:
            self._links.route(destination, f"n{self._nat[hop.id]}", addresses.GATEWAY, table)
            return
        if hop.kind == "peering" and hop.id in self._peerings:
            peer = self._peers[topology.peerings[hop.id].other(self.vpc)]
            with contextlib.suppress(OSError):
                self._links.forget_route(destination, table)
            self._links.route(destination, self._peerings[hop.id], peer.address, table)
            return
        with contextlib.suppress(OSError):
            self._links.forget_route(destination, table)
        self._links.drop_route(destination, table)
