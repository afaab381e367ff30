"""/tmp of an environment: an ext4 file system of the configured size in a sparse image of its own.

Not a tmpfs, whose pages would be charged to the function's memory, and not a directory, which has no size.
An image is copied from a template that is formatted once for each size, and unlinked as soon as its loop
device holds it: a crash leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from pathlib import Path

from lambay.runtime import kernel

_FICLONE = 0x40049409
# No journal: what is in /tmp ends with the environment. Inode tables stay holes until they are used.
_FORMAT = (
    "-q",
    "-F",
    "-m",
    "0",
    "-i",
    "16384",
    "-O",
    "^has_journal,^resize_inode",
    "-E",
    "lazy_itable_init=1,nodiscard",
)
_INODE_BYTES = 256 / 16384


class Scratch:
    """`directory` holds templates and, for moments, images; it should be on a disk, not in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._templates: dict[int, Path] = {}
        self._formatting = threading.Lock()
        self._images = 0

    def start(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)

    def stop(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._templates.clear()

    def mount(self, target: Path, megabytes: int, uid: int, gid: int) -> None:
        """An empty file system with `megabytes` MiB for files at `target`, owned by uid and gid; blocking."""
        template = self._template(megabytes)
        with self._formatting:
            self._images += 1
            image = self._directory / f"image-{self._images}"
        try:
            descriptor = _copy(template, image)
        finally:
            image.unlink(missing_ok=True)
        try:
            device, name = kernel.attach_loop(descriptor)
        finally:
            os.close(descriptor)
        try:
            kernel.mount_ext4(name, target, "noinit_itable,nobarrier")
        finally:
            os.close(device)
        os.chown(target, uid, gid)
        os.chmod(target, 0o700)

    def _template(self, megabytes: int) -> Path:
        with self._formatting:
            template = self._templates.get(megabytes)
            if template is None:
                template = self._directory / f"template-{megabytes}"
                _format(template, megabytes, self._directory / "blank")
                self._templates[megabytes] = template
            return template


def _format(template: Path, megabytes: int, blank: Path) -> None:
    # Room for inode tables, bitmaps and superblocks, and the clusters that ext4 keeps back (2 %, at most
    # 4,096 of them), come on top of what files may take.
    files = megabytes * 1048576
    size = int(files * (1 + _INODE_BYTES) * 1.002) + min(files // 50, 16 * 1048576) + 2 * 1048576
    with open(template, "wb") as file:
        file.truncate(size)
    # -d with an empty directory makes it; lost+found is all that mkfs adds, and Lambda's /tmp is empty.
    blank.mkdir(exist_ok=True)
    subprocess.run(["mkfs.ext4", *_FORMAT, "-d", str(blank), str(template)], check=True, capture_output=True)
    subprocess.run(
        ["debugfs", "-w", "-R", "rmdir lost+found", str(template)], check=True, capture_output=True
    )


def _copy(template: Path, image: Path) -> int:
    """A sparse copy, sharing blocks where the file system can; open for reading and writing."""
    copy = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    source = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        try:
            fcntl.ioctl(copy, _FICLONE, source)
        except OSError:
            os.truncate(copy, size)
            _copy_extents(source, copy, size)
    except BaseException:
        os.close(copy)
        raise
    finally:
        os.close(source)
    return copy


def _copy_extents(source: int, copy: int, size: int) -> None:
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return  # Nothing but a hole to the end.
        position = os.lseek(source, start, os.SEEK_HOLE)
        while start < position:
            start += os.copy_file_range(source, copy, position - start, start, start)
