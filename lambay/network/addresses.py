"""Addresses inside Lambay's own namespaces: link-local ones, which no VPC may have as its block."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv4Address

GATEWAY = "169.254.1.1"
"""The edge's, towards environments and VPCs alike."""

_ENVIRONMENTS = (IPv4Address("169.254.8.0"), 120 * 256)
_ROUTERS = (IPv4Address("169.254.128.0"), 20 * 256)
_NAT = (IPv4Address("169.254.148.0"), 20 * 256)


class Pool:
    """Numbers from 1 to `size`, each lent to one owner at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 1
        self._free: deque[int] = deque()

    def take(self) -> int:
        """Raises OSError when all are lent."""
        # One that was given back rests for as long as there are others.
        if self._next <= self._size:
            self._next += 1
            return self._next - 1
        if not self._free:
            raise OSError("no network address is left")
        return self._free.popleft()

    def give_back(self, number: int) -> None:
        self._free.append(number)


def environments() -> Pool:
    return Pool(_ENVIRONMENTS[1] - 1)


def environment(number: int) -> str:
    return str(_ENVIRONMENTS[0] + number)


def router(number: int) -> str:
    """Of a VPC's namespace."""
    return str(_ROUTERS[0] + number)


def nat(number: int) -> str:
    """What a NAT gateway's traffic leaves its VPC with."""
    return str(_NAT[0] + number)
