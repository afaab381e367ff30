"""A VPC's security groups and network ACLs as one nftables table; pure.

Links of a VPC's namespace: `edge` leads to the functions (behind their interfaces' addresses), `n…` through
one NAT gateway, `p…` to one peered VPC. Mount targets' addresses are the namespace's own. ACLs see each
packet, groups see the first of a connection: what is established goes on when a rule is taken away, as
tracked connections do in AWS, and connections of functions are always tracked ("Security group connection
tracking").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from lambay.network.model import AclEntry, Interface, Permission, Topology
from lambay.network.model.records import ALL_PORTS, ALL_PROTOCOLS, NUMBERS, network
from lambay.network.model.rules import ECHO_REQUEST
from lambay.network.nftables import (
    ACCEPT,
    DROP,
    RETURN,
    Command,
    Table,
    ct,
    jump,
    match,
    meta,
    ports,
    prefix,
    replaced_table,
)
from lambay.network.nftables import field as header

TABLE = "vpc"
EDGE = "edge"
RESOLVER = "169.254.169.253"
# Of the flags FIN, SYN, RST and ACK only SYN: whatever connection its ports may have belonged to before, it
# opens another.
_OPENING = match({"&": [header("flags", "tcp"), 0x17]}, 0x02)
_WITH_PORTS = (NUMBERS["tcp"], NUMBERS["udp"])


def resolver_addresses(topology: Topology, vpc: str) -> tuple[str, ...]:
    """Where a VPC's resolver listens: see "Amazon DNS server"."""
    found = topology.vpcs[vpc]
    if not found.dns:
        return ()
    base = IPv4Address(int(network(found.cidrs[0]).network_address)) + 2
    return (RESOLVER, str(base))


@dataclass(frozen=True, slots=True)
class Links:
    """`nat` maps NAT gateways to their link and the address that their traffic leaves with; `peerings` maps
    peerings to their link."""

    nat: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    peerings: Mapping[str, str] = field(default_factory=dict)


def commands(topology: Topology, vpc: str, links: Links) -> list[Command]:
    """The transaction that puts the VPC's whole table in the place of the one before."""
    rules = _Ruleset(topology, vpc, links)
    rules.render()
    return [*replaced_table(TABLE), *rules.table.commands]


