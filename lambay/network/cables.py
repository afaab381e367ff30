"""An environment's cable, laid with a few netlink messages.

Sandboxes come by the hundred, and what a general library spends on a message is more than the kernel does;
everything rarer goes by `links`. See rtnetlink(7), linux/if_link.h and linux/rtnetlink.h.
"""

from __future__ import annotations

import os
import socket
import struct

from lambay.network.namespaces import inside

_NEWLINK, _SETLINK, _NEWADDR, _NEWROUTE, _DELROUTE, _NEWNEIGHBOUR = 16, 19, 20, 24, 25, 28
_MAKING = (_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGHBOUR)
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_UP = 1
_NESTED = 1 << 15
_HARDWARE, _IFNAME, _LINKINFO, _NET_NS_FD = 1, 3, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_ADDRESS, _LOCAL = 1, 2
_NEIGHBOUR, _NEIGHBOUR_HARDWARE, _PERMANENT = 1, 2, 0x80
_DESTINATION, _OUT, _GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_ON_LINK = 4

INSIDE = "eth0"
_INSIDE_INDEX = 2
# Above what the kernel gives out by itself in an edge.
_FIRST_INDEX = 1_000_000


class Edgewise:
    """The edge's side: cables end at links whose index is known from their number."""

    def __init__(self, edge: int) -> None:
        self._edge = edge
        self._socket = _open(edge)

    def close(self) -> None:
        self._socket.close()

    def lay(self, environment: int, number: int, link: str, address: str, gateway: str) -> None:
        """From `eth0` in the environment, with this address and a default route, to `link` in the edge.

        Raises OSError.
        """
        index = _FIRST_INDEX + number
        own, other = socket.inet_aton(address), socket.inet_aton(gateway)
        # Each end is told the other's address: nobody asks by ARP, whose table all namespaces of a host share.
        near, far = struct.pack("!HI", 0x0200, number), struct.pack("!HI", 0x0201, number)
        named = _attribute(_HARDWARE, far) + _text(_IFNAME, link)
        peer = _link(index, named + _number(_NET_NS_FD, self._edge))
        veth = _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER | _NESTED, peer))
        kind = _attribute(_LINKINFO | _NESTED, _text(_INFO_KIND, "veth") + veth)
        by_gateway = _attribute(_GATEWAY, other) + _number(_OUT, _INSIDE_INDEX)
        there = _open(environment)
        try:
            _send(
                there,
                (_NEWLINK, _link(_INSIDE_INDEX, _attribute(_HARDWARE, near) + _text(_IFNAME, INSIDE) + kind)),
                (_NEWADDR, _address(_INSIDE_INDEX, own)),
                (_SETLINK, _link(_INSIDE_INDEX, b"", _UP)),
                (_NEWNEIGHBOUR, _neighbour(_INSIDE_INDEX, other, far)),
                (_NEWROUTE, _route(0, _SCOPE_UNIVERSE, _ON_LINK, by_gateway)),
            )
        finally:
            there.close()
        to_environment = _attribute(_DESTINATION, own) + _number(_OUT, index)
        _send(
            self._socket,
            (_SETLINK, _link(index, b"", _UP)),
            (_NEWNEIGHBOUR, _neighbour(index, own, near)),
            (_NEWROUTE, _route(32, _SCOPE_LINK, 0, to_environment)),
        )

    def forget(self, number: int, address: str) -> None:
        """Packets go there no more; the cable itself goes with the environment's namespace. Raises OSError."""
        to_environment = _attribute(_DESTINATION, socket.inet_aton(address)) + _number(
            _OUT, _FIRST_INDEX + number
        )
        _send(self._socket, (_DELROUTE, _route(32, _SCOPE_LINK, 0, to_environment)))


def _open(namespace: int) -> socket.socket:
    with inside(namespace):
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, 0))
    return opened


def _send(opened: socket.socket, *messages: tuple[int, bytes]) -> None:
    """All in one, each acknowledged. Raises the first refusal as OSError."""
    packed = b""
    for kind, body in messages:
        flags = _REQUEST | _ACK | (_CREATE | _EXCLUSIVE if kind in _MAKING else 0)
        packed += struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    opened.send(packed)
    waiting, failed = len(messages), 0
    while waiting:
        answer = opened.recv(65536)
        while len(answer) >= 20:
            length, kind = struct.unpack_from("=IH", answer)
            if kind == _ERROR:
                waiting -= 1
                failed = failed or -struct.unpack_from("=i", answer, 16)[0]
            answer = answer[(length + 3) & ~3 :]
    if failed:
        raise OSError(failed, f"rtnetlink: {os.strerror(failed)}")


def _attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _link(index: int, attributes: bytes, flags: int = 0) -> bytes:
    """struct ifinfomsg. A cable's ends can be raised once both are there."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags) + attributes


def _address(index: int, address: bytes) -> bytes:
    """struct ifaddrmsg, of one address alone."""
    head = struct.pack("=BBBBI", socket.AF_INET, 32, 0, _SCOPE_UNIVERSE, index)
    return head + _attribute(_LOCAL, address) + _attribute(_ADDRESS, address)


def _neighbour(index: int, address: bytes, hardware: bytes) -> bytes:
    """struct ndmsg, for good."""
    head = struct.pack("=BxxxiHBB", socket.AF_INET, index, _PERMANENT, 0, 0)
    return head + _attribute(_NEIGHBOUR, address) + _attribute(_NEIGHBOUR_HARDWARE, hardware)


def _route(length: int, scope: int, flags: int, attributes: bytes) -> bytes:
    """struct rtmsg of the main table."""
    head = (socket.AF_INET, length, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST, flags)
    return struct.pack("=BBBBBBBBI", *head) + attributes
