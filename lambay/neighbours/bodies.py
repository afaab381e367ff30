"""Request bodies and S3 objects on disk, named by the SHA-256 of what they hold.

`Bodies` is the directory. `Content` is what one object is made of: whole bodies in a row, so that a completed
multipart upload is its parts and not another copy of them. Files are immutable and durable before their name
exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Content:
    """`pieces` are (SHA-256 in hex, length in bytes), in order."""

    pieces: tuple[tuple[str, int], ...] = ()

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(length for _, length in self.pieces)

    def __add__(self, other: Content) -> Content:
        return Content(self.pieces + other.pieces)


EMPTY = Content()


class Bodies:
    """The bodies under `directory`, which is made when first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._young: set[str] = set()
        self._recent: set[str] = set()

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest

    def keep(self, body: bytes) -> Content:
        """`body`, durable on disk. Until `settle` it is safe from `sweep`, referenced or not."""
        if not body:
            return EMPTY
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            self._young.add(digest)
            self._recent.add(digest)
            # Under the lock: a sweep sees the digest as young before it could remove what is found here.
            there = self._path(digest).exists()
        if not there:
            self._write(self._path(digest), body)
        return Content(((digest, len(body)),))

    def _write(self, path: Path, body: bytes) -> None:
        made = not path.parent.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        if made:
            sync_directory(self._directory)

    def settle(self, content: Content) -> None:
        """What refers to `content` is durable, or it will never be needed."""
        with self._lock:
            self._young.difference_update(digest for digest, _ in content.pieces)

    def read(self, content: Content, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes of `content` from `offset` on, fewer at its end; without `size` all of them.

        Raises FileNotFoundError where a body is missing.
        """
        wanted = content.size - offset if size is None else size
        parts = []
        for digest, length in content.pieces:
            if offset < length and wanted > 0:
                with self._path(digest).open("rb") as file:
                    file.seek(offset)
                    parts.append(file.read(wanted))
                wanted -= len(parts[-1])
            offset = max(0, offset - length)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def begin_sweep(self) -> None:
        """From here until `sweep` whatever is kept is safe from it, referenced or not."""
        with self._lock:
            self._recent.clear()

    def sweep(self, referenced: set[str]) -> int:
        """Remove the bodies that are not `referenced`, which must have been gathered since `begin_sweep`.

        Young ones and those kept since then stay. Returns how many were removed.
        """
        removed = 0
        for path in list(self._directory.glob("*/*")):
            digest = path.name.partition(".")[0]
            with self._lock:
                if digest in referenced or digest in self._young or digest in self._recent:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
        return removed

    def clear(self) -> None:
        """Remove everything: the directory is set aside at once and emptied after."""
        if not self._directory.exists():
            return
        aside = self._directory.with_name(f"{self._directory.name}.{secrets.token_hex(4)}.gone")
        with self._lock:
            self._young.clear()
            self._recent.clear()
            self._directory.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what an interrupted `clear` or `keep` left."""
        for aside in self._directory.parent.glob(f"{self._directory.name}.*.gone"):
            shutil.rmtree(aside, ignore_errors=True)
        for part in self._directory.glob("*/*.part"):
            part.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
