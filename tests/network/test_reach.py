"""The reachability model: its sentences, and its verdicts against a literal model on random networks."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lambay.network.model import (
    AclEntry,
    Endpoint,
    Interface,
    InternetGateway,
    NatGateway,
    NetworkAcl,
    Peering,
    Permission,
    PrefixList,
    Route,
    RouteTable,
    SecurityGroup,
    Subnet,
    Topology,
    Vpc,
    reach,
)
from tests.network.literal import passes

OPEN = (AclEntry(100, True, True, -1, "0.0.0.0/0"), AclEntry(100, False, True, -1, "0.0.0.0/0"))
EVERYWHERE = Permission(-1, (0, 65535), "0.0.0.0/0")
LOCAL_A, LOCAL_B = Route("10.0.0.0/16", "local"), Route("10.1.0.0/16", "local")

FUNCTION = Interface("eni-f", "vpc-a", "subnet-a1", "10.0.1.9", ("sg-f",), True, "function interface eni-f")
TARGET = Interface("eni-m", "vpc-a", "subnet-a2", "10.0.2.7", ("sg-m",), False, "mount target fsmt-1")
FAR_TARGET = Interface("eni-n", "vpc-b", "subnet-b1", "10.1.1.7", ("sg-n",), False, "mount target fsmt-2")

WORLD = Topology(
    vpcs={
        "vpc-a": Vpc("vpc-a", "1", "r", ("10.0.0.0/16",)),
        "vpc-b": Vpc("vpc-b", "2", "r", ("10.1.0.0/16",)),
    },
    subnets={
        "subnet-a1": Subnet("subnet-a1", "vpc-a", "ra", "10.0.1.0/24"),
        "subnet-a2": Subnet("subnet-a2", "vpc-a", "rb", "10.0.2.0/24"),
        "subnet-a3": Subnet("subnet-a3", "vpc-a", "ra", "10.0.3.0/24"),
        "subnet-b1": Subnet("subnet-b1", "vpc-b", "ra", "10.1.1.0/24"),
    },
    route_tables={
        "rtb-main": RouteTable("rtb-main", "vpc-a", True, (), (LOCAL_A,)),
        "rtb-private": RouteTable(
            "rtb-private",
            "vpc-a",
            False,
            ("subnet-a1",),
            (LOCAL_A, Route("0.0.0.0/0", "nat-1"), Route("10.1.0.0/16", "pcx-1"), Route("pl-s3", "vpce-1")),
        ),
        "rtb-public": RouteTable(
            "rtb-public", "vpc-a", False, ("subnet-a3",), (LOCAL_A, Route("0.0.0.0/0", "igw-1"))
        ),
        "rtb-b": RouteTable("rtb-b", "vpc-b", True, (), (LOCAL_B, Route("10.0.0.0/16", "pcx-1"))),
    },
    groups={
        "sg-f": SecurityGroup("sg-f", "vpc-a", (), (EVERYWHERE,)),
        "sg-m": SecurityGroup("sg-m", "vpc-a", (Permission(6, (2049, 2049), "sg-f"),), ()),
        "sg-n": SecurityGroup("sg-n", "vpc-b", (Permission(6, (2049, 2049), "sg-f"),), ()),
    },
    acls={
        "acl-a": NetworkAcl("acl-a", "vpc-a", True, (), OPEN),
        "acl-b": NetworkAcl("acl-b", "vpc-b", True, (), OPEN),
    },
    internet_gateways={"igw-1": InternetGateway("igw-1", "vpc-a")},
    nat_gateways={"nat-1": NatGateway("nat-1", "vpc-a", "subnet-a3", "10.0.3.4")},
    peerings={"pcx-1": Peering("pcx-1", "vpc-a", "vpc-b")},
    endpoints={"vpce-1": Endpoint("vpce-1", "vpc-a", True, "com.amazonaws.r.s3", "available")},
    prefix_lists={"pl-s3": PrefixList("pl-s3", "com.amazonaws.r.s3", ("52.216.0.0/15",))},
    interfaces={each.id: each for each in (FUNCTION, TARGET, FAR_TARGET)},
)


def with_(kind: str, record: Any) -> Topology:
    """The world with one record put in the place of its namesake."""
    return replace(WORLD, **{kind: getattr(WORLD, kind) | {record.id: record}})


@pytest.mark.parametrize("to", [TARGET, FAR_TARGET, "93.184.216.34", "52.216.0.1"])
def test_a_whole_network_lets_everything_through(to: Interface | str) -> None:
    assert reach(WORLD, FUNCTION, to, "tcp", 2049).allowed


ACL_A1 = NetworkAcl("acl-x", "vpc-a", False, ("subnet-a1",), OPEN)
ACL_A2 = NetworkAcl("acl-x", "vpc-a", False, ("subnet-a2",), OPEN)
DENY_NFS = AclEntry(50, False, False, 6, "10.0.1.0/24", (2049, 2049))
DENY_EPHEMERAL = AclEntry(50, False, False, 6, "0.0.0.0/0", (32768, 60999))
DENY_ANSWERS = AclEntry(50, True, False, 6, "0.0.0.0/0", (1024, 40000))

BROKEN = {
    "the mount target's group names another group": (
        with_("groups", SecurityGroup("sg-m", "vpc-a", (Permission(6, (2049, 2049), "sg-z"),), ())),
        TARGET,
        "security group sg-m of mount target fsmt-1 has no inbound rule for TCP 2049 from sg-f",
    ),
    "the mount target's group is about another port": (
        with_("groups", SecurityGroup("sg-m", "vpc-a", (Permission(6, (443, 443), "sg-f"),), ())),
        TARGET,
        "security group sg-m of mount target fsmt-1 has no inbound rule for TCP 2049 from sg-f",
    ),
    "the function's group lets nothing out": (
        with_("groups", SecurityGroup("sg-f", "vpc-a", (), ())),
        TARGET,
        "security group sg-f of function interface eni-f has no outbound rule for TCP 2049 to mount target "
        "fsmt-1 (10.0.2.7)",
    ),
    "the mount target's subnet denies NFS": (
        with_("acls", replace(ACL_A2, entries=(DENY_NFS, *OPEN))),
        TARGET,
        "network ACL acl-x of subnet subnet-a2 denies inbound TCP 2049 from 10.0.1.9 by rule 50",
    ),
    "the mount target's subnet denies the answers": (
        with_("acls", replace(ACL_A2, entries=(DENY_ANSWERS, *OPEN))),
        TARGET,
        "network ACL acl-x of subnet subnet-a2 denies outbound the answers on TCP 32768 to 10.0.1.9 by rule 50",
    ),
    "the function's subnet lets nothing out": (
        with_("acls", replace(ACL_A1, entries=())),
        TARGET,
        "network ACL acl-x of subnet subnet-a1 denies outbound TCP 2049 to 10.0.2.7 by its final rule",
    ),
    "no route to the peered VPC": (
        with_("route_tables", RouteTable("rtb-private", "vpc-a", False, ("subnet-a1",), (LOCAL_A,))),
        FAR_TARGET,
        "route table rtb-private of subnet subnet-a1 has no route to 10.1.1.7",
    ),
    "no route back from the peered VPC": (
        with_("route_tables", RouteTable("rtb-b", "vpc-b", True, (), (LOCAL_B,))),
        FAR_TARGET,
        "route table rtb-b of subnet subnet-b1 has no route back to 10.0.1.9 in VPC vpc-a",
    ),
    "the peering awaits acceptance": (
        with_("peerings", Peering("pcx-1", "vpc-a", "vpc-b", "pending-acceptance")),
        FAR_TARGET,
        "VPC peering connection pcx-1 is pending-acceptance",
    ),
    "no NAT gateway any more": (
        with_("nat_gateways", NatGateway("nat-1", "vpc-a", "subnet-a3", "10.0.3.4", True, "deleted")),
        "93.184.216.34",
        "NAT gateway nat-1 is deleted",
    ),
    "the NAT gateway is in a private subnet": (
        with_("nat_gateways", NatGateway("nat-1", "vpc-a", "subnet-a2", "10.0.2.4")),
        "93.184.216.34",
        "route table rtb-main of subnet subnet-a2, where NAT gateway nat-1 is, has no route to 93.184.216.34 "
        "by an internet gateway",
    ),
    "the NAT gateway's subnet denies the answers": (
        with_(
            "acls",
            NetworkAcl("acl-x", "vpc-a", False, ("subnet-a3",), (DENY_EPHEMERAL, *OPEN)),
        ),
        "93.184.216.34",
        "network ACL acl-x of subnet subnet-a3 denies inbound the answers on TCP 32768 from 93.184.216.34 by rule 50",
    ),
    "the internet gateway is detached": (
        with_("internet_gateways", InternetGateway("igw-1", "")),
        "93.184.216.34",
        "internet gateway igw-1 is not attached to VPC vpc-a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_the_first_thing_in_the_way_is_named(case: str) -> None:
    topology, to, sentence = BROKEN[case]
    assert reach(topology, FUNCTION, to, "tcp", 2049).sentence == sentence


def test_an_internet_gateway_alone_is_no_internet_for_a_function() -> None:
    public = replace(FUNCTION, subnet="subnet-a3", address="10.0.3.9")
    verdict = reach(WORLD, public, "93.184.216.34", "tcp", 443)
    assert verdict.stop is not None
    assert verdict.stop.kind == "no public address"


def test_a_function_accepts_no_connection() -> None:
    caller = replace(FUNCTION, id="eni-g", address="10.0.1.10")
    group = SecurityGroup("sg-f", "vpc-a", (EVERYWHERE,), (EVERYWHERE,))
    verdict = reach(with_("groups", group), caller, FUNCTION, "tcp", 80)
    assert verdict.stop is not None
    assert verdict.stop.kind == "accepts no connections"


# -- random networks ---------------------------------------------------------------------------------------

PORTS = (22, 443, 2049, 40000)
RANGES = st.sampled_from([(0, 65535), (2049, 2049), (0, 1023), (1024, 65535), (443, 2049), (40000, 40000)])
CIDRS = st.just("0.0.0.0/0") | st.sampled_from(
    ["0.0.0.0/0", "::/0", "10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24", "10.0.2.7/32", "10.1.0.0/16", "10.1.1.0/24",
     "93.184.0.0/16", "93.184.216.34/32", "10.0.1.9/32"]
)  # fmt: skip
PROTOCOLS = st.sampled_from([-1, 6, 17])
PERMISSIONS = st.lists(
    st.builds(Permission, PROTOCOLS, RANGES, CIDRS | st.sampled_from(["sg-f", "sg-m", "sg-n", "pl-s3"])),
    max_size=3,
).map(tuple)
ENTRIES = st.lists(
    st.builds(AclEntry, st.integers(1, 9), st.booleans(), st.booleans(), PROTOCOLS, CIDRS, RANGES),
    max_size=4,
    unique_by=lambda entry: (entry.number, entry.egress),
).flatmap(
    lambda some: st.sampled_from([(), OPEN, OPEN, OPEN]).map(
        lambda end: (*sorted(some, key=lambda entry: entry.number), *end)
    )
)
BACK = (Route("10.0.0.0/16", "pcx-1"),)
SUBNETS = ("subnet-a1", "subnet-a2", "subnet-a3", "subnet-b1")


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    def groups(name: str, vpc: str) -> SecurityGroup:
        # Mostly open, or most verdicts would be the first rule's.
        rules = st.one_of(PERMISSIONS, st.just((EVERYWHERE,)), st.just((EVERYWHERE,)))
        return SecurityGroup(name, vpc, draw(rules), draw(rules))

    def routes(local: Route) -> tuple[Route, ...]:
        some = st.builds(
            Route,
            st.sampled_from(
                ["0.0.0.0/0", "10.1.0.0/16", "10.1.1.0/24", "93.184.0.0/16", "pl-s3", "10.0.0.0/15"]
            ),
            st.sampled_from(["nat-1", "igw-1", "pcx-1", "vpce-1", "eni-x"]),
            st.sampled_from([True, True, True, False]),
        )
        drawn = draw(st.lists(some, max_size=4, unique_by=lambda route: route.destination))
        return (local, *drawn)

    state = st.sampled_from(["active", "active", "active", "deleted"])
    back = draw(st.sampled_from([BACK, BACK, ()]))
    public = draw(st.sampled_from([True, True, True, False]))
    drawn: dict[str, Any] = {
        "groups": {g.id: g for g in (groups("sg-f", "vpc-a"), groups("sg-m", "vpc-a"), groups("sg-n", "vpc-b"))},
        "acls": WORLD.acls
        | {
            f"acl-{name}": NetworkAcl(f"acl-{name}", WORLD.subnets[name].vpc, False, (name,), draw(ENTRIES))
            for name in SUBNETS
            if draw(st.booleans())
        },
        "route_tables": {
            "rtb-main": RouteTable("rtb-main", "vpc-a", True, (), routes(LOCAL_A)),
            "rtb-1": RouteTable("rtb-1", "vpc-a", False, ("subnet-a1",), routes(LOCAL_A)),
            "rtb-b": RouteTable("rtb-b", "vpc-b", True, (), (*routes(LOCAL_B)[:2], *back)),
        },
        "internet_gateways": {"igw-1": InternetGateway("igw-1", draw(st.sampled_from(["vpc-a", "vpc-a", ""])))},
        "nat_gateways": {
            "nat-1": NatGateway("nat-1", "vpc-a", draw(st.sampled_from(SUBNETS[:3])), "10.0.3.4", public)
        },
        "peerings": {"pcx-1": Peering("pcx-1", "vpc-a", "vpc-b", draw(state))},
    }  # fmt: skip
    # One thing wrong in a network that is right otherwise is what tells verdicts apart.
    kept = draw(st.sets(st.sampled_from(sorted(drawn))))
    return replace(WORLD, **{kind: records for kind, records in drawn.items() if kind not in kept})


@given(topologies(), st.sampled_from(["tcp", "udp"]))
@settings(max_examples=250, deadline=None)
def test_the_model_agrees_with_packets_carried_by_hand(topology: Topology, protocol: Any) -> None:
    """From each subnet to everything, on every port that a rule is about."""
    ends: tuple[Interface | str, ...] = (TARGET, FAR_TARGET, "93.184.216.34", "52.216.0.1", "10.1.1.99")
    for number, to, port, back in product((1, 2, 3), ends, PORTS, (32768, 40000)):
        source = replace(FUNCTION, subnet=f"subnet-a{number}", address=f"10.0.{number}.9")
        there = to if isinstance(to, Interface) else None
        address = to.address if isinstance(to, Interface) else to
        literal = passes(topology, source, address, there, protocol, port, back)
        verdict = reach(topology, source, to, protocol, port, (back, back))
        assert verdict.allowed is literal, (number, to, port, back, verdict)


@given(topologies(), st.sampled_from([TARGET, FAR_TARGET, "93.184.216.34"]), st.sampled_from(PORTS))
@settings(max_examples=300, deadline=None)
def test_a_verdict_on_a_range_of_answers_is_the_one_on_each_of_them(
    topology: Topology, to: Interface | str, port: int
) -> None:
    whole = reach(topology, FUNCTION, to, "tcp", port, (39990, 40010)).allowed
    assert whole is all(
        reach(topology, FUNCTION, to, "tcp", port, (each, each)).allowed for each in range(39990, 40011)
    )
