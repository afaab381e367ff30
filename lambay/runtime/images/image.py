"""An image that is unpacked, as environments are made from it."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
HOST_ARCHITECTURE = _ARCHITECTURES.get(platform.machine(), platform.machine())
"""As images name it."""


class ImageUnusable(Exception):
    """The image cannot be unpacked or run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """`layers` are unpacked directories, the lowest first. What is executed is `entry_point` and `command`."""

    layers: tuple[Path, ...]
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    architecture: str = HOST_ARCHITECTURE

    def overridden(
        self, entry_point: Sequence[str] = (), command: Sequence[str] = (), working_directory: str = ""
    ) -> Image:
        """With what a function's ImageConfig says in place of the image's own; an entry point drops the command."""
        return dataclasses.replace(
            self,
            entry_point=tuple(entry_point) or self.entry_point,
            command=tuple(command) or (() if entry_point else self.command),
            working_directory=working_directory or self.working_directory,
        )
