"""The same question answered the slow way: two packets carried by hand through lists of single addresses.

Written from the user guide's words and sharing nothing with the model but its records: every CIDR is spelled
out as a set of addresses, every range of ports as a set of ports, and a packet is a tuple.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address, ip_network
from itertools import chain

from lambay.network.model import Interface, Protocol, Subnet, Topology

PACKET = tuple[str, int, str, int]  # source, its port, destination, its port


@cache
def addresses(cidr: str) -> frozenset[str]:
    return frozenset(str(address) for address in ip_network(cidr))


@cache
def spelled(first: int, last: int) -> frozenset[int]:
    return frozenset(range(first, last + 1))


@cache
def within(address: str, cidr: str) -> bool:
    block = ip_network(cidr)
    if block.version != 4:
        return False
    # Spelling out a large block would take for ever; its first bits say the same.
    if block.prefixlen < 20:
        return (
            f"{int(ip_address(address)):032b}"[: block.prefixlen]
            == (f"{int(block.network_address):032b}"[: block.prefixlen])
        )
    return address in addresses(cidr)


def passes(
    topology: Topology, source: Interface, to: str, there: Interface | None, p: Protocol, port: int, back: int
) -> bool:
    """One connection from port `back` of `source` to `port` at address `to`, where `there` is, if anything."""
    number = {"icmp": 1, "tcp": 6, "udp": 17}[p]

    def group_lets(end: Interface, rules_of: str, far: str, far_end: Interface | None) -> bool:
        for name in end.groups:
            for rule in getattr(topology.groups[name], rules_of):
                if rule.protocol not in (-1, number):
                    continue
                if rule.protocol != -1 and port not in spelled(*rule.ports):
                    continue
                if rule.peer.startswith("sg-"):
                    same = far_end is not None and (
                        far_end.vpc == end.vpc
                        or any(
                            {x.requester, x.accepter} == {far_end.vpc, end.vpc} and x.state == "active"
                            for x in topology.peerings.values()
                        )
                    )
                    if same and far_end is not None and rule.peer in far_end.groups:
                        return True
                elif rule.peer.startswith("pl-"):
                    if rule.peer in topology.prefix_lists and any(
                        within(far, c) for c in topology.prefix_lists[rule.peer].cidrs
                    ):
                        return True
                elif within(far, rule.peer):
                    return True
        return False

    def acl_lets(subnet: str, egress: bool, far: str, far_port: int) -> bool:
        named = [acl for acl in topology.acls.values() if subnet in acl.subnets]
        default = [
            acl for acl in topology.acls.values() if acl.default and acl.vpc == topology.subnets[subnet].vpc
        ]
        entries = sorted(
            chain(*(acl.entries for acl in (named or default)[:1])), key=lambda entry: entry.number
        )
        for entry in entries:
            about = entry.protocol == -1 or (entry.protocol == number and far_port in spelled(*entry.ports))
            if entry.egress == egress and about and within(far, entry.cidr):
                return entry.allow
        return False

    def next_hop(subnet: str, address: str) -> str:
        own = [table for table in topology.route_tables.values() if subnet in table.subnets]
        main = [
            table
            for table in topology.route_tables.values()
            if table.main and table.vpc == topology.subnets[subnet].vpc
        ]
        for length in range(32, -1, -1):
            found = []
            for route in (own or main)[0].routes:
                listed = route.destination.startswith("pl-")
                blocks = topology.prefix_lists[route.destination].cidrs if listed else (route.destination,)
                if any(ip_network(block).prefixlen == length and within(address, block) for block in blocks):
                    found.append((listed, route))
            if found:
                found.sort(key=lambda pair: pair[0])
                return found[0][1].target if found[0][1].active else "nowhere"
        return "nowhere"

    def crossing(one: Subnet, other: Subnet, packet: PACKET) -> bool:
        """A packet from an address of one subnet to one of the other, past both subnets' ACLs."""
        if one.id == other.id:
            return True
        return acl_lets(one.id, True, packet[2], packet[3]) and acl_lets(
            other.id, False, packet[0], packet[3]
        )

    here = topology.subnets[source.subnet]
    forth: PACKET = (source.address, back, to, port)
    answer: PACKET = (to, port, source.address, back)
    if not group_lets(source, "egress", to, there):
        return False
    hop = next_hop(here.id, to)
    if hop.startswith("vpce-"):
        return acl_lets(here.id, True, to, port) and topology.endpoints[hop].state == "available"
    if hop.startswith("nat-"):
        if hop not in topology.nat_gateways:
            return False
        nat = topology.nat_gateways[hop]
        if nat.state != "available" or not nat.public:
            return False
        place = topology.subnets[nat.subnet]
        gate = next_hop(place.id, to)
        if not gate.startswith("igw-") or gate not in topology.internet_gateways:
            return False
        if topology.internet_gateways[gate].vpc != place.vpc:
            return False
        # The private subnet's border, the NAT gateway's, and the way out of its subnet.
        if here.id != place.id and not acl_lets(place.id, False, source.address, port):
            return False
        out = acl_lets(here.id, True, to, port) and acl_lets(place.id, True, to, port)
        into = acl_lets(place.id, False, to, back) and acl_lets(here.id, False, to, back)
        if here.id != place.id and not acl_lets(place.id, True, source.address, back):
            return False
        return out and into
    vpc = here.vpc if hop == "local" else ""
    if hop.startswith("pcx-") and hop in topology.peerings and topology.peerings[hop].state == "active":
        ends = [topology.peerings[hop].requester, topology.peerings[hop].accepter]
        vpc = ends[1] if ends[0] == here.vpc else ends[0]
    if there is None or there.vpc != vpc or there.function:
        return False
    subnet = topology.subnets[there.subnet]
    if not crossing(here, subnet, forth) or not group_lets(there, "ingress", source.address, source):
        return False
    if vpc != here.vpc:
        way_back = next_hop(subnet.id, source.address)
        if way_back not in topology.peerings or topology.peerings[way_back].state != "active":
            return False
        if {topology.peerings[way_back].requester, topology.peerings[way_back].accepter} != {vpc, here.vpc}:
            return False
    return crossing(subnet, here, answer)
