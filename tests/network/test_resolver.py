"""The resolver: own names by the topology and the caller's zone, other names by the host's resolvers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dnslib import RR, A, DNSRecord
from msgspec.structs import replace

from lambay.network.model import Topology
from lambay.network.resolver import Forwarder, Resolver
from tests.network.test_reach import FUNCTION, TARGET, WORLD

FILE_SYSTEM = "fs-0123456789abcdef0"
NAME = f"{FILE_SYSTEM}.efs.eu-west-1.amazonaws.com"


def resolver(topology: Topology) -> Resolver:
    known: Any = SimpleNamespace(latest=topology)
    return Resolver(known)


@pytest.fixture
def world() -> Topology:
    """Mount targets in both zones of VPC A: the function is in the first."""
    near = replace(TARGET, id="eni-near", subnet="subnet-a3", address="10.0.3.7", file_system=FILE_SYSTEM)
    far = replace(TARGET, file_system=FILE_SYSTEM)
    return replace(WORLD, interfaces={each.id: each for each in (FUNCTION, near, far)})


async def addresses(asked: Resolver, name: str, vpc: str = "vpc-a") -> list[str]:
    answer = await asked.answer(DNSRecord.question(name).pack(), vpc, FUNCTION.address)
    assert answer is not None
    return [str(entry.rdata) for entry in DNSRecord.parse(answer).rr]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (NAME, ["10.0.3.7"]),
        (NAME.upper(), ["10.0.3.7"]),
        (f"rb.{NAME}", ["10.0.2.7"]),
        (f"rc.{NAME}", []),
        ("fs-00000000000000000.efs.eu-west-1.amazonaws.com", []),
        ("sqs.eu-west-1.amazonaws.com", ["127.0.0.1"]),
    ],
)
async def test_names_of_aws(world: Topology, name: str, found: list[str]) -> None:
    assert await addresses(resolver(world), name) == found


async def test_a_file_system_of_another_vpc_has_no_address_here(world: Topology) -> None:
    assert await addresses(resolver(world), NAME, "vpc-b") == []


async def test_other_names_are_the_host_s_resolvers_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            asked = DNSRecord.parse(data)
            self.transport.sendto(b"\0\0" + data[2:], addr)  # of another query, to be passed over
            reply = asked.reply()
            reply.add_answer(RR(asked.q.qname, rdata=A("93.184.216.34"), ttl=5))
            self.transport.sendto(reply.pack(), addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    connect = loop.sock_connect

    async def to_our_port(opened: socket.socket, address: tuple[str, int]) -> None:
        await connect(opened, (address[0], port))

    monkeypatch.setattr(loop, "sock_connect", to_our_port)
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("# none\nsearch example.org\nnameserver 127.0.0.1\n")
    query = DNSRecord.question("example.com")
    query.header.id = 7
    answer = await Forwarder(configuration).ask(query.pack())
    transport.close()
    assert answer is not None
    assert [str(entry.rdata) for entry in DNSRecord.parse(answer).rr] == ["93.184.216.34"]


async def test_a_host_without_resolvers_answers_nothing(tmp_path: Path) -> None:
    assert await Forwarder(tmp_path / "absent").ask(DNSRecord.question("example.com").pack()) is None


async def test_what_is_no_query_gets_no_answer(world: Topology) -> None:
    assert await resolver(world).answer(b"\x00\x01junk", "vpc-a", FUNCTION.address) is None
