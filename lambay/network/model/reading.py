"""EC2's answers, as boto3 gives them, read into a `Topology`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lambay.network.model.records import (
    ALL_PORTS,
    ALL_PROTOCOLS,
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
)

# Each operation and the member of its answer that lists what it describes.
OPERATIONS: Mapping[str, str] = {
    "DescribeVpcs": "Vpcs",
    "DescribeSubnets": "Subnets",
    "DescribeRouteTables": "RouteTables",
    "DescribeSecurityGroups": "SecurityGroups",
    "DescribeNetworkAcls": "NetworkAcls",
    "DescribeInternetGateways": "InternetGateways",
    "DescribeNatGateways": "NatGateways",
    "DescribeVpcPeeringConnections": "VpcPeeringConnections",
    "DescribeVpcEndpoints": "VpcEndpoints",
    "DescribeManagedPrefixLists": "PrefixLists",
    "DescribeNetworkInterfaces": "NetworkInterfaces",
}

_NAMES = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "-1": ALL_PROTOCOLS}
# As EFS describes the interfaces of its mount targets.
_MOUNT_TARGET = re.compile(r"EFS mount target for (fs-[0-9a-f]+) \((fsmt-[0-9a-f]+)\)")
# How EC2 numbers an ACL's final deny, which is none of its rules.
_FINAL_ENTRY = 32767

Entry = Mapping[str, Any]


def topology(
    answers: Mapping[str, list[Entry]],
    prefixes: Mapping[str, tuple[str, ...]],
    no_dns: frozenset[str],
    account: str,
    region: str,
) -> Topology:
    """`answers` are the lists by operation; `prefixes` the CIDRs of prefix lists by id; `no_dns` the VPCs
    whose enableDnsSupport is off."""
    get = answers.__getitem__
    prefix_lists = {
        entry["PrefixListId"]: PrefixList(
            entry["PrefixListId"], entry.get("PrefixListName", ""), prefixes.get(entry["PrefixListId"], ())
        )
        for entry in get("DescribeManagedPrefixLists")
    }
    vpcs = {
        entry["VpcId"]: Vpc(entry["VpcId"], account, region, _cidrs(entry), entry["VpcId"] not in no_dns)
        for entry in get("DescribeVpcs")
    }
    return Topology(
        vpcs=vpcs,
        subnets={
            entry["SubnetId"]: Subnet(
                entry["SubnetId"], entry["VpcId"], entry["AvailabilityZone"], entry["CidrBlock"]
            )
            for entry in get("DescribeSubnets")
        },
        route_tables={entry["RouteTableId"]: _route_table(entry) for entry in get("DescribeRouteTables")},
        groups={entry["GroupId"]: _group(entry) for entry in get("DescribeSecurityGroups")},
        acls={entry["NetworkAclId"]: _acl(entry) for entry in get("DescribeNetworkAcls")},
        internet_gateways={
            entry["InternetGatewayId"]: InternetGateway(
                entry["InternetGatewayId"],
                next((each["VpcId"] for each in entry.get("Attachments", ()) if each.get("VpcId")), ""),
            )
            for entry in get("DescribeInternetGateways")
        },
        nat_gateways={entry["NatGatewayId"]: _nat_gateway(entry) for entry in get("DescribeNatGateways")},
        peerings={
            entry["VpcPeeringConnectionId"]: Peering(
                entry["VpcPeeringConnectionId"],
                entry["RequesterVpcInfo"]["VpcId"],
                entry["AccepterVpcInfo"]["VpcId"],
                entry["Status"]["Code"],
            )
            for entry in get("DescribeVpcPeeringConnections")
            if entry.get("AccepterVpcInfo", {}).get("VpcId")
        },
        endpoints={entry["VpcEndpointId"]: _endpoint(entry) for entry in get("DescribeVpcEndpoints")},
        prefix_lists=prefix_lists,
        interfaces={
            entry["NetworkInterfaceId"]: _interface(entry)
            for entry in get("DescribeNetworkInterfaces")
            if entry.get("PrivateIpAddress")
        },
    )


def _cidrs(entry: Entry) -> tuple[str, ...]:
    found = [
        each["CidrBlock"]
        for each in entry.get("CidrBlockAssociationSet", ())
        if each.get("CidrBlockState", {}).get("State", "associated") == "associated"
    ]
    return tuple(dict.fromkeys([entry["CidrBlock"], *found]))


def _route_table(entry: Entry) -> RouteTable:
    associations = entry.get("Associations", ())
    return RouteTable(
        entry["RouteTableId"],
        entry["VpcId"],
        any(each.get("Main") for each in associations),
        tuple(each["SubnetId"] for each in associations if each.get("SubnetId")),
        tuple(_routes(entry)),
    )


def _routes(entry: Entry) -> Iterator[Route]:
    targets = (
        "GatewayId",
        "NatGatewayId",
        "VpcPeeringConnectionId",
        "TransitGatewayId",
        "NetworkInterfaceId",
        "InstanceId",
        "VpcEndpointId",
        "EgressOnlyInternetGatewayId",
        "CarrierGatewayId",
        "LocalGatewayId",
    )
    for each in entry.get("Routes", ()):
        destination = each.get("DestinationCidrBlock") or each.get("DestinationPrefixListId")
        target = next((each[name] for name in targets if each.get(name)), "")
        if destination:
            yield Route(destination, target, each.get("State", "active") == "active")


def _group(entry: Entry) -> SecurityGroup:
    return SecurityGroup(
        entry["GroupId"],
        entry.get("VpcId", ""),
        tuple(_permissions(entry.get("IpPermissions", ()))),
        tuple(_permissions(entry.get("IpPermissionsEgress", ()))),
        entry.get("GroupName") == "default",
    )


def _permissions(rules: Any) -> Iterator[Permission]:
    for rule in rules:
        protocol = _protocol(rule.get("IpProtocol", "-1"))
        first, last = rule.get("FromPort"), rule.get("ToPort")
        if protocol == 1:
            ports = (-1 if first is None else first, -1 if last is None else last)
        elif first is None or last is None or first == -1:
            ports = ALL_PORTS
        else:
            ports = (first, last)
        for each in rule.get("IpRanges", ()):
            yield Permission(protocol, ports, each["CidrIp"])
        for each in rule.get("Ipv6Ranges", ()):
            yield Permission(protocol, ports, each["CidrIpv6"])
        for each in rule.get("UserIdGroupPairs", ()):
            if each.get("GroupId"):
                yield Permission(protocol, ports, each["GroupId"])
        for each in rule.get("PrefixListIds", ()):
            yield Permission(protocol, ports, each["PrefixListId"])


def _protocol(text: object) -> int:
    known = _NAMES.get(str(text))
    return known if known is not None else int(str(text))


def _acl(entry: Entry) -> NetworkAcl:
    entries = [
        AclEntry(
            int(each["RuleNumber"]),
            bool(each["Egress"]),
            each["RuleAction"] == "allow",
            _protocol(each.get("Protocol", "-1")),
            each.get("CidrBlock") or each.get("Ipv6CidrBlock", "::/0"),
            _acl_ports(each.get("PortRange") or {}),
        )
        for each in entry.get("Entries", ())
        if int(each["RuleNumber"]) < _FINAL_ENTRY
    ]
    return NetworkAcl(
        entry["NetworkAclId"],
        entry["VpcId"],
        bool(entry.get("IsDefault")),
        tuple(each["SubnetId"] for each in entry.get("Associations", ()) if each.get("SubnetId")),
        tuple(sorted(entries, key=lambda each: each.number)),
    )


def _acl_ports(given: Entry) -> tuple[int, int]:
    first, last = given.get("From"), given.get("To")
    return (first, last) if first is not None and last is not None and first >= 0 else ALL_PORTS


def _nat_gateway(entry: Entry) -> NatGateway:
    addresses = entry.get("NatGatewayAddresses") or [{}]
    return NatGateway(
        entry["NatGatewayId"],
        entry["VpcId"],
        entry["SubnetId"],
        addresses[0].get("PrivateIp", ""),
        entry.get("ConnectivityType", "public") == "public",
        entry["State"],
    )


def _endpoint(entry: Entry) -> Endpoint:
    return Endpoint(
        entry["VpcEndpointId"],
        entry["VpcId"],
        entry.get("VpcEndpointType", "Gateway") == "Gateway",
        entry["ServiceName"],
        str(entry.get("State", "available")).lower(),
        tuple(entry.get("RouteTableIds", ())),
        tuple(entry.get("SubnetIds", ())),
        tuple(each["GroupId"] for each in entry.get("Groups", ())),
        tuple(entry.get("NetworkInterfaceIds", ())),
    )


def _interface(entry: Entry) -> Interface:
    description = entry.get("Description", "")
    # Anybody may describe an interface so; only EFS's are managed by their requester.
    named = _MOUNT_TARGET.fullmatch(description) if entry.get("RequesterManaged") else None
    function = entry.get("InterfaceType") == "lambda"
    owner = "function interface " + entry["NetworkInterfaceId"] if function else ""
    return Interface(
        entry["NetworkInterfaceId"],
        entry["VpcId"],
        entry["SubnetId"],
        entry["PrivateIpAddress"],
        tuple(each["GroupId"] for each in entry.get("Groups", ())),
        function,
        f"mount target {named[2]}" if named is not None else owner,
        named[1] if named is not None else "",
    )
