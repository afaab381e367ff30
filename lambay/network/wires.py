"""What the topology says, made true on this machine: links for environments, routers for VPCs, mount targets' doors.

All that touches the kernel's networks runs in one thread, in order; the event loop's side only waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec.structs import replace

from lambay.aws import AWSError
from lambay.network import addresses, gate, namespaces
from lambay.network.doors import NFS_PORT, Door, NfsClients
from lambay.network.edge import Cable, Edge
from lambay.network.lifelines import Lifeline, connect, discard
from lambay.network.metering import Passed
from lambay.network.model import Interface, Permission, Topology, reach
from lambay.network.resolver import Resolver
from lambay.network.router import Router
from lambay.network.ruleset import resolver_addresses
from lambay.network.topologies import Topologies
from lambay.network.uplink import Uplink
from lambay.runtime import (
    ENDPOINT_PORT,
    MountConnectivityFailure,
    MountTarget,
    MountTargets,
    MountTimeout,
    Placement,
    SandboxFailure,
)
from lambay.runtime.wiring import Mounted
from lambay.settings import Settings

R = TypeVar("R")

_MOST_VPCS = 4096
# An interface that a function's owner has just made, or makes again after a start.
_INTERFACE_SECONDS = 30.0
_MOUNT_TARGET = re.compile(r"mount target (fsmt-[0-9a-f]+)")

_NO_WAY = ("no route", "route leads nowhere", "peering", "no such address")

_log = logging.getLogger("lambay.network")


class Wires:
    """`status` counts for `lambay status`: links, VPCs in use, lifelines, zones taken down."""

    def __init__(self, settings: Settings, topologies: Topologies, clients: NfsClients) -> None:
        self._settings = settings
        self._topologies = topologies
        self._clients = clients
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambay-network")
        self._edge: Edge | None = None
        self._routers: dict[str, Router] = {}
        # VPCs that have environments, and those of them whose rules are in force.
        self._wanted: set[str] = set()
        self._inhabited: set[str] = set()
        self._router_numbers = addresses.Pool(_MOST_VPCS)
        self._nat_numbers = addresses.Pool(_MOST_VPCS)
        self._doors: dict[str, tuple[Interface, Door]] = {}
        self._lifelines: set[Lifeline] = set()
        self._resolver = Resolver(topologies)
        self._turns: Counter[Placement] = Counter()
        self._down: set[str] = set()
        self._building = asyncio.Lock()
        self._applying = asyncio.Lock()
        self._topology = topologies.latest
        self._links = 0
        self._gated: dict[Link, bool] = {}
        self._passed: list[Passed] = []
        topologies.on_apply(self._apply)

    # -- what the runtime asks -----------------------------------------------------------------------------

    async def plug(self, network: int) -> Link:
        """Raises OSError."""
        edge = await self._the_edge()
        cable = await self.in_thread(edge.plug, network)
        self._links += 1
        return Link(self, edge, cable, network)

    async def stop(self) -> None:
        """Give everything back."""
        await self._topologies.stop()
        for lifeline in list(self._lifelines):
            lifeline.close()
        for _, door in self._doors.values():
            door.close()
        self._doors.clear()
        self._resolver.close()
        await self.in_thread(self._clear)
        self._thread.shutdown()

    # -- what the server asks ------------------------------------------------------------------------------

    async def take_zone_down(self, zone: str) -> None:
        """Nothing reaches the zone's mount targets until `bring_zone_up`."""
        self._down.add(zone)
        await self._apply(self._topology)

    async def bring_zone_up(self, zone: str) -> None:
        self._down.discard(zone)
        await self._apply(self._topology)

    def status(self) -> dict[str, object]:
        return {
            "links": self._links,
            "vpcs": sorted(self._routers),
            "lifelines": len(self._lifelines),
            "zones_down": sorted(self._down),
        }

    async def passed(self) -> list[Passed]:
        """What went through NAT gateways and from zone to zone since this was asked last, also after `stop`.

        Raises OSError.
        """
        if self._routers:
            await self.in_thread(self._read_meters)
        passed, self._passed = self._passed, []
        return passed

    # -- how -----------------------------------------------------------------------------------------------

    async def in_thread(self, work: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _the_edge(self) -> Edge:
        async with self._building:
            if self._edge is None:
                self._edge = await self.in_thread(self._make_edge)
                await self._resolver.serve_internet(
                    await self.in_thread(_resolver_socket, self._edge.namespace, addresses.GATEWAY)
                )
        return self._edge

    def _make_edge(self) -> Edge:
        allow_lan = self._settings.allow_lan
        return Edge(Uplink(self._settings.tag, allow_lan=allow_lan), allow_lan=allow_lan)

    def _read_meters(self) -> None:
        for router in self._routers.values():
            self._passed += router.passed()

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            self._read_meters()
        for router in list(self._routers.values()):
            router.close()
        self._routers.clear()
        if self._edge is not None:
            self._edge.close()
            self._edge = None

    async def place(self, placement: Placement) -> Interface:
        """The interface that the next environment there is behind. Raises SandboxFailure."""
        groups = tuple(sorted(placement.groups))

        def interfaces(topology: Topology) -> list[Interface]:
            found = [
                each
                for each in topology.interfaces.values()
                if each.function and each.subnet in placement.subnets and tuple(sorted(each.groups)) == groups
            ]
            return sorted(found, key=lambda each: placement.subnets.index(each.subnet))

        where = (placement.account, placement.region)
        try:
            topology = await self._topologies.until(
                lambda topology: bool(interfaces(topology)), *where, _INTERFACE_SECONDS
            )
        except AWSError as error:
            raise SandboxFailure(f"the network of VPC {placement.vpc}: {error.message}") from error
        found = interfaces(topology)
        if not found:
            raise SandboxFailure(
                f"no network interface for {', '.join(placement.groups)} in {', '.join(placement.subnets)}"
            )
        up = [each for each in found if topology.subnets[each.subnet].zone not in self._down] or found
        self._turns[placement] += 1
        return up[self._turns[placement] % len(up)]

    async def router(self, vpc: str) -> Router:
        """The VPC's, once its rules are in force. Raises OSError."""
        if vpc not in self._inhabited:
            await self._the_edge()
            async with self._building:
                if vpc not in self._inhabited:
                    self._wanted.add(vpc)
                    try:
                        await self._apply(self._topology)
                    except BaseException:
                        self._wanted.discard(vpc)
                        raise
                    self._inhabited.add(vpc)
        router = self._routers.get(vpc)
        if router is None:
            raise OSError(errno.ENETUNREACH, f"VPC {vpc} is gone")
        return router

    def _make_routers(self, topology: Topology) -> None:
        """Of the VPCs in use, and of those that they have peerings with by now."""
        edge = self._edge
        if edge is None:
            return
        reached = {
            each.other(vpc)
            for each in topology.peerings.values()
            if each.state == "active"
            for vpc in self._wanted & {each.requester, each.accepter}
        }
        for vpc in (self._wanted | reached) & topology.vpcs.keys() - self._routers.keys():
            self._routers[vpc] = Router(vpc, self._router_numbers.take(), edge, self._routers)

    async def _apply(self, topology: Topology) -> None:
        async with self._applying:
            self._topology = topology
            if not self._wanted:
                return
            await self._close_doors(topology)
            await self.in_thread(self._apply_rules, topology)
            await self._open_doors(topology)
            open_groups = _ungrouped(topology) if self._lifelines else topology
            for lifeline in list(self._lifelines):
                self._judge(open_groups, lifeline)
            for link in list(self._gated):
                await self._gate(link)

    def _apply_rules(self, topology: Topology) -> None:
        for vpc, router in list(self._routers.items()):
            if vpc not in topology.vpcs:
                self._passed += router.passed()
                router.close()
                del self._routers[vpc]
                self._router_numbers.give_back(router.number)
                self._resolver.forget(vpc)
                self._wanted.discard(vpc)
                self._inhabited.discard(vpc)
        self._make_routers(topology)
        for router in self._routers.values():
            router.apply(topology, self._nat_numbers)

    async def _close_doors(self, topology: Topology) -> None:
        for identifier, (interface, door) in list(self._doors.items()):
            if not self._open(topology, topology.interfaces.get(interface.id)):
                del self._doors[identifier]
                # Whoever is connected is told before the address vanishes, and nothing could be told any more.
                door.close()
                router = self._routers.get(interface.vpc)
                if router is not None:
                    await self.in_thread(router.let_go, interface.address)

    async def _open_doors(self, topology: Topology) -> None:
        for interface in list(topology.interfaces.values()):
            named = _MOUNT_TARGET.search(interface.owner)
            router = self._routers.get(interface.vpc)
            if (
                named is None
                or router is None
                or named[1] in self._doors
                or not self._open(topology, interface)
            ):
                continue
            await self.in_thread(router.hold, interface.address)
            listening = await self.in_thread(_listen, router.namespace, interface.address)
            self._doors[named[1]] = (interface, Door(listening, named[1], self._clients))
        for vpc, router in self._routers.items():
            if not self._resolver.serves(vpc) and topology.vpcs[vpc].dns:
                sockets = await self.in_thread(_resolver_sockets, router.namespace, topology, vpc)
                await self._resolver.serve(vpc, sockets)

    def _open(self, topology: Topology, interface: Interface | None) -> bool:
        return interface is not None and topology.subnets[interface.subnet].zone not in self._down

    def _judge(self, topology: Topology, lifeline: Lifeline) -> None:
        """Whether packets of an established connection still pass, in a topology whose groups have no say."""
        target = topology.at(_vpc_of(topology, lifeline.target.id), lifeline.target.address)
        if target is None:
            lifeline.end(f"mount target {lifeline.target.id} was deleted")
            return
        verdict = reach(topology, lifeline.source, target, "tcp", NFS_PORT)
        if verdict.allowed:
            lifeline.mend()
        else:
            lifeline.cut(verdict.sentence, self._settings.stall_seconds)

    async def lifeline(
        self, network: int, source: Interface, targets: MountTargets, mounted: Mounted, seconds: float
    ) -> Lifeline:
        """Raises MountTimeout, MountConnectivityFailure."""
        topology = await self._topologies.of(targets.account, targets.region)
        zone = topology.subnets[source.subnet].zone
        # As Lambda does: the mount target of the subnet's own zone or none.
        target = targets.by_zone.get(zone)
        if target is None:
            raise MountConnectivityFailure(f"the file system has no mount target in {zone}")
        opened = await self.in_thread(namespaces.open_socket, network, socket.SOCK_STREAM)
        try:
            limit = min(seconds, self._settings.mount_seconds)
            await connect(opened, target, limit, self._settings.stall_seconds)
        except (MountTimeout, MountConnectivityFailure) as failure:
            discard(opened)
            raise self._explained(failure, source, target) from failure
        except BaseException:
            discard(opened)
            raise
        lifeline = Lifeline(opened, source, target, mounted)
        self._lifelines.add(lifeline)
        return lifeline

    def _explained(
        self, failure: MountTimeout | MountConnectivityFailure, source: Interface, target: MountTarget
    ) -> MountTimeout | MountConnectivityFailure:
        """The failure with its cause, where the model knows one: without a way there it is no mere timeout."""
        if target.zone in self._down:
            return MountTimeout(f"Availability Zone {target.zone} of mount target {target.id} is down")
        topology = self._topology
        found = topology.at(_vpc_of(topology, target.id), target.address)
        stop = reach(topology, source, found, "tcp", NFS_PORT).stop if found is not None else None
        if stop is None:
            return failure
        return (MountConnectivityFailure if stop.kind in _NO_WAY else type(failure))(stop.sentence)

    async def gate(self, link: Link) -> None:
        """Give the link's environment the AWS endpoint only while its VPC has a way to AWS, if so set."""
        if not self._settings.open_endpoint:
            self._gated[link] = True
            await self._gate(link)

    async def _gate(self, link: Link) -> None:
        interface = self._topology.interfaces.get(link.interface.id) if link.interface is not None else None
        opened = interface is not None and gate.has_way_to_aws(self._topology, interface)
        if opened == self._gated[link]:
            return
        self._gated[link] = opened
        if opened:
            await self.in_thread(gate.open_again, link.network)
        else:
            await self.in_thread(gate.shut, link.network, ENDPOINT_PORT)

    async def settled(self) -> None:
        await self._topologies.settled()

    def lifeline_closed(self, lifeline: Lifeline) -> None:
        self._lifelines.discard(lifeline)

    def unplugged(self, link: Link) -> None:
        self._links -= 1
        self._gated.pop(link, None)


class Link:
    """One environment's, made before it is known what for."""

    def __init__(self, wires: Wires, edge: Edge, cable: Cable, network: int) -> None:
        self._wires = wires
        self._edge = edge
        self._cable = cable
        self.network = network
        self.interface: Interface | None = None
        self._place: tuple[int, str] | None = None
        self._joined = False
        self._closed = False
        self._kept: list[Lifeline] = []

    async def join(self, placement: Placement | None) -> None:
        """Raises SandboxFailure."""
        try:
            if placement is None:
                await self._wires.in_thread(self._edge.join_internet, self._cable)
                self._joined = True
                return
            interface = await self._wires.place(placement)
            router = await self._wires.router(interface.vpc)
            await self._wires.in_thread(self._edge.join, self._cable, router.number, interface.address)
            self.interface, self._place, self._joined = interface, (router.number, interface.address), True
            await self._wires.gate(self)
        except OSError as error:
            raise SandboxFailure(f"network: {error}") from error

    async def settle(self) -> None:
        """Return once the rules are those of this moment's API."""
        if self.interface is not None:
            await self._wires.settled()

    async def open_lifeline(self, targets: MountTargets, mounted: Mounted, seconds: float) -> Lifeline:
        if self.interface is None:
            raise MountConnectivityFailure("a function outside of every VPC reaches no mount target")
        made = await self._wires.lifeline(self.network, self.interface, targets, mounted, seconds)
        self._kept.append(made)
        return made

    async def close(self) -> None:
        """Before the namespace's descriptor is closed. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for lifeline in self._kept:
            lifeline.close()
            self._wires.lifeline_closed(lifeline)
        self._wires.unplugged(self)
        with contextlib.suppress(RuntimeError):
            try:
                await self._wires.in_thread(self._edge.unplug, self._cable, self._place, self._joined)
            except OSError as error:
                _log.warning("link %s: %s", self._cable.link, error)


def _listen(namespace: int, address: str) -> socket.socket:
    with namespaces.inside(namespace):
        return socket.create_server((address, NFS_PORT), backlog=4096)


def _resolver_socket(namespace: int, address: str) -> socket.socket:
    opened = namespaces.open_socket(namespace, socket.SOCK_DGRAM)
    opened.bind((address, 53))
    return opened


def _resolver_sockets(namespace: int, topology: Topology, vpc: str) -> list[socket.socket]:
    return [_resolver_socket(namespace, address) for address in resolver_addresses(topology, vpc)]


def _vpc_of(topology: Topology, mount_target: str) -> str:
    owner = f"mount target {mount_target}"
    return next((each.vpc for each in topology.interfaces.values() if each.owner == owner), "")


def _ungrouped(topology: Topology) -> Topology:
    """The same network with security groups that let everything through."""
    everything = (Permission(-1, (0, 65535), "0.0.0.0/0"),)
    groups = {
        name: replace(group, ingress=everything, egress=everything) for name, group in topology.groups.items()
    }
    return replace(topology, groups=groups)
