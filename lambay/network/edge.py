"""The edge: where every environment's cable ends, as behind Hyperplane's interfaces in AWS.

An environment has a link-local address of no subnet. What leaves it for a VPC takes on the address of the
interface that its function has in the subnet; what leaves it for the internet goes by the host, as does
what comes from NAT gateways. An environment that has not been joined to anything reaches nothing. Methods
block and belong to the network's one thread.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from lambay.network import addresses, namespaces, ruleset
from lambay.network.cables import Edgewise
from lambay.network.conntrack import Conntrack
from lambay.network.links import Links
from lambay.network.nftables import (
    ACCEPT,
    DROP,
    Nftables,
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
from lambay.network.router import SYSCTLS
from lambay.network.uplink import HOST_LINK, LAN, Uplink

TABLE = "edge"
_INTERNET = 1
# A VPC's mark, routing table and conntrack zone are all this and its number.
_VPC = 1000


@dataclass(frozen=True, slots=True)
class Cable:
    """From an environment; `address` is its own."""

    number: int

    @property
    def address(self) -> str:
        return addresses.environment(self.number)

    @property
    def link(self) -> str:
        return f"e{self.number}"


class Edge:
    def __init__(self, uplink: Uplink, *, allow_lan: bool) -> None:
        self.namespace = namespaces.make(SYSCTLS)
        self._links = Links(self.namespace)
        self._nftables = Nftables(self.namespace)
        self._conntrack = Conntrack(self.namespace)
        self._cables = Edgewise(self.namespace)
        self._numbers = addresses.environments()
        self._routers: set[int] = set()
        self._allow_lan = allow_lan
        self._links.raise_up("lo", addresses.GATEWAY)
        self._lay_rules()
        self._uplink = uplink
        uplink.plug(self.namespace)
        self._links.raise_up(HOST_LINK, uplink.inner, uplink.length)
        self._links.route("0.0.0.0/0", HOST_LINK, uplink.outer)

    def close(self) -> None:
        self._uplink.unplug()
        self._cables.close()
        self._conntrack.close()
        self._nftables.close()
        self._links.close()
        os.close(self.namespace)

    # -- environments --------------------------------------------------------------------------------------

    def plug(self, environment: int) -> Cable:
        """Give the environment's namespace a link to here. It reaches nothing yet. Raises OSError."""
        cable = Cable(self._numbers.take())
        try:
            self._cables.lay(environment, cable.number, cable.link, cable.address, addresses.GATEWAY)
            table = Table(TABLE)
            table.put("own", [{"concat": [cable.link, cable.address]}])
            table.put("numbers", [[cable.address, cable.number]])
            self._nftables.commit(table.commands)
        except BaseException:
            self._numbers.give_back(cable.number)
            raise
        return cable

    def unplug(self, cable: Cable, place: tuple[int, str] | None, joined: bool) -> None:
        """The environment has ended, or will have: its link goes with its namespace."""
        table = Table(TABLE)
        table.take("own", [{"concat": [cable.link, cable.address]}])
        table.take("numbers", [[cable.address, cable.number]])
        self._leave(table, cable, place, joined)
        self._nftables.commit(table.commands)
        # Its address will be another's, who must not go on behind the interface of this one.
        self._conntrack.forget(cable.number)
        with contextlib.suppress(ProcessLookupError):
            # Gone with the link already, where the environment's namespace has ended before.
            self._cables.forget(cable.number, cable.address)
        self._numbers.give_back(cable.number)

    def join_internet(self, cable: Cable) -> None:
        table = Table(TABLE)
        table.put("marks", [[cable.address, _INTERNET]])
        self._nftables.commit(table.commands)

    def join(self, cable: Cable, router: int, interface: str) -> None:
        """Behind the address of a network interface in the VPC whose router has this number."""
        table = Table(TABLE)
        table.put("interfaces", [[cable.address, interface]])
        table.put("marks", [[cable.address, _VPC + router]])
        self._nftables.commit(table.commands)

    def _leave(self, table: Table, cable: Cable, place: tuple[int, str] | None, joined: bool) -> None:
        if place is not None:
            router, interface = place
            table.take("marks", [[cable.address, _VPC + router]])
            table.take("interfaces", [[cable.address, interface]])
        elif joined:
            table.take("marks", [[cable.address, _INTERNET]])

    # -- VPCs ----------------------------------------------------------------------------------------------

    def plug_router(self, number: int, router: int) -> None:
        link = f"v{number}"
        self._links.make_pair(link, ruleset.EDGE, router)
        self._links.raise_up(link)
        self._links.route("0.0.0.0/0", link, addresses.router(number), _VPC + number)
        self._links.rule(_VPC + number, _VPC + number, mark=_VPC + number)
        self._routers.add(number)
        self._zone()

    def unplug_router(self, number: int) -> None:
        self._routers.discard(number)
        self._zone()
        self._links.forget_rule(_VPC + number)
        self._links.forget_route("0.0.0.0/0", _VPC + number)
        self._links.remove(f"v{number}")

    def plug_nat(self, number: int, address: str, router: int) -> None:
        """A cable of a NAT gateway of the router's VPC."""
        link = f"n{number}"
        self._links.forget(link)
        self._links.make_pair(link, link, router)
        self._links.raise_up(link)
        self._links.route(f"{address}/32", link, address)

    def unplug_nat(self, number: int) -> None:
        self._links.remove(f"n{number}")

    # -- rules ---------------------------------------------------------------------------------------------

    def _zone(self) -> None:
        """VPCs may have the same addresses: each has its own table of connections."""
        table = Table(TABLE)
        table.flush_chain("zones")
        for number in sorted(self._routers):
            zone = {"mangle": {"key": ct("zone"), "value": _VPC + number}}
            table.rule("zones", match(meta("mark"), _VPC + number), zone)
            table.rule("zones", match(meta("iifname"), f"v{number}"), zone)
        self._nftables.commit(table.commands)

    def _lay_rules(self) -> None:
        table = Table(TABLE)
        table.set("own", ["ifname", "ipv4_addr"])
        table.map("marks", "ipv4_addr", "mark")
        table.map("numbers", "ipv4_addr", "mark")
        table.map("interfaces", "ipv4_addr", "ipv4_addr")
        table.set("lan", "ipv4_addr", [prefix(block) for block in LAN], interval=True)
        table.chain("zones")
        self._arrival(table)
        table.chain("input", type="filter", hook="input", prio=0, policy="drop")
        table.rule("input", match(ct("state"), ["established", "related"], "in"), ACCEPT)
        for protocol in ("udp", "tcp"):
            table.rule(
                "input",
                match(meta("mark"), _INTERNET),
                match(header("daddr"), addresses.GATEWAY),
                match(header("dport", protocol), 53),
                ACCEPT,
            )
        self._passage(table)
        table.chain("departure", type="nat", hook="postrouting", prio=100, policy="accept")
        translated = {"snat": {"addr": {"map": {"key": header("saddr"), "data": "@interfaces"}}}}
        table.rule("departure", match(meta("oifname"), "v*"), translated)
        table.rule("departure", match(meta("oifname"), HOST_LINK), {"masquerade": None})
        self._nftables.commit([*replaced_table(TABLE), *table.commands])

    def _arrival(self, table: Table) -> None:
        table.chain("arrival", type="filter", hook="prerouting", prio=-300, policy="accept")
        theirs = match(meta("iifname"), "e*")
        sender = {"concat": [meta("iifname"), header("saddr")]}
        table.rule("arrival", theirs, match(sender, "@own", "!="), DROP)
        marked = {
            "mangle": {"key": meta("mark"), "value": {"map": {"key": header("saddr"), "data": "@marks"}}}
        }
        table.rule("arrival", theirs, marked)
        table.rule("arrival", jump("zones"))
        table.chain("names", type="nat", hook="prerouting", prio=-100, policy="accept")
        to_resolver = [match(meta("mark"), _INTERNET), match(header("daddr"), ruleset.RESOLVER)]
        table.rule("names", *to_resolver, {"dnat": {"addr": addresses.GATEWAY}})

    def _passage(self, table: Table) -> None:
        table.chain("passage", type="filter", hook="forward", prio=0, policy="drop")
        table.rule("passage", match(ct("state"), ["established", "related"], "in"), ACCEPT)
        number = {"map": {"key": header("saddr"), "data": "@numbers"}}
        known = {"mangle": {"key": ct("mark"), "value": number}}
        table.rule("passage", match(meta("iifname"), "e*"), known)
        theirs, out = match(meta("iifname"), "e*"), match(meta("oifname"), HOST_LINK)
        vpcs = match(meta("mark"), ports(_VPC, _VPC + 0xFFFF))
        table.rule("passage", theirs, vpcs, match(meta("oifname"), "v*"), ACCEPT)
        if not self._allow_lan:
            table.rule("passage", out, match(header("daddr"), "@lan"), DROP)
        table.rule("passage", theirs, out, match(meta("mark"), _INTERNET), ACCEPT)
        table.rule("passage", match(meta("iifname"), "n*"), out, ACCEPT)
