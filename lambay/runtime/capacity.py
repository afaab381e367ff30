"""Whether this machine has the memory, and Lambay the file descriptors, for one more environment.

What functions may use together is far more than a small host has, as on Lambda's own; but a new environment is
refused rather than started into a swap storm, or with the descriptor that another's end will need.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_FLOOR_MB = 512
_FLOOR_SHARE = 10
ENVIRONMENT_MB = 32
"""About what an idle Python environment holds."""
_DESCRIPTORS = Path("/proc/self/fd")
_KEPT_SHARE = 8
ENVIRONMENT_DESCRIPTORS = 12
"""What an environment keeps open in the server, and a little for its beginning."""


def spare_mb(meminfo: str | None = None) -> int:
    """MiB that are available beyond what is kept for the host: a tenth of its memory, at most 512 MiB."""
    sizes: dict[str, int] = {}
    for line in (_MEMINFO.read_text() if meminfo is None else meminfo).splitlines():
        name, _, size = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            sizes[name] = int(size.split()[0]) // 1024
    return sizes["MemAvailable"] - min(_FLOOR_MB, sizes["MemTotal"] // _FLOOR_SHARE)


def spare_descriptors() -> int:
    """How many this process may open beyond an eighth of its limit, which is kept for connections and files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    # The size is their number since Linux 6.2, else 0.
    used = _DESCRIPTORS.stat().st_size or len(os.listdir(_DESCRIPTORS))
    return limit - limit // _KEPT_SHARE - used
