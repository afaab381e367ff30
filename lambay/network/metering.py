"""The bytes of a VPC that AWS charges for: through NAT gateways, and from one Availability Zone to another.

Counted by the kernel, after the rules have let a packet pass: named counters in a table of their own, which the
replacement of the rules leaves alone. What a counter counts are IP packets as the VPC's namespace sees them; where
segments travel as one, their headers count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from lambay.network.model import Topology
from lambay.network.nftables import Command, Nftables, Table, jump, match, meta, prefix
from lambay.network.nftables import field as header

TABLE = "metering"
_HOOKS = {"passing": "forward", "arriving": "input", "answering": "output"}

Way = Literal["out", "in", "zones"]


class Meter(msgspec.Struct, frozen=True, order=True):
    """`out` and `in` of a NAT gateway, as seen from the VPC; `zones` counts what crosses Availability Zones, of a
    NAT gateway's traffic or of a file system's, whose mount targets are in the VPC."""

    account: str
    region: str
    resource: str
    way: Way

    @property
    def name(self) -> str:
        return f"{self.resource}-{self.way}"


class Passed(msgspec.Struct, frozen=True):
    """What a meter has counted since it was read last."""

    meter: Meter
    bytes: int
    packets: int


class Metering:
    """Of one VPC. Methods block and belong to the network's one thread."""

    def __init__(self, vpc: str, nftables: Nftables) -> None:
        self._vpc = vpc
        self._nftables = nftables
        self._rules: list[Command] = []
        self._meters: dict[str, Meter] = {}
        self._chains: set[str] = set()
        self._last: dict[str, tuple[int, int]] = {}

    def apply(self, topology: Topology, nat: Mapping[str, str]) -> None:
        """Count what the topology has; `nat` maps NAT gateways to their links. Raises RulesRefused."""
        laid = _Layout(topology, self._vpc, nat)
        if laid.rules.commands == self._rules:
            return
        table = Table(TABLE)
        for name, hook in _HOOKS.items():
            table.chain(name, type="filter", hook=hook, prio=10, policy="accept")
            table.flush_chain(name)
        for gone in sorted(self._chains):
            table.flush_chain(gone)
            table.delete_chain(gone)
        for meter in laid.meters:
            table.counter(meter.name)
        create = {"add": {"table": {"family": "ip", "name": TABLE}}}
        self._nftables.commit([create, *table.commands, *laid.rules.commands])
        self._rules, self._chains = laid.rules.commands, laid.chains
        # Those that nothing leads to any more stay: what they counted is read yet.
        self._meters |= {meter.name: meter for meter in laid.meters}

    def read(self) -> list[Passed]:
        """What has passed since the last time. Raises RulesRefused."""
        if not self._meters:
            return []
        last, self._last = self._last, self._nftables.counters(TABLE)
        found = []
        for name, (size, packets) in self._last.items():
            size_before, packets_before = last.get(name, (0, 0))
            if packets > packets_before:
                found.append(Passed(self._meters[name], size - size_before, packets - packets_before))
        return found


class _Layout:
    """The rules that lead to the meters of a topology."""

    def __init__(self, topology: Topology, vpc: str, nat: Mapping[str, str]) -> None:
        self.rules = Table(TABLE)
        self.meters: list[Meter] = []
        self.chains: set[str] = set()
        self._topology = topology
        self._vpc = topology.vpcs[vpc]
        for identifier in sorted(nat):
            self._nat_gateway(identifier, nat[identifier])
        self._mount_targets()

    def _nat_gateway(self, identifier: str, link: str) -> None:
        forth, back = match(meta("oifname"), link), match(meta("iifname"), link)
        self._rule("passing", [forth], self._meter(identifier, "out"))
        self._rule("passing", [back], self._meter(identifier, "in"))
        zone = self._topology.subnets[self._topology.nat_gateways[identifier].subnet].zone
        elsewhere = self._elsewhere(zone, {self._vpc.id})
        if elsewhere:
            crossing = self._meter(identifier, "zones")
            self._rule("passing", [forth, match(header("saddr"), elsewhere)], crossing)
            self._rule("passing", [back, match(header("daddr"), elsewhere)], crossing)

    def _mount_targets(self) -> None:
        topology = self._topology
        near = {each for each in topology.vpcs if topology.peered(self._vpc.id, each)}
        found = {each.address: each for each in topology.interfaces_of(self._vpc.id) if each.file_system}
        elsewhere = {
            zone: self._elsewhere(zone, near)
            for zone in {topology.subnets[each.subnet].zone for each in found.values()}
        }
        found = {
            address: each
            for address, each in sorted(found.items())
            if elsewhere[topology.subnets[each.subnet].zone] is not None
        }
        for interface in found.values():
            others = elsewhere[topology.subnets[interface.subnet].zone]
            meter = self._meter(interface.file_system, "zones")
            self.chains.add(interface.id)
            self.rules.chain(interface.id)
            self._rule(interface.id, [match(header("saddr"), others)], meter)
            self._rule(interface.id, [match(header("daddr"), others)], meter)
        if found:
            ways = {"set": [[address, jump(each.id)] for address, each in found.items()]}
            for chain, side in (("arriving", "daddr"), ("answering", "saddr")):
                self.rules.rule(chain, {"vmap": {"key": header(side), "data": ways}})

    def _elsewhere(self, zone: str, vpcs: set[str]) -> Command | None:
        """The subnets that are in another zone of the Region, as a set."""
        blocks = [
            prefix(each.cidr)
            for each in sorted(self._topology.subnets.values(), key=lambda each: each.id)
            if each.vpc in vpcs
            and each.zone != zone
            and self._topology.vpcs[each.vpc].region == self._vpc.region
        ]
        return {"set": blocks} if blocks else None

    def _meter(self, resource: str, way: Way) -> Meter:
        meter = Meter(self._vpc.account, self._vpc.region, resource, way)
        if meter not in self.meters:
            self.meters.append(meter)
        return meter

    def _rule(self, chain: str, conditions: Iterable[Command], meter: Meter) -> None:
        self.rules.rule(chain, *conditions, {"counter": meter.name})
