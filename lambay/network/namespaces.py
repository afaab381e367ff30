"""Network namespaces, held by descriptors alone: the kernel removes one, links and rules and all, with its last
descriptor, socket and process, so nothing outlives a Lambay that was killed.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def current() -> int:
    """A new descriptor of the calling thread's namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """The calling thread is in the namespace within. Raises OSError."""
    home = current()
    try:
        _checked(_libc.setns(namespace, _CLONE_NEWNET), "setns")
        try:
            yield
        finally:
            _checked(_libc.setns(home, _CLONE_NEWNET), "setns")
    finally:
        os.close(home)


def make(settings: Mapping[str, str]) -> int:
    """A descriptor of a new namespace whose `net/…` sysctls are set so. Raises OSError."""
    home = current()
    try:
        _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            for name, value in settings.items():
                set_sysctl(name, value)
            return current()
        finally:
            _checked(_libc.setns(home, _CLONE_NEWNET), "setns")
    finally:
        os.close(home)


def set_sysctl(name: str, value: str) -> None:
    """Of the calling thread's namespace; `name` is such as `net/ipv4/ip_forward`."""
    (Path("/proc/sys") / name).write_text(value)


def sysctl(name: str) -> str:
    return (Path("/proc/sys") / name).read_text().strip()


def open_socket(namespace: int, kind: int) -> socket.socket:
    """A non-blocking IPv4 socket of the namespace."""
    with inside(namespace):
        return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
