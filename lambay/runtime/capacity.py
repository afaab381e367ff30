"""Whether this machine has the memory for one more environment.

What functions may use together is far more than a small host has, as on Lambda's own; but a new environment is
refused rather than started into a swap storm.
"""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_FLOOR_MB = 512
_FLOOR_SHARE = 10
ENVIRONMENT_MB = 32
"""About what an idle Python environment holds."""


def spare_mb(meminfo: str | None = None) -> int:
    """MiB that are available beyond what is kept for the host: a tenth of its memory, at most 512 MiB."""
    sizes: dict[str, int] = {}
    for line in (_MEMINFO.read_text() if meminfo is None else meminfo).splitlines():
        name, _, size = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            sizes[name] = int(size.split()[0]) // 1024
    return sizes["MemAvailable"] - min(_FLOOR_MB, sizes["MemTotal"] // _FLOOR_SHARE)
