"""Blobs by their digest, in `DATA/images/blobs/sha256/HEX`, shared by all images; uploads beside them.

The directory is an OCI image layout's blob store (OCI image specification, "Image Layout"). A blob is synced before
anybody is told of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class DigestMismatch(ValueError):
    """What was uploaded has not the digest that it was announced with."""


class Blobs:
    """Its methods block; callers use threads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._uploads = directory / "uploads"

    def open(self) -> None:
        """Make the directories and forget uploads that an earlier run left unfinished."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._uploads.mkdir(exist_ok=True)
        for left in self._uploads.iterdir():
            left.unlink()

    def path(self, digest: str) -> Path:
        """Where the blob is or would be. Raises ValueError for what is no SHA-256 digest."""
        found = DIGEST.fullmatch(digest)
        if found is None:
            raise ValueError(f"{digest!r} is not sha256: and 64 hexadecimal digits")
        return self._blobs / found[1]

    def has(self, digest: str) -> bool:
        return DIGEST.fullmatch(digest) is not None and self.path(digest).exists()

    def add(self, content: bytes) -> str:
        """The content's digest, once it is kept."""
        upload = self.begin()
        self.append(upload, content)
        return self.finish(upload)

    def take(self, content: IO[bytes], expected: str) -> None:
        """Keep what is read from `content`. Raises DigestMismatch."""
        upload = self.begin()
        while chunk := content.read(_CHUNK):
            self.append(upload, chunk)
        self.finish(upload, expected)

    def begin(self) -> str:
        """A new upload's id."""
        upload = secrets.token_hex(16)
        self._upload(upload).touch()
        return upload

    def size(self, upload: str) -> int:
        """How many bytes an upload has. Raises FileNotFoundError for one that is not under way."""
        return self._upload(upload).stat().st_size

    def append(self, upload: str, content: bytes) -> int:
        """The upload's size with this content at its end."""
        with self._upload(upload).open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(content)
            return file.tell()

    def finish(self, upload: str, expected: str | None = None) -> str:
        """The digest of what was uploaded, which is a blob from here on. Raises DigestMismatch."""
        path = self._upload(upload)
        with path.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
            if expected is not None and digest != expected:
                path.unlink()
                raise DigestMismatch(f"what was uploaded has the digest {digest}, not {expected}")
            os.fsync(file.fileno())
        path.rename(self.path(digest))
        descriptor = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return digest

    def abandon(self, upload: str) -> None:
        self._upload(upload).unlink()

    def collect(self, in_use: Collection[str]) -> int:
        """Remove the blobs whose digests are not in use; how many there were."""
        removed = 0
        for path in self._blobs.iterdir():
            if f"sha256:{path.name}" not in in_use:
                path.unlink()
                removed += 1
        return removed

    def _upload(self, upload: str) -> Path:
        if re.fullmatch(r"[0-9a-f]{32}", upload) is None:
            raise FileNotFoundError(upload)
        return self._uploads / upload
