"""The real thing without a server: an edge, the routers of a topology and bare namespaces for environments."""

from __future__ import annotations

import errno
import os
import select
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from lambay.network import addresses, namespaces
from lambay.network.edge import Cable, Edge
from lambay.network.links import Links
from lambay.network.model import Interface, Topology
from lambay.network.router import Router
from lambay.network.uplink import Uplink

PATIENCE_MS = 20_000
_ANSWERED = (0, errno.ECONNREFUSED)


@dataclass
class Environment:
    """Joined to a VPC behind `interface`, to the internet, or to nothing."""

    namespace: int
    cable: Cable
    place: tuple[int, str] | None = None
    joined: bool = False


class Fabric:
    def __init__(self, *, allow_lan: bool = False) -> None:
        self.tag = uuid.uuid4().hex[:12]
        self.uplink = Uplink(self.tag, allow_lan=allow_lan)
        self.edge = Edge(self.uplink, allow_lan=allow_lan)
        self.routers: dict[str, Router] = {}
        self.environments: list[Environment] = []
        self.numbers = addresses.Pool(1000)
        self._held: dict[str, set[str]] = {}

    def apply(self, topology: Topology) -> None:
        for vpc in topology.vpcs:
            if vpc not in self.routers:
                self.routers[vpc] = Router(vpc, len(self.routers) + 1, self.edge, self.routers)
        for router in self.routers.values():
            router.apply(topology, self.numbers)
            held = self._held.setdefault(router.vpc, set())
            for interface in topology.interfaces_of(router.vpc):
                if not interface.function and interface.address not in held:
                    router.hold(interface.address)
                    held.add(interface.address)

    def environment(self, interface: Interface | None = None, *, internet: bool = False) -> Environment:
        namespace = namespaces.make({})
        with namespaces.inside(namespace):
            own = Links()
            own.raise_up("lo")
            own.close()
        made = Environment(namespace, self.edge.plug(namespace))
        if interface is not None:
            router = self.routers[interface.vpc]
            self.edge.join(made.cable, router.number, interface.address)
            made.place = (router.number, interface.address)
        elif internet:
            self.edge.join_internet(made.cable)
        made.joined = internet or interface is not None
        self.environments.append(made)
        return made

    def end(self, environment: Environment) -> None:
        self.edge.unplug(environment.cable, environment.place, environment.joined)
        os.close(environment.namespace)
        self.environments.remove(environment)

    def close(self) -> None:
        for environment in list(self.environments):
            self.end(environment)
        for router in list(self.routers.values()):
            router.close()
        self.edge.close()


class Probe:
    """An attempt at a TCP connection. A refusal is an answer as well: the packet went through and back."""

    def __init__(self, environment: Environment, address: str, port: int, source_port: int = 0) -> None:
        self.to = (address, port)
        self.socket = namespaces.open_socket(environment.namespace, socket.SOCK_STREAM)
        if source_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((environment.cable.address, source_port))
        self.failed = self.socket.connect_ex(self.to)

    def answered(self, milliseconds: int = 0) -> bool:
        if self.failed not in (errno.EINPROGRESS, 0):
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        if not poll.poll(milliseconds):
            return False
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _ANSWERED

    def close(self) -> None:
        self.socket.close()


def listen(router: Router, address: str, port: int) -> socket.socket:
    with namespaces.inside(router.namespace):
        return socket.create_server((address, port), backlog=512)


def all_answered(probes: Sequence[Probe]) -> bool:
    return all(probe.answered(PATIENCE_MS) for probe in probes)
