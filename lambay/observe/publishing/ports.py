"""What the room needs from others, each as narrow as its use here, as constructor arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Stats(Protocol):
    """Counters by volume and by mount, each by its name, as fsd's README lists them."""

    @property
    def volumes(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def mounts(self) -> Mapping[str, Mapping[str, Any]]: ...


class FileServer(Protocol):
    """fsd. Raises FsdError."""

    async def stats(self) -> Stats: ...

    async def set_clock(self, nanoseconds: int) -> None: ...


class WatchedFileSystem(Protocol):
    """A file system that is available."""

    @property
    def id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def throughput_mode(self) -> str: ...
    @property
    def created(self) -> float: ...
    @property
    def provisioned_mibps(self) -> float | None: ...
    @property
    def zone(self) -> str | None: ...
    @property
    def tags(self) -> Mapping[str, str]: ...


class FileSystems(Protocol):
    def watched(self) -> Sequence[WatchedFileSystem]: ...

    async def stored_bytes(self, file_system: str) -> Mapping[str, int] | None:
        """By storage class (Standard, IA, Archive); None where it is not known."""
        ...

    def metered_size(self, stored: int, objects: int) -> int:
        """Bytes as EFS meters them, of the data and the objects that the file server counts."""
        ...


class NamedFunction(Protocol):
    """A function as a caller named it; `qualifier` is a version, an alias or None."""

    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def qualifier(self) -> str | None: ...
