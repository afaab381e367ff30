"""The directories that are file systems: made durably, and removed for real however deep they are."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

_log = logging.getLogger("lambay.efs")


class Directories:
    """`ROOT/fs-…`, one a file system; ids are unique over accounts and Regions.

    What is deleted moves to `ROOT/.deleted/` in one step, so that it is gone at once and removing its files
    may take its time, also over a restart.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._deleted = root / ".deleted"
        self._sweeping = asyncio.Lock()

    def path(self, file_system: str) -> Path:
        return self._root / file_system

    async def prepare(self) -> None:
        """Make the root, which no user of this machine but root may enter."""
        await asyncio.to_thread(self._prepare)

    async def create(self, file_system: str) -> Path:
        """Durable when it returns: root's, mode 755, as EFS makes a root directory. Fine if it is there."""
        path = self.path(file_system)
        await asyncio.to_thread(_create, path)
        return path

    async def discard(self, file_system: str) -> None:
        """Out of sight, durably; `sweep` frees the space. Fine if it is gone."""
        await asyncio.to_thread(_move, self.path(file_system), self._deleted / file_system)

    async def sweep(self) -> None:
        """Remove the files of everything discarded. Raises OSError where something remains."""
        async with self._sweeping:
            for leftover in await asyncio.to_thread(lambda: sorted(self._deleted.iterdir())):
                await _remove(leftover)

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)
        self._deleted.mkdir(exist_ok=True)
        _sync(self._root)


def _create(path: Path) -> None:
    if not path.is_dir():
        path.mkdir()
        path.chmod(0o755)
    _sync(path.parent)


def _move(path: Path, to: Path) -> None:
    # fsd keeps its count of a closed volume beside it.
    path.with_name(f".{path.name}.usage").unlink(missing_ok=True)
    try:
        path.rename(to)
    except FileNotFoundError:
        return
    _sync(to.parent)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _remove(path: Path) -> None:
    # rm(1) walks a tree of any depth and keeps its work off this interpreter.
    process = await asyncio.create_subprocess_exec(
        "rm", "-rf", "--one-file-system", "--", str(path), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, complaint = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        raise OSError(f"cannot remove {path}: {complaint.decode(errors='replace').strip()}")