class _Ruleset:
    def __init__(self, topology: Topology, vpc: str, links: Links) -> None:
        self.topology, self.vpc, self.links = topology, vpc, links
        self.table = Table(TABLE)
        self._subnets = sorted(topology.subnets_of(vpc), key=lambda each: each.id)
        interfaces = sorted(topology.interfaces_of(vpc), key=lambda each: each.id)
        self._functions = [each for each in interfaces if each.function]
        self._targets = [each for each in interfaces if not each.function]
        self._acls: dict[str, str] = {}

    def render(self) -> None:
        table = self.table
        self._members()
        for chain in ("acls", "nat", "connections"):
            table.chain(chain)
        self._acl_chains()
        self._connection_chains()
        for hook in ("input", "output", "forward"):
            table.chain(hook, type="filter", hook=hook, prio=0, policy="drop")
            self._origin(hook)
            if hook != "forward":
                self._resolver(hook)
            else:
                self._nat_crossings()
            table.rule(hook, jump("acls"))
            if hook != "output":
                table.rule(hook, _OPENING, jump("connections"))
            table.rule(hook, match(ct("state"), ["established", "related"], "in"), ACCEPT)
            if hook != "output":
                table.rule(hook, match(ct("state"), "new"), jump("connections"))
        if self.links.nat:
            table.chain("leaving", type="nat", hook="postrouting", prio=100, policy="accept")
        for link, address in self.links.nat.values():
            table.rule("leaving", match(meta("oifname"), link), {"snat": {"addr": address}})

    def _members(self) -> None:
        """Each security group that a rule of ours names, as the set of its members' addresses."""
        named = {
            permission.peer
            for interface in (*self._functions, *self._targets)
            for group in interface.groups
            if group in self.topology.groups
            for permission in (*self.topology.groups[group].ingress, *self.topology.groups[group].egress)
            if permission.peer.startswith("sg-")
        }
        for group in sorted(named):
            addresses = sorted(
                each.address
                for each in self.topology.interfaces.values()
                if group in each.groups and self.topology.peered(self.vpc, each.vpc)
            )
            self.table.set(group, "ipv4_addr", addresses)

    def _origin(self, hook: str) -> None:
        """Over a peering come the other VPC's addresses alone, for addresses of ours."""
        if hook == "output":
            return
        for identifier, link in self.links.peerings.items():
            other = self.topology.vpcs.get(self.topology.peerings[identifier].other(self.vpc))
            blocks = [prefix(block) for block in other.cidrs] if other is not None else []
            if blocks:
                self.table.rule(
                    hook, match(meta("iifname"), link), match(header("saddr"), {"set": blocks}, "!="), DROP
                )

    def _resolver(self, hook: str) -> None:
        """Neither groups nor ACLs filter what goes to and from the Amazon DNS server."""
        addresses = resolver_addresses(self.topology, self.vpc)
        if not addresses:
            return
        inward = hook == "input"
        for protocol in ("udp", "tcp"):
            self.table.rule(
                hook,
                match(meta("iifname" if inward else "oifname"), EDGE),
                match(header("daddr" if inward else "saddr"), {"set": list(addresses)}),
                match(header("dport" if inward else "sport", protocol), 53),
                ACCEPT,
            )

    # -- network ACLs --------------------------------------------------------------------------------------

    def _acl_chains(self) -> None:
        for subnet in self._subnets:
            block = prefix(subnet.cidr)
            self.table.rule("acls", match(header("saddr"), block), match(header("daddr"), block), RETURN)
        outward = [[prefix(each.cidr), jump(self._acl(each.id, "egress"))] for each in self._subnets]
        inward = [[prefix(each.cidr), jump(self._acl(each.id, "ingress"))] for each in self._subnets]
        if self._subnets:
            self.table.rule("acls", _dispatch("saddr", outward))
            self.table.rule("acls", jump("nat"))
            self.table.rule("acls", _dispatch("daddr", inward))

    def _acl(self, subnet: str, direction: str) -> str:
        """The chain of the subnet's ACL: it returns what may pass."""
        acl = self.topology.acl_of(subnet)
        name = f"{acl.id if acl is not None else 'none'}-{direction}"
        if name in self._acls:
            return name
        self._acls[name] = name
        self.table.chain(name)
        for entry in acl.entries if acl is not None else ():
            if entry.egress is (direction == "egress"):
                conditions = _entry(entry, "daddr" if entry.egress else "saddr")
                if conditions is not None:
                    self.table.rule(name, *conditions, RETURN if entry.allow else DROP)
        self.table.rule(name, RETURN if acl is None else DROP)
        return name

    def _nat_crossings(self) -> None:
        """A connection through a NAT gateway crosses the borders of the gateway's subnet as well."""
        for identifier, (link, _) in self.links.nat.items():
            place = self.topology.nat_gateways[identifier].subnet
            own = prefix(self.topology.subnets[place].cidr)
            into, out = self._acl(place, "ingress"), self._acl(place, "egress")
            forth, back = match(meta("oifname"), link), match(meta("iifname"), link)
            self.table.rule("nat", forth, match(header("saddr"), own, "!="), jump(into))
            self.table.rule("nat", forth, jump(out))
            self.table.rule("nat", back, jump(into))
            self.table.rule("nat", back, match(header("daddr"), own, "!="), jump(out))

    # -- security groups -----------------------------------------------------------------------------------

    def _connection_chains(self) -> None:
        table = self.table
        for interface in self._functions:
            self._group_chain(interface, f"out-{interface.id}", "egress", RETURN)
        for interface in self._targets:
            self._group_chain(interface, f"in-{interface.id}", "ingress", ACCEPT)
        from_edge = match(meta("iifname"), EDGE)
        if self._functions:
            known = [each.address for each in self._functions]
            table.rule("connections", from_edge, match(header("saddr"), {"set": known}, "!="), DROP)
            leaving = [[each.address, jump(f"out-{each.id}")] for each in self._functions]
            table.rule("connections", from_edge, _dispatch("saddr", leaving))
        else:
            table.rule("connections", from_edge, DROP)
        if self._targets:
            arriving = [[each.address, jump(f"in-{each.id}")] for each in self._targets]
            table.rule("connections", _dispatch("daddr", arriving))
        for link in (*(link for link, _ in self.links.nat.values()), *self.links.peerings.values()):
            table.rule("connections", from_edge, match(meta("oifname"), link), ACCEPT)
        table.rule("connections", DROP)

    def _group_chain(self, interface: Interface, name: str, direction: str, verdict: Command) -> None:
        self.table.chain(name)
        for identifier in interface.groups:
            group = self.topology.groups.get(identifier)
            if group is None:
                continue
            for permission in group.ingress if direction == "ingress" else group.egress:
                for conditions in self._permission(
                    permission, "saddr" if direction == "ingress" else "daddr"
                ):
                    self.table.rule(name, *conditions, verdict)
        self.table.rule(name, DROP)

    def _permission(self, permission: Permission, side: str) -> Iterator[list[Command]]:
        about = list(_protocol(permission.protocol, permission.ports))
        if permission.protocol == NUMBERS["icmp"] and permission.ports[0] not in (-1, ECHO_REQUEST):
            return
        if permission.peer.startswith("sg-"):
            yield [match(header(side), f"@{permission.peer}"), *about]
            return
        blocks = [block for block in self.topology.blocks(permission.peer) if ":" not in block]
        for block in blocks:
            yield [*_address(side, block), *about]


def _dispatch(side: str, pairs: Iterable[Sequence[object]]) -> Command:
    return {"vmap": {"key": header(side), "data": {"set": [list(pair) for pair in pairs]}}}


def _address(side: str, cidr: str) -> Iterator[Command]:
    if network(cidr).prefixlen > 0:
        yield match(header(side), prefix(str(network(cidr))))


def _entry(entry: AclEntry, side: str) -> list[Command] | None:
    """The conditions of an ACL's entry; None for one about IPv6."""
    if ":" in entry.cidr:
        return None
    return [*_address(side, entry.cidr), *_protocol(entry.protocol, entry.ports)]


def _protocol(number: int, given: tuple[int, int]) -> Iterator[Command]:
    if number == ALL_PROTOCOLS:
        return
    yield match(meta("l4proto"), number)
    if number in _WITH_PORTS and given != ALL_PORTS:
        yield match(header("dport", "th"), ports(*given))
