"""The Amazon DNS server of each VPC, and the resolver of functions outside of them.

`FS.efs.REGION.amazonaws.com` is the mount target in the caller's zone, `ZONE.FS.efs…` the one in that zone
(EFS User Guide, "Mounting with a DNS name"); other names of AWS's are Lambay's endpoint, which every
environment has on its own loopback; everything else is asked of the host's resolvers.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lambay.network.model import Topology
from lambay.network.topologies import Topologies

ENDPOINT_ADDRESS = "127.0.0.1"
_FILE_SYSTEM = re.compile(
    r"(?:(?P<zone>[a-z0-9-]+)\.)?(?P<fs>fs-[0-9a-f]+)\.efs\.(?P<region>[a-z0-9-]+)\.amazonaws\.com"
)
_SECONDS = 5.0
_TTL = 60
_A, _AAAA = 1, 28

_log = logging.getLogger("lambay.network")


class Resolver:
    """Answers on sockets that others have opened in the namespaces."""

    def __init__(self, topologies: Topologies) -> None:
        self._topologies = topologies
        self._served: dict[str, list[asyncio.DatagramTransport]] = {}
        self._forwarder = Forwarder()

    def serves(self, vpc: str) -> bool:
        return vpc in self._served

    async def serve(self, vpc: str, sockets: Sequence[socket.socket]) -> None:
        self._served[vpc] = [await self._listen(each, vpc) for each in sockets]

    async def serve_internet(self, opened: socket.socket) -> None:
        self._served[""] = [await self._listen(opened, "")]

    def forget(self, vpc: str) -> None:
        for transport in self._served.pop(vpc, ()):
            transport.close()

    def close(self) -> None:
        for vpc in list(self._served):
            self.forget(vpc)

    async def answer(self, query: bytes, vpc: str, caller: str) -> bytes | None:
        """The answer to a query from this address of a VPC (`` outside); None where there is none."""
        from dnslib import QTYPE, RCODE, RR, A, DNSError, DNSRecord

        try:
            asked = DNSRecord.parse(query)
            name = str(asked.q.qname).rstrip(".").lower()
        except (DNSError, AttributeError):
            return None
        own = self._own(name, vpc, caller)
        if own is None:
            return await self._forwarder.ask(query)
        reply = asked.reply()
        if not own:
            reply.header.rcode = RCODE.NXDOMAIN
        elif asked.q.qtype == _A:
            for address in own:
                reply.add_answer(RR(asked.q.qname, QTYPE.A, rdata=A(address), ttl=_TTL))
        packed: bytes = reply.pack()
        return packed

    def _own(self, name: str, vpc: str, caller: str) -> list[str] | None:
        """Addresses of a name that is ours to answer, none if there is no such; None for other names."""
        if name == "localhost":
            return [ENDPOINT_ADDRESS]
        if not name.endswith(".amazonaws.com"):
            return None
        found = _FILE_SYSTEM.fullmatch(name)
        if found is None:
            return [ENDPOINT_ADDRESS]
        topology = self._topologies.latest
        zone = found["zone"] or zone_of(topology, vpc, caller)
        return mount_target(topology, vpc, found["fs"], zone)

    async def _listen(self, opened: socket.socket, vpc: str) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Queries(self, vpc), sock=opened)
        return transport


class _Queries(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver, vpc: str) -> None:
        self._resolver = resolver
        self._vpc = vpc
        self._transport: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, query: bytes, addr: tuple[str, int]) -> None:
        try:
            answer = await self._resolver.answer(query, self._vpc, addr[0])
        except OSError as error:
            _log.info("a name could not be resolved: %s", error)
            return
        if answer is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)


class Forwarder:
    """The host's resolvers, asked in turn."""

    def __init__(self, configuration: Path = Path("/etc/resolv.conf")) -> None:
        self._configuration = configuration

    def servers(self) -> list[str]:
        try:
            lines = self._configuration.read_text().splitlines()
        except OSError:
            return []
        return [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]

    async def ask(self, query: bytes) -> bytes | None:
        """The first answer; None if nobody gives one in time."""
        loop = asyncio.get_running_loop()
        for server in self.servers():
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
                try:
                    await loop.sock_connect(asking, (server, 53))
                    async with asyncio.timeout(_SECONDS):
                        await loop.sock_sendall(asking, query)
                        while True:
                            answer = await loop.sock_recv(asking, 65535)
                            if answer[:2] == query[:2]:
                                return answer
                except (OSError, TimeoutError):
                    continue
        return None


def zone_of(topology: Topology, vpc: str, address: str) -> str:
    """The zone of the interface that has this address."""
    found = topology.at(vpc, address)
    return topology.subnets[found.subnet].zone if found is not None else ""


def mount_target(topology: Topology, vpc: str, file_system: str, zone: str) -> list[str]:
    return [
        each.address
        for each in topology.interfaces.values()
        if each.vpc == vpc and each.file_system == file_system and topology.subnets[each.subnet].zone == zone
    ]
