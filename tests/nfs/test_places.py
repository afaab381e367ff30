"""Networks that a policy tells apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from lambay.nfs.places import places


def policy(*conditions: dict[str, dict[str, str | list[str]]]) -> str:
    return json.dumps(
        {"Statement": [{"Effect": "Allow", "Condition": condition} for condition in conditions]}
    )


def shown(text: str | None) -> list[tuple[str, str]]:
    return [(str(network), str(address)) for network, address in places(text)]


def test_no_policy_and_one_about_other_things_tell_nobody_apart() -> None:
    assert shown(None) == []
    assert shown(json.dumps({"Statement": {"Effect": "Allow", "Action": "*"}})) == []
    assert shown(policy({"Bool": {"aws:SecureTransport": "true"}})) == []


def test_what_is_outside_is_a_place_as_well() -> None:
    found = shown(policy({"IpAddress": {"aws:sourceIP": ["10.0.0.0/8", "10.1.2.3"]}}))
    assert found == [
        ("0.0.0.0/0", "0.0.0.0"),
        ("10.0.0.0/8", "10.0.0.0"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("::/0", "::"),
    ]


def test_a_network_of_smaller_ones_altogether_is_none() -> None:
    halves = ["0.0.0.0/1", "128.0.0.0/1"]
    found = shown(policy({"NotIpAddress": {"aws:SourceIp": halves}}, {"IpAddress": {"aws:SourceIp": "::/0"}}))
    assert found == [("0.0.0.0/1", "0.0.0.0"), ("128.0.0.0/1", "128.0.0.0"), ("::/0", "::")]


def test_text_that_is_no_address_is_nobodys() -> None:
    assert shown(policy({"StringLike": {"aws:SourceIp": "10.*"}})) == []


NETWORKS = st.builds(
    lambda bits, prefix: ip_network((bits << 28, prefix), strict=False), st.integers(0, 15), st.integers(0, 6)
)


@settings(deadline=None)
@given(st.lists(NETWORKS, min_size=1, max_size=12))
def test_every_address_is_as_the_one_that_is_asked_about(networks: Sequence[IPv4Network]) -> None:
    """Whatever a condition asks: it is in the same networks."""
    asked = places(policy({"IpAddress": {"aws:SourceIp": [str(network) for network in networks]}}))
    for bits in range(64):
        address = ip_address(bits << 26)
        around = [(network, same) for network, same in asked if address in network]
        _, same = max(around, key=lambda place: place[0].prefixlen)
        assert [address in network for network in networks] == [same in network for network in networks]
