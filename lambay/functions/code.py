"""Deployment packages on disk: `DATA/code/SHA256.zip` as uploaded and `DATA/code/SHA256/` as unpacked.

The zip is synced before anybody is told and is the durable truth; the directory is made from it and is
immutable. Directories that an earlier boot left are made again, since their pages may never have reached the
disk. What no function or layer refers to is removed by `collect`.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import lzma
import os
import secrets
import shutil
import stat
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

from lambay.functions.errors import invalid, too_large
from lambay.functions.records import Code

ZIPPED_LIMIT = 52_428_800
UNZIPPED_LIMIT = 262_144_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BAD_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
_CHUNK = 1 << 20
# What zipfile raises for damage, encryption (RuntimeError), unknown compression and names that are no text.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_CLASHING_NAMES = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


class CodeStore:
    """The packages under `directory`; blocking work runs in threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locks: dict[str, asyncio.Lock] = {}
        self._pins: Counter[str] = Counter()
        self._fresh = False
        # A second thread would take what the first is writing for something left over.
        self._opening = threading.Lock()

    def path(self, code: Code) -> Path:
        """The unpacked directory."""
        return self._directory / code.digest

    def archive(self, digest: str) -> Path:
        return self._directory / f"{digest}.zip"

    @asynccontextmanager
    async def adding(self, archive: bytes, *, direct: bool) -> AsyncIterator[Code]:
        """The package of these bytes, on disk, kept from `collect` until the block ends.

        The caller writes its record within the block. `direct` uploads may have 50 MB, those from S3
        250 MB. Raises InvalidParameterValueException for what is not a usable zip and
        RequestEntityTooLargeException over the size.
        """
        if not archive:
            raise invalid("Uploaded file must be a non-empty zip")
        limit = ZIPPED_LIMIT if direct else UNZIPPED_LIMIT
        if len(archive) > limit:
            raise too_large(f"Zipped size must be smaller than {limit} bytes")
        digest = await asyncio.to_thread(lambda: hashlib.sha256(archive).hexdigest())
        self._pins[digest] += 1
        try:
            async with self._locks.setdefault(digest, asyncio.Lock()):
                unzipped = await asyncio.to_thread(self._add, digest, archive)
            yield Code(digest=digest, size=len(archive), unzipped_size=unzipped)
        finally:
            self._pins[digest] -= 1
            if not self._pins[digest]:
                del self._pins[digest]

    def _add(self, digest: str, archive: bytes) -> int:
        self._open_directory()
        final = self.archive(digest)
        if not final.exists():
            partial = self._directory / f".{digest}-{secrets.token_hex(4)}.zip"
            with partial.open("wb") as file:
                file.write(archive)
                file.flush()
                os.fsync(file.fileno())
            try:
                size = self._unpack(digest, partial)
            except BaseException:
                partial.unlink()
                raise
            partial.rename(final)
            _sync_directory(self._directory)
            return size
        return self._unpack(digest, final)

    async def ensure(self, code: Code) -> Path:
        """The unpacked directory, made again from the zip where it is missing.

        Raises FileNotFoundError where the zip is missing as well.
        """
        path = self.path(code)
        if self._fresh and path.is_dir():
            return path
        async with self._locks.setdefault(code.digest, asyncio.Lock()):
            await asyncio.to_thread(self._restore, code.digest)
        return path

    def _restore(self, digest: str) -> None:
        self._open_directory()
        if not (self._directory / digest).is_dir():
            self._unpack(digest, self.archive(digest))

    def _open_directory(self) -> None:
        """Once a run: create the directory, and drop what an interrupted write or an earlier boot left."""
        with self._opening:
            if not self._fresh:
                self._clean_directory()
                self._fresh = True

    def _clean_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        boot = self._directory / ".boot"
        current = _BOOT_ID.read_text()
        same_boot = boot.exists() and boot.read_text() == current
        for entry in list(self._directory.iterdir()):
            partial = entry.name.startswith(".") and entry != boot
            if partial or (entry.is_dir() and not same_boot):
                _remove(entry)
        boot.write_text(current)

    def _unpack(self, digest: str, archive: Path) -> int:
        """The bytes that the zip at `archive` unpacks to, after it lies at `DATA/code/DIGEST`."""
        final = self._directory / digest
        partial = self._directory / f".{digest}-{secrets.token_hex(4)}"
        try:
            with zipfile.ZipFile(archive) as package:
                members = _checked(package)
                size = sum(member.file_size for member in members)
                if not final.is_dir():
                    partial.mkdir()
                    _extract(package, members, partial)
                    partial.rename(final)
        except _UNREADABLE as error:
            raise invalid(_BAD_ZIP) from error
        except OSError as error:
            if error.errno in _CLASHING_NAMES:
                raise invalid(_BAD_ZIP) from error
            raise
        finally:
            _remove(partial)
        return size

    async def collect(self, in_use: Callable[[], Collection[str]]) -> int:
        """Remove every package whose digest is not in use; the number of packages removed.

        `in_use` is asked again before each removal: what was added while this waits is in use since.
        """
        unused = await asyncio.to_thread(self._digests) - set(in_use())
        removed = 0
        for digest in unused:
            # Who adds the same package again pins it before it waits for the lock.
            async with self._locks.setdefault(digest, asyncio.Lock()):
                if digest not in self._pins and digest not in in_use():
                    await asyncio.to_thread(self._discard, digest)
                    removed += 1
        return removed

    def _digests(self) -> set[str]:
        if not self._directory.is_dir():
            return set()
        self._open_directory()
        names = (entry.name.removesuffix(".zip") for entry in self._directory.iterdir())
        return {name for name in names if not name.startswith(".")}

    def _discard(self, digest: str) -> None:
        _remove(self.archive(digest))
        _remove(self._directory / digest)


def code_sha256(code: Code) -> str:
    """The digest as the API shows it: in base64, an image's in hexadecimal."""
    if code.image_uri:
        return code.digest
    return base64.b64encode(bytes.fromhex(code.digest)).decode()


def _checked(package: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members, none of which can leave the directory or grow past the limit.

    Raises InvalidParameterValueException.
    """
    members = package.infolist()
    if not members:
        raise invalid("Uploaded file must be a non-empty zip")
    if sum(member.file_size for member in members) >= UNZIPPED_LIMIT:
        raise invalid(f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes")
    links = {_relative(member) for member in members if _is_link(member)}
    for member in members:
        path = _relative(member)
        if links.intersection(path.parents) or (path in links and not _is_link(member)):
            raise invalid(_BAD_ZIP)
    return members


def _relative(member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\0" in member.filename or "\\" in member.filename:
        raise invalid(_BAD_ZIP)
    return path


def _is_link(member: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _extract(package: zipfile.ZipFile, members: list[zipfile.ZipInfo], root: Path) -> None:
    """Write the members under `root`: symbolic links last, so that nothing is ever written through one.

    Links keep their text: they are followed only inside a sandbox. Modes are made readable for everybody,
    since functions run as users who own nothing here.
    """
    for member in members:
        if _is_link(member):
            continue
        target = root / _relative(member)
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with package.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        executable = (member.external_attr >> 16) & 0o111
        target.chmod(0o755 if executable else 0o644)
    for member in filter(_is_link, members):
        target = root / _relative(member)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = package.read(member)
        target.unlink(missing_ok=True)
        os.symlink(text, os.fsencode(target))
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
