"""The AWS endpoint on an environment's loopback, shut where the VPC has no way to AWS.

With `open_endpoint` off a function in a VPC reaches AWS as it would there: through a NAT gateway, or by a VPC
endpoint. Without either its connections to the endpoint get no answer.
"""

from __future__ import annotations

from msgspec.structs import replace

from lambay.network.model import Endpoint, Interface, Topology, reach
from lambay.network.model.records import covers, network
from lambay.network.nftables import DROP, Nftables, Table, match, meta, replaced_table
from lambay.network.nftables import field as header

_TABLE = "endpoint"
# An address of AWS's own, as far as routes are concerned.
_AWS = "52.94.0.1"
_HTTPS = 443


def has_way_to_aws(topology: Topology, interface: Interface) -> bool:
    """By NAT gateway, or by any endpoint that the interface reaches; of whichever service."""
    if reach(topology, interface, _AWS, "tcp", _HTTPS).allowed:
        return True
    available = [
        each
        for each in topology.endpoints.values()
        if each.vpc == interface.vpc and each.state == "available"
    ]
    table = topology.route_table_of(interface.subnet)
    targets = {route.target for route in table.routes if route.active} if table is not None else set()
    for endpoint in available:
        if endpoint.gateway and endpoint.id in targets:
            return True
        for identifier in endpoint.interfaces:
            there = topology.interfaces.get(identifier)
            if there is None:
                continue
            there = _of_endpoint(topology, endpoint, there)
            if reach(topology, interface, there, "tcp", _HTTPS).allowed:
                return True
    return False


def _of_endpoint(topology: Topology, endpoint: Endpoint, there: Interface) -> Interface:
    """An endpoint's interface with the groups and an address as AWS gives them."""
    groups = endpoint.groups or tuple(
        each.id for each in topology.groups.values() if each.default and each.vpc == endpoint.vpc
    )
    block = network(topology.subnets[there.subnet].cidr)
    inside = covers(str(block), there.address)
    address = there.address if inside else str(block.network_address + 4)
    return replace(there, groups=groups, address=address)


def shut(network: int, port: int) -> None:
    """Nothing on the namespace's loopback answers on this port any more. Raises OSError."""
    table = Table(_TABLE)
    table.chain("input", type="filter", hook="input", prio=0, policy="accept")
    table.rule("input", match(meta("iifname"), "lo"), match(header("dport", "tcp"), port), DROP)
    _commit(network, [*replaced_table(_TABLE), *table.commands])


def open_again(network: int) -> None:
    _commit(network, replaced_table(_TABLE))


def _commit(network: int, commands: list[dict[str, object]]) -> None:
    rules = Nftables(network)
    try:
        rules.commit(commands)
    finally:
        rules.close()
