"""What of a VPC decides about packets, as plain values, and the one function that says what reaches what.

Pure: no record is fetched and no packet moved here. Reading EC2's answers into `Topology` lives here as well.
"""

from lambay.network.model.reach import Stop, StopKind, Verdict, reach
from lambay.network.model.records import (
    AclEntry,
    Endpoint,
    Interface,
    InternetGateway,
    NatGateway,
    NetworkAcl,
    Peering,
    Permission,
    PrefixList,
    Protocol,
    Route,
    RouteTable,
    SecurityGroup,
    Subnet,
    Topology,
    Vpc,
)

__all__ = [
    "AclEntry",
    "Endpoint",
    "Interface",
    "InternetGateway",
    "NatGateway",
    "NetworkAcl",
    "Peering",
    "Permission",
    "PrefixList",
    "Protocol",
    "Route",
    "RouteTable",
    "SecurityGroup",
    "Stop",
    "StopKind",
    "Subnet",
    "Topology",
    "Verdict",
    "Vpc",
    "reach",
]
