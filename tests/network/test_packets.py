"""Packets against the model: what it allows gets through, and nothing that it forbids, whatever changes."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from msgspec.structs import replace

from lambay.network import namespaces
from lambay.network.links import Links
from lambay.network.model import (
    AclEntry,
    Interface,
    NetworkAcl,
    Permission,
    SecurityGroup,
    Topology,
    Vpc,
    reach,
)
from tests.network.fabric import Environment, Fabric, Probe, all_answered, listen
from tests.network.test_reach import EVERYWHERE, FAR_TARGET, FUNCTION, OPEN, TARGET, WORLD, topologies, with_

INTERNET = "93.184.216.34"
LAN_HOST = "10.77.0.2"


class Outside:
    """A namespace that stands for a network beyond the host, with a host of that address in it."""

    def __init__(self, address: str) -> None:
        self.namespace = namespaces.make({})
        self._link = "lt" + uuid.uuid4().hex[:10]
        links = Links()
        links.make_pair(self._link, "host", self.namespace)
        links.raise_up(self._link, "169.254.3.1")
        links.route(f"{address}/32", self._link)
        namespaces.set_sysctl(f"net/ipv4/conf/{self._link}/forwarding", "1")
        inside = Links(self.namespace)
        inside.raise_up("host", address)
        inside.route("0.0.0.0/0", "host", "169.254.3.1")
        self._links = links
        inside.close()

    def close(self) -> None:
        self._links.remove(self._link)
        self._links.close()
        os.close(self.namespace)


@pytest.fixture(scope="module")
def internet() -> Iterator[Outside]:
    outside = Outside(INTERNET)
    yield outside
    outside.close()


@pytest.fixture(scope="module")
def lan() -> Iterator[Outside]:
    outside = Outside(LAN_HOST)
    yield outside
    outside.close()


@pytest.fixture(scope="module")
def fabric(internet: Outside) -> Iterator[Fabric]:
    made = Fabric()
    yield made
    made.close()


def check(
    fabric: Fabric, topology: Topology, wanted: list[tuple[Environment, Interface, Interface | str, int]]
) -> int:
    """Every attempt goes as the model says; how many were allowed."""
    allowed, forbidden = [], []
    for environment, source, to, port in wanted:
        verdict = reach(topology, source, to, "tcp", port, (40000, 40000))
        probe = Probe(environment, to.address if isinstance(to, Interface) else to, port, 40000)
        (allowed if verdict.allowed else forbidden).append(probe)
    try:
        assert all_answered(allowed), [probe.to for probe in allowed if not probe.answered()]
        assert not [probe.to for probe in forbidden if probe.answered()]
    finally:
        for probe in (*allowed, *forbidden):
            probe.close()
    return len(allowed)


def test_a_network_that_lets_everything_through(fabric: Fabric) -> None:
    fabric.apply(WORLD)
    caller = fabric.environment(FUNCTION)
    wanted = [(caller, FUNCTION, to, 2049) for to in (TARGET, FAR_TARGET, INTERNET)]
    assert check(fabric, WORLD, wanted) == 3
    fabric.end(caller)


@given(topology=topologies())
@settings(
    max_examples=40,
    deadline=None,
    # A smaller failure is not worth waiting for packets that do not come.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_packets_go_as_the_model_says(fabric: Fabric, topology: Topology) -> None:
    sources = [
        replace(FUNCTION, id=f"eni-{number}", subnet=f"subnet-a{number}", address=f"10.0.{number}.9")
        for number in (1, 2, 3)
    ]
    topology = replace(topology, interfaces={each.id: each for each in (*sources, TARGET, FAR_TARGET)})
    # A gateway endpoint carries no packet here: its services are on each environment's own loopback.
    endless = [
        replace(table, routes=tuple(route for route in table.routes if route.target != "vpce-1"))
        for table in topology.route_tables.values()
    ]
    topology = replace(topology, route_tables={table.id: table for table in endless})
    fabric.apply(topology)
    callers = [(fabric.environment(source), source) for source in sources]
    try:
        targets = (TARGET, FAR_TARGET, INTERNET)
        check(
            fabric,
            topology,
            [(env, source, to, port) for env, source in callers for to in targets for port in (443, 2049)],
        )
    finally:
        for environment, _ in callers:
            fabric.end(environment)


def test_a_connection_goes_on_when_its_group_rule_is_taken_away_but_no_new_one_comes(fabric: Fabric) -> None:
    fabric.apply(WORLD)
    caller = fabric.environment(FUNCTION)
    listening = listen(fabric.routers["vpc-a"], TARGET.address, 2049)
    old = Probe(caller, TARGET.address, 2049)
    assert old.answered(60_000)
    there, _ = listening.accept()
    closed = with_("groups", SecurityGroup("sg-m", "vpc-a", (), ()))
    fabric.apply(closed)
    new = Probe(caller, TARGET.address, 2049)
    old.socket.setblocking(True)
    old.socket.sendall(b"still there")
    assert there.recv(64) == b"still there"
    assert not new.answered()
    for each in (old, new, there, listening):
        each.close()
    fabric.end(caller)


def test_a_network_acl_cuts_what_is_established(fabric: Fabric) -> None:
    fabric.apply(WORLD)
    caller = fabric.environment(FUNCTION)
    listening = listen(fabric.routers["vpc-a"], TARGET.address, 2049)
    probe = Probe(caller, TARGET.address, 2049)
    assert probe.answered(60_000)
    there, _ = listening.accept()
    there.setblocking(False)
    fabric.apply(with_("acls", NetworkAcl("acl-x", "vpc-a", False, ("subnet-a2",), ())))
    probe.socket.send(b"lost")
    with pytest.raises(BlockingIOError):
        there.recv(64)
    for each in (probe, there, listening):
        each.close()
    fabric.end(caller)


def test_a_mount_target_sees_the_function_s_interface_and_not_the_environment(fabric: Fabric) -> None:
    fabric.apply(WORLD)
    callers = [fabric.environment(FUNCTION) for _ in range(3)]
    listening = listen(fabric.routers["vpc-a"], TARGET.address, 2049)
    probes = [Probe(caller, TARGET.address, 2049) for caller in callers]
    assert all_answered(probes)
    peers = {listening.accept()[1][0] for _ in callers}
    assert peers == {FUNCTION.address}
    for each in (*probes, listening):
        each.close()
    for caller in callers:
        fabric.end(caller)


def test_two_vpcs_with_the_same_addresses_never_meet(fabric: Fabric) -> None:
    """The same CIDR, the same interface and mount target addresses; each function reaches its own VPC's alone."""
    twin = Topology(
        vpcs={"vpc-t": Vpc("vpc-t", "1", "r", ("10.0.0.0/16",))},
        subnets={
            name.replace("-a", "-t"): replace(subnet, id=name.replace("-a", "-t"), vpc="vpc-t")
            for name, subnet in WORLD.subnets.items()
            if subnet.vpc == "vpc-a"
        },
        route_tables={"rtb-t": replace(WORLD.route_tables["rtb-main"], id="rtb-t", vpc="vpc-t")},
        groups={"sg-t": SecurityGroup("sg-t", "vpc-t", (EVERYWHERE,), (EVERYWHERE,))},
        acls={"acl-t": NetworkAcl("acl-t", "vpc-t", True, (), OPEN)},
    )
    here = replace(FUNCTION, id="eni-tf", vpc="vpc-t", subnet="subnet-t1", groups=("sg-t",))
    there = replace(TARGET, id="eni-tm", vpc="vpc-t", subnet="subnet-t2", groups=("sg-t",))
    topology = replace(
        WORLD.joined(twin), interfaces={each.id: each for each in (FUNCTION, TARGET, here, there)}
    )
    fabric.apply(topology)
    one, other = fabric.environment(FUNCTION), fabric.environment(here)
    listening = {vpc: listen(fabric.routers[vpc], TARGET.address, 2049) for vpc in ("vpc-a", "vpc-t")}
    probes = [Probe(one, TARGET.address, 2049, 40000), Probe(other, TARGET.address, 2049, 40000)]
    assert all_answered(probes)
    for vpc, text in (("vpc-a", b"one"), ("vpc-t", b"other")):
        probe = probes[0] if vpc == "vpc-a" else probes[1]
        probe.socket.setblocking(True)
        probe.socket.sendall(text)
        accepted, peer = listening[vpc].accept()
        assert peer == (FUNCTION.address, 40000)
        assert accepted.recv(64) == text
        accepted.close()
    for each in (*probes, *listening.values()):
        each.close()
    fabric.end(one)
    fabric.end(other)
    fabric.routers.pop("vpc-t").close()


