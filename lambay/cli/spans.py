"""Spans of time as people type them: 90s, 10m, 6h, 30d."""

from __future__ import annotations

import re

from lambay.cli.endpoint import CommandError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, text: str) -> int:
    """Raises CommandError that names `option`."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise CommandError(f"{option}: {text!r} is not a number with s, m, h or d, such as 10m")
    return int(match[1]) * _UNITS[match[2]]
