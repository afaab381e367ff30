"""What an image is made of, by name: the files of a layout directory or of an archive of one."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from lambay.runtime.images.image import ImageUnusable

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What reading compressed bytes raises that are none, or not whole."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Contents(Protocol):
    def has(self, name: str) -> bool: ...

    def size(self, name: str) -> int:
        """In bytes. Raises ImageUnusable where there is no such file."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Raises ImageUnusable where there is no such file."""
        ...


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        return (self._root / _inside(name)).is_file()

    def size(self, name: str) -> int:
        try:
            return (self._root / _inside(name)).stat().st_size
        except OSError as error:
            raise ImageUnusable(f"the image has no {name}") from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return open(self._root / _inside(name), "rb")
        except OSError as error:
            raise ImageUnusable(f"the image has no {name}") from error


class _Archive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}

    def has(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        if name not in self._members:
            raise ImageUnusable(f"the image has no {name}")
        return self._members[name].size

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        opened = self._archive.extractfile(member) if member is not None else None
        if opened is None:
            raise ImageUnusable(f"the image has no {name}")
        return opened


def _inside(name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ImageUnusable(f"{name} is outside of the image")
    return path


@contextmanager
def contents(source: Path) -> Iterator[Contents]:
    """Of an OCI layout directory, or an archive of one or from `docker save`, plain or compressed."""
    if source.is_dir():
        yield _Directory(source)
        return
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(source, "rb"))
        plain = decompressed(file)
        if plain is not file:
            # An archive is read here and there, which a compressed one cannot be.
            file = stack.enter_context(tempfile.TemporaryFile(dir=source.parent))
            try:
                shutil.copyfileobj(plain, file, 1 << 20)
            except BROKEN as error:
                raise ImageUnusable(f"the archive cannot be decompressed: {error}") from error
            file.seek(0)
        try:
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
            yield _Archive(archive)
        except (tarfile.TarError, *BROKEN) as error:
            raise ImageUnusable(f"not an archive of an image: {error}") from error


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """The same bytes where they are not compressed; by what they begin with, not by what they are called."""
    kind = compression(file)
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if kind == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def compression(file: IO[bytes]) -> str:
    """`gzip`, `zstd` or empty; the file is at its beginning before and after."""
    magic = file.read(4)
    file.seek(0)
    return "gzip" if magic.startswith(_GZIP) else "zstd" if magic == _ZSTD else ""