def test_a_function_without_a_vpc_has_the_internet_and_nothing_of_the_host(
    fabric: Fabric, internet: Outside, lan: Outside
) -> None:
    caller, other = fabric.environment(internet=True), fabric.environment(internet=True)
    with namespaces.inside(internet.namespace):
        listening = socket.create_server((INTERNET, 443))
    everywhere = socket.create_server(("0.0.0.0", 0))
    port = everywhere.getsockname()[1]
    own = [line.split()[3].partition("/")[0] for line in subprocess.run(
        ["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True
    ).stdout.splitlines()]  # fmt: skip
    reachable = Probe(caller, INTERNET, 443)
    assert reachable.answered(60_000)
    assert listening.accept()[1][0] == "169.254.3.1"
    # 127/8 is its own loopback; everything else of the host's must not answer.
    forbidden = [Probe(caller, address, port) for address in own if not address.startswith("127.")]
    forbidden += [Probe(caller, address, 80) for address in (LAN_HOST, other.cable.address, TARGET.address)]
    fence = Probe(caller, INTERNET, 443)
    assert fence.answered(60_000)
    assert not [probe.to for probe in forbidden if probe.answered()]
    for each in (reachable, fence, *forbidden, listening, everywhere):
        each.close()
    fabric.end(caller)
    fabric.end(other)


def test_the_lan_is_there_where_the_setting_says_so(lan: Outside) -> None:
    fabric = Fabric(allow_lan=True)
    try:
        probe = Probe(fabric.environment(internet=True), LAN_HOST, 80)
        assert probe.answered(60_000)
        probe.close()
    finally:
        fabric.close()


def test_an_environment_that_was_joined_to_nothing_reaches_nothing(fabric: Fabric) -> None:
    fabric.apply(WORLD)
    caller, joined = fabric.environment(), fabric.environment(FUNCTION)
    probes = [Probe(caller, address, 2049) for address in (TARGET.address, INTERNET, "169.254.1.1")]
    fence = Probe(joined, TARGET.address, 2049)
    assert fence.answered(60_000)
    assert not [probe.to for probe in probes if probe.answered()]
    for each in (*probes, fence):
        each.close()
    fabric.end(caller)
    fabric.end(joined)


def test_nothing_is_left_on_the_host(internet: Outside) -> None:
    fabric = Fabric()
    tag, link = fabric.tag, fabric.uplink.link
    fabric.apply(WORLD)
    fabric.environment(FUNCTION)
    assert Links().index(link)
    fabric.close()
    with pytest.raises(OSError, match="no link"):
        Links().index(link)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert tag not in tables


def flap(environments: int, rounds: int, seed: int) -> None:
    """Environments behind a few interfaces try everything, each time after the rules have changed."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    fabric = Fabric()
    sources = [
        replace(FUNCTION, id=f"eni-{number}", subnet=f"subnet-a{1 + number % 3}",
                address=f"10.0.{1 + number % 3}.{20 + number}", groups=(f"sg-f{number}",))
        for number in range(6)
    ]  # fmt: skip
    targets = [
        TARGET,
        FAR_TARGET,
        replace(TARGET, id="eni-k", address="10.0.1.7", subnet="subnet-a1", groups=("sg-k",)),
    ]
    base = replace(WORLD, interfaces={each.id: each for each in (*sources, *targets)})

    def changed() -> Topology:
        def rules() -> tuple[Permission, ...]:
            peers = [f"sg-f{number}" for number in range(6)] + ["10.0.0.0/16", "10.0.2.0/24", "0.0.0.0/0"]
            spans = [(2049, 2049), (443, 443), (0, 65535), (100, 3000)]
            return tuple(
                Permission(6, chance.choice(spans), peer)
                for peer in chance.sample(peers, chance.randrange(5))
            )

        groups = {name: SecurityGroup(name, "vpc-a", (), rules()) for name in (f"sg-f{n}" for n in range(6))}
        for name, vpc in (("sg-m", "vpc-a"), ("sg-k", "vpc-a"), ("sg-n", "vpc-b")):
            groups[name] = SecurityGroup(name, vpc, rules(), ())
        entry = AclEntry(
            50, chance.random() < 0.5, False, 6, "10.0.0.0/16", chance.choice([(2049, 2049), (40000, 40000)])
        )
        acl = NetworkAcl("acl-x", "vpc-a", False, (f"subnet-a{chance.randrange(1, 4)}",), (entry, *OPEN))
        return replace(base, groups=groups, acls=base.acls | {acl.id: acl})

    try:
        fabric.apply(base)
        callers = [(fabric.environment(sources[n % 6]), sources[n % 6]) for n in range(environments)]
        passed = 0
        for _ in range(rounds):
            topology = changed()
            fabric.apply(topology)
            wanted = [
                (env, source, chance.choice(targets), chance.choice((443, 2049))) for env, source in callers
            ]
            allowed, forbidden = [], []
            for env, source, to, port in wanted:
                verdict = reach(topology, source, to, "tcp", port, (40000, 40000))
                # Several environments share an interface, so that a port may be given another at the edge.
                full = reach(topology, source, to, "tcp", port, (1024, 65535))
                probe = Probe(env, to.address, port, 40000)
                if full.allowed:
                    allowed.append(probe)
                elif not verdict.allowed and verdict.stop is not None and "answers" not in verdict.sentence:
                    forbidden.append(probe)
                else:
                    probe.close()
            assert all_answered(allowed)
            assert not [probe.to for probe in forbidden if probe.answered()]
            passed += len(allowed)
            for probe in (*allowed, *forbidden):
                probe.close()
        assert passed
    finally:
        fabric.close()


def test_flapping_rules_let_nothing_slip() -> None:
    flap(12, 25, 6)


@pytest.mark.soak
def test_two_hundred_environments_and_flapping_rules() -> None:
    flap(200, 100, random.randrange(10**6))
