"""FUSE mounts as the kernel knows them: found, their connections aborted, detached.

Aborting a connection makes every request that waits on it fail at once, also in other mount namespaces; a
process stuck on a dead server can be killed again only after that (Documentation/filesystems/fuse).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("lambay.fsd")

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_SOURCE = "lambay:"
_MNT_DETACH = 2
_OCTAL = re.compile(r"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class FuseMount:
    mountpoint: Path
    connection: int


def fuse_mounts() -> list[FuseMount]:
    """fsd's mounts in this mount namespace, later ones first, so that stacked ones detach in order."""
    found: list[FuseMount] = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        # proc(5): ID parent major:minor root mountpoint options [optional]… - type source options
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        kind, source = after.split(" ")[:2]
        if kind.partition(".")[0] == "fuse" and source.startswith(_SOURCE):
            name = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
            found.append(FuseMount(Path(name), int(fields[2].partition(":")[2])))
    return found[::-1]


def abort_mounts(wanted: Callable[[Path], bool]) -> list[FuseMount]:
    """Abort the connections of fsd's mounts on `wanted` mountpoints, which stay mounted and fail every request.

    Only what is mounted is aborted: the kernel gives the number of an ended connection to the next one at
    once, which may be anybody's.
    """
    _mount_fusectl()
    aborted = [mount for mount in fuse_mounts() if wanted(mount.mountpoint)]
    for mount in aborted:
        _abort(mount.connection)
    return aborted


def end_mounts(wanted: Callable[[Path], bool]) -> None:
    """Abort and detach fsd's mounts on `wanted` mountpoints."""
    for mount in abort_mounts(wanted):
        _detach(mount.mountpoint)


def _detach(mountpoint: Path) -> None:
    """Lazily unmount; a mountpoint that is not mounted is fine."""
    if _libc.umount2(os.fsencode(mountpoint), _MNT_DETACH) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            _log.warning("cannot unmount %s: %s", mountpoint, os.strerror(number))


def _abort(connection: int) -> None:
    try:
        (_CONNECTIONS / str(connection) / "abort").write_text("1")
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("cannot abort FUSE connection %d: %s", connection, error)


def _mount_fusectl() -> None:
    if _CONNECTIONS.is_dir() and not os.path.ismount(_CONNECTIONS):
        kind = b"fusectl"
        if _libc.mount(kind, os.fsencode(_CONNECTIONS), kind, 0, None) != 0:
            _log.warning("cannot mount fusectl on %s: %s", _CONNECTIONS, os.strerror(ctypes.get_errno()))
