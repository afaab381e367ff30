"""Where a file system policy tells clients apart by their addresses (`aws:SourceIp`).

Networks lie within each other or apart, never across. So all addresses that have the same smallest one of those that a
policy names are the same to it, and one of them can be asked about for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def places(policy: str | None) -> list[tuple[Network, Address]]:
    """Every network that makes a difference, and an address that is in no smaller one of them.

    Empty where the policy does not ask for addresses; otherwise every address is in one. Networks that consist of
    smaller ones altogether are left out.
    """
    named = set() if policy is None else set(_named(json.loads(policy)))
    if not named:
        return []
    networks = sorted(named | set(_EVERYWHERE), key=lambda network: (network.version, network))
    found = ((network, _own(network, networks)) for network in networks)
    return [(network, address) for network, address in found if address is not None]


def _own(network: Network, networks: Sequence[Network]) -> Address | None:
    """Its first address that is in no other one within it. `networks` are in order."""
    first = int(network.network_address)
    for other in networks:
        within = other.version == network.version and other != network and _contains(network, other)
        if not within or int(other.broadcast_address) < first:
            continue
        if first < int(other.network_address):
            break
        first = int(other.broadcast_address) + 1
    if first > int(network.broadcast_address):
        return None
    return network.network_address + (first - int(network.network_address))


def _contains(network: Network, other: Network) -> bool:
    return network.prefixlen <= other.prefixlen and other.network_address in network


def _named(policy: Any) -> Iterator[Network]:
    """What stands beside aws:SourceIp, in whichever condition."""
    statements = policy.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        for keys in (statement.get("Condition") or {}).values():
            for key, values in keys.items():
                if key.lower() != "aws:sourceip":
                    continue
                for value in values if isinstance(values, list) else [values]:
                    # Other text is no address of anybody.
                    with suppress(ValueError):
                        yield ip_network(value, strict=False)
