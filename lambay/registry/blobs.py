"""Blobs by their digest, in `DATA/images/blobs/sha256/HEX`, shared by all images; uploads beside them.

The directory is an OCI image layout's blob store (OCI image specification, "Image Layout"). A blob is synced before
anybody is told of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
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
        self._hashes: dict[str, hashlib._Hash] = {}
        self._writing = threading.Lock()

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
        try:
            while chunk := content.read(_CHUNK):
                self.append(upload, chunk)
        except BaseException:
            self.abandon(upload)
            raise
        self.finish(upload, expected)

    def begin(self) -> str:
        """A new upload's id."""
        upload = secrets.token_hex(16)
        self._upload(upload).touch()
        self._hashes[upload] = hashlib.sha256()
        return upload

    def size(self, upload: str) -> int:
        """How many bytes an upload has. Raises FileNotFoundError for one that is not under way."""
        return self._upload(upload).stat().st_size

    def append(self, upload: str, content: bytes) -> int:
        """The upload's size with this content at its end. An upload that can't be written is none any more.

        Raises FileNotFoundError for one that is not under way, OSError.
        """
        # What is hashed and what is in the file are the same, whoever else writes to this upload.
        with self._writing:
            if upload not in self._hashes:
                raise FileNotFoundError(upload)
            try:
                with self._upload(upload).open("ab") as file:
                    file.write(content)
                    file.flush()
                    self._hashes[upload].update(content)
                    return file.tell()
            except OSError:
                self.abandon(upload)
                raise

    def finish(self, upload: str, expected: str | None = None) -> str:
        """The digest of what was uploaded, which is a blob from here on.

        Raises DigestMismatch, FileNotFoundError for an upload that is not under way.
        """
        path = self._upload(upload)
        with self._writing:
            if upload not in self._hashes:
                raise FileNotFoundError(upload)
            digest = "sha256:" + self._hashes.pop(upload).hexdigest()
        if expected is not None and digest != expected:
            path.unlink()
            raise DigestMismatch(f"what was uploaded has the digest {digest}, not {expected}")
        _sync(path, os.O_RDONLY)
        path.rename(self.path(digest))
        _sync(self._blobs, os.O_RDONLY | os.O_DIRECTORY)
        return digest

    def abandon(self, upload: str) -> None:
        self._hashes.pop(upload, None)
        self._upload(upload).unlink(missing_ok=True)

    def digests(self) -> list[str]:
        """Of all blobs."""
        return [f"sha256:{path.name}" for path in self._blobs.iterdir()]

    def put_aside(self, digest: str) -> Path:
        """Have a blob no more; where its content lies until the caller, or the next `open`, removes it."""
        aside = self._uploads / f"{secrets.token_hex(16)}.gone"
        self.path(digest).rename(aside)
        return aside

    def clear(self) -> None:
        """Remove all."""
        for path in self._blobs.iterdir():
            path.unlink()

    def _upload(self, upload: str) -> Path:
        if re.fullmatch(r"[0-9a-f]{32}", upload) is None:
            raise FileNotFoundError(upload)
        return self._uploads / upload


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
