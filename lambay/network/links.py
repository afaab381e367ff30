"""Links, addresses and routes of one namespace, by rtnetlink."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lambay.network.namespaces import inside

if TYPE_CHECKING:
    from pyroute2 import IPRoute

BLACKHOLE = "blackhole"


class Links:
    """Of the namespace; `None` is the calling thread's own. All calls come from the thread that made it.

    Raises OSError.
    """

    def __init__(self, namespace: int | None = None) -> None:
        # Imported when the first link is made: who has no function pays nothing for it.
        from pyroute2 import IPRoute

        if namespace is None:
            self._route: IPRoute = IPRoute()
        else:
            with inside(namespace):
                self._route = IPRoute()
        self._indices: dict[str, int] = {"lo": 1}

    def close(self) -> None:
        self._route.close()

    def make_pair(self, name: str, peer: str, peer_namespace: int) -> None:
        """A virtual cable from `name` here to `peer` there."""
        self._do(
            lambda: self._route.link(
                "add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": peer_namespace}
            )
        )

    def raise_up(self, name: str, address: str | None = None, length: int = 32) -> None:
        """With the address, if one is given."""
        index = self.index(name)
        if address is not None:
            self._do(lambda: self._route.addr("replace", index=index, address=address, prefixlen=length))
        self._do(lambda: self._route.link("set", index=index, state="up"))

    def add_address(self, name: str, address: str, length: int = 32) -> None:
        self._do(
            lambda: self._route.addr("replace", index=self.index(name), address=address, prefixlen=length)
        )

    def remove_address(self, name: str, address: str, length: int = 32) -> None:
        self._gone(lambda: self._route.addr("del", index=self.index(name), address=address, prefixlen=length))

    def route(self, destination: str, link: str, via: str | None = None, table: int = 254) -> None:
        """`via` is a neighbour on the link, whatever the addresses."""
        given: dict[str, Any] = {"dst": destination, "oif": self.index(link), "table": table}
        if via is not None:
            given |= {"gateway": via, "flags": ["onlink"]}
        else:
            given["scope"] = "link"
        self._do(lambda: self._route.route("replace", **given))

    def drop_route(self, destination: str, table: int = 254) -> None:
        """What goes there vanishes, without a word to the sender."""
        self._do(lambda: self._route.route("replace", dst=destination, type=BLACKHOLE, table=table))

    def forget_route(self, destination: str, table: int = 254) -> None:
        self._gone(lambda: self._route.route("del", dst=destination, table=table))

    def default_links(self) -> list[str]:
        """Links that a default route goes by."""
        indices = {
            route.get_attr("RTA_OIF")
            for route in self._route.get_routes(family=2, table=254)
            if not route["dst_len"]
        }
        return [link.get_attr("IFLA_IFNAME") for link in self._route.get_links() if link["index"] in indices]

    def routes(self) -> list[str]:
        """Destinations of every table."""
        found = []
        for route in self._route.get_routes(family=2):
            destination = route.get_attr("RTA_DST") or "0.0.0.0"
            found.append(f"{destination}/{route['dst_len']}")
        return found

    def rule(self, table: int, priority: int, *, mark: int | None = None, source: str | None = None) -> None:
        given: dict[str, Any] = {"table": table, "priority": priority}
        if mark is not None:
            given["fwmark"] = mark
        if source is not None:
            address, _, length = source.partition("/")
            given |= {"src": address, "src_len": int(length)}
        try:
            self._route.rule("add", **given)
        except Exception as error:
            if getattr(error, "code", None) != errno.EEXIST:
                raise _as_os_error(error) from error

    def forget_rule(self, priority: int) -> None:
        self._gone(lambda: self._route.rule("del", priority=priority))

    def remove(self, name: str) -> None:
        self._gone(lambda: self._route.link("del", index=self.index(name)))
        self._indices.pop(name, None)

    def index(self, name: str) -> int:
        known = self._indices.get(name)
        if known is None:
            found: Sequence[int] = self._route.link_lookup(ifname=name)
            if not found:
                raise OSError(errno.ENODEV, f"no link {name}")
            known = self._indices[name] = found[0]
        return known

    def forget(self, name: str) -> None:
        """The link went away by itself, and its name may come again."""
        self._indices.pop(name, None)

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError:
            raise
        except Exception as error:
            raise _as_os_error(error) from error

    def _gone(self, work: Callable[[], object]) -> None:
        """Not being there is as good as being removed."""
        try:
            self._do(work)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENOENT):
                raise


def _as_os_error(error: Exception) -> OSError:
    code = getattr(error, "code", None)
    return OSError(code if isinstance(code, int) else errno.EIO, f"netlink: {error}")
