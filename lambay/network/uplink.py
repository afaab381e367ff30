"""The host's side of the edge: one link, one small network of addresses, one table that lends the host's own.

They are named by the instance's tag, so that the next start finds what a killed one left: the table, for the
link goes with the edge's namespace.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from lambay.network import namespaces
from lambay.network.links import Links
from lambay.network.nftables import ACCEPT, DROP, Nftables, Table, ct, match, meta, replaced_table
from lambay.network.nftables import field as header

HOST_LINK = "host"
"""The link's name in the edge."""

LAN = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
)
_LOCK = Path("/run/lambay/networks.lock")
_ROOM = IPv4Network("100.64.0.0/10")
_LENGTH = 30
_FORWARDING = "net/ipv4/conf/{}/forwarding"

_log = logging.getLogger("lambay.network")


class Uplink:
    """`tag` names the instance; the link's name on the host is `lby` and its beginning."""

    length = _LENGTH

    def __init__(self, tag: str, *, allow_lan: bool) -> None:
        self.link = f"lby{tag}"[:15]
        self.table = f"lambay-{tag}"
        self._allow_lan = allow_lan
        self._links = Links()
        self._nftables = Nftables()
        self._network: IPv4Network | None = None

    @property
    def outer(self) -> str:
        """The host's address on the link."""
        assert self._network is not None
        return str(self._network[1])

    @property
    def inner(self) -> str:
        assert self._network is not None
        return str(self._network[2])

    def plug(self, edge: int) -> None:
        """Raises OSError."""
        self.clear()
        with _alone():
            self._links.forget(self.link)
            self._network = self._free_network()
            self._links.make_pair(self.link, HOST_LINK, edge)
            self._links.raise_up(self.link, self.outer, _LENGTH)
        self._lay_rules()
        self._forward()

    def unplug(self) -> None:
        self.clear()
        self._links.close()
        self._nftables.close()

    def clear(self) -> None:
        """Remove what there is of this instance on the host; raises OSError."""
        self._links.remove(self.link)
        if ("ip", self.table) in self._nftables.tables():
            self._nftables.commit([{"delete": {"table": {"family": "ip", "name": self.table}}}])

    def _free_network(self) -> IPv4Network:
        """A network that no route of the host leads to, the default route apart."""
        taken = [IPv4Network(each) for each in self._links.routes()]
        taken = [each for each in taken if each.prefixlen > 0]
        for network in _ROOM.subnets(new_prefix=_LENGTH):
            if not any(network.overlaps(each) for each in taken):
                return network
        raise OSError(f"the host's routes leave no network of {_ROOM} free for functions")

    def _lay_rules(self) -> None:
        table = Table(self.table)
        here, source = match(meta("iifname"), self.link), header("saddr")
        assert self._network is not None
        if not self._allow_lan:
            table.chain("input", type="filter", hook="input", prio=-10, policy="accept")
            # Answers to what the host itself opened, which is nothing, would be no reason to admit more.
            table.rule("input", here, match(ct("state"), ["established", "related"], "in"), ACCEPT)
            table.rule("input", here, DROP)
        table.chain("forward", type="filter", hook="forward", prio=-10, policy="accept")
        table.rule("forward", here, match(source, self.inner, "!="), DROP)
        # Nobody but the edge's own connections comes in.
        inward = match(meta("oifname"), self.link)
        table.rule("forward", inward, match(ct("state"), ["established", "related"], "in"), ACCEPT)
        table.rule("forward", inward, DROP)
        table.chain("leaving", type="nat", hook="postrouting", prio=100, policy="accept")
        table.rule(
            "leaving",
            match(source, self.inner),
            match(meta("oifname"), self.link, "!="),
            {"masquerade": None},
        )
        self._nftables.commit([*replaced_table(self.table), *table.commands])

    def _forward(self) -> None:
        """Let the host pass on what comes by the link and the answers to it.

        Where the host forwards everything already nothing changes; else only our link and those with a
        default route do.
        """
        if namespaces.sysctl("net/ipv4/ip_forward") == "1":
            return
        for name in (self.link, *self._links.default_links()):
            try:
                namespaces.set_sysctl(_FORWARDING.format(name), "1")
            except OSError as error:
                _log.warning(
                    "functions have no internet: forwarding on %s cannot be switched on: %s", name, error
                )


@contextmanager
def _alone() -> Iterator[None]:
    """Two instances do not choose their networks at the same moment."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
