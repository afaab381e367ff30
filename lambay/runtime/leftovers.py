"""What a killed instance left behind on this machine, found by its run directory, and ended."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from lambay.runtime import kernel
from lambay.runtime.sandbox import Tree

_OCTAL = re.compile(r"\\([0-7]{3})")

_log = logging.getLogger("lambay.runtime")


def end_slots(slots: Path) -> None:
    """Detach every mount below `slots` and remove the slots' directories.

    Their processes have ended before: control groups are cleared first, and a FUSE mount whose server is gone
    fails at once when it is detached lazily.
    """
    if slots in _mounted_below(slots):
        # All at once: each call waits for the kernel's RCU, for a thousand slots' mounts a minute in all.
        kernel.detach(slots)
    for mounted in reversed(_mounted_below(slots)):
        kernel.detach(mounted)
    if not slots.is_dir():
        return
    for directory in slots.iterdir():
        try:
            Tree(directory).remove()
        except OSError as error:
            _log.warning("left as it is: %s", error)


def _mounted_below(directory: Path) -> list[Path]:
    """Mount points in the order of their making; see proc(5), mountinfo."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        name = _OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ", 5)[4])
        if Path(name).is_relative_to(directory):
            found.append(Path(name))
    return found
