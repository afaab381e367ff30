"""Forgetting connections: what ctnetlink says and libnftables does not; see linux/netfilter/nfnetlink_conntrack.h."""

from __future__ import annotations

import os
import socket
import struct

from lambay.network.namespaces import inside

_NETLINK_NETFILTER = 12
_SUBSYSTEM, _DELETE = 1 << 8, 2
_REQUEST, _ACK = 1, 4
_ERROR = 2
_MARK, _MARK_MASK = 8, 21


class Conntrack:
    """The connections of one namespace."""

    def __init__(self, namespace: int) -> None:
        with inside(namespace):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
            )
        self._socket.bind((0, 0))

    def forget(self, mark: int) -> None:
        """Every connection that has this mark. Raises OSError."""
        attributes = struct.pack("=HH", 8, _MARK) + struct.pack("!I", mark)
        attributes += struct.pack("=HH", 8, _MARK_MASK) + struct.pack("!I", 0xFFFFFFFF)
        body = struct.pack("!BBH", socket.AF_INET, 0, 0) + attributes
        header = struct.pack("=IHHII", 16 + len(body), _SUBSYSTEM | _DELETE, _REQUEST | _ACK, 1, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(4096)
        if struct.unpack_from("=H", answer, 4)[0] == _ERROR:
            number = -struct.unpack_from("=i", answer, 16)[0]
            if number:
                raise OSError(number, f"conntrack: {os.strerror(number)}")

    def close(self) -> None:
        self._socket.close()
