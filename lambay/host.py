"""What Lambay needs of the machine it runs on, and why; checked once, before anything is touched."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Bits of CapEff in /proc/self/status; see capabilities(7) and linux/capability.h.
_CAPABILITIES = {
    "CAP_CHOWN": (0, "to give files to an access point's owner"),
    "CAP_DAC_READ_SEARCH": (2, "to open files by handle"),
    "CAP_KILL": (5, "to end functions"),
    "CAP_SETGID": (6, "to act with an access point's groups"),
    "CAP_SETUID": (7, "to act as an access point's user"),
    "CAP_NET_ADMIN": (12, "to build networks"),
    "CAP_SYS_ADMIN": (21, "to mount file systems and make namespaces"),
    "CAP_MKNOD": (27, "to attach the images behind /tmp"),
}

_COMMANDS = {
    "bwrap": ("bubblewrap", "starts the sandbox of an execution environment"),
    "setpriv": ("util-linux", "drops a sandbox's privileges"),
    "losetup": ("mount", "attaches the image behind a function's /tmp"),
    "mkfs.ext4": ("e2fsprogs", "formats the image behind a function's /tmp"),
}


def unmet_needs() -> list[str]:
    """One sentence for each thing that is missing, naming it, its use and its remedy; empty when all is well."""
    return [*_rights(), *_devices(), *_commands(), *_libraries(), *_cgroups(), *_binaries()]


def _rights() -> Iterator[str]:
    if os.geteuid() != 0:
        yield (
            "root: Lambay mounts file systems, makes namespaces and runs each function as a user of its own; "
            "start it as root (sudo .venv/bin/lambay up)"
        )
        return
    held = _effective_capabilities()
    for name, (bit, use) in _CAPABILITIES.items():
        if not held >> bit & 1:
            yield f"{name} {use}; in a container, start it with --privileged or --cap-add {name.removeprefix('CAP_')}"


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _devices() -> Iterator[str]:
    if not Path("/dev/fuse").exists():
        yield "/dev/fuse: FUSE carries every file system; load the module (modprobe fuse) or pass the device in"
    if not Path("/dev/loop-control").exists():
        yield "/dev/loop-control: loop devices carry a function's /tmp; load the module (modprobe loop) or pass it in"


def _commands() -> Iterator[str]:
    for command, (package, use) in _COMMANDS.items():
        if shutil.which(command) is None:
            yield f"{command} {use}; install the package {package} (make setup does)"


def _libraries() -> Iterator[str]:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        yield (
            "libnftables.so.1: security groups and network ACLs are its rules; install the package nftables "
            "(make setup does)"
        )


def _cgroups() -> Iterator[str]:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    if not any(line.split()[2] == "cgroup2" for line in mounts):
        yield "cgroup v2: it freezes and ends functions; mount it (mount -t cgroup2 none /sys/fs/cgroup/unified)"


def _binaries() -> Iterator[str]:
    fsd = Path(sys.executable).parent / "fsd"
    if not os.access(fsd, os.X_OK):
        yield f"fsd, the file server, is not at {fsd}; build it with make setup"
