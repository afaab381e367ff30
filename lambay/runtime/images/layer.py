"""One layer's archive, unpacked as overlayfs takes it.

A whiteout `.wh.NAME` becomes a character device 0/0 called NAME, an opaque directory gets its extended attribute
(Documentation/filesystems/overlayfs.rst). Everything is root's and readable by everybody, as Lambda demands of
images: a function owns none of it. Nothing is written outside of the directory, whatever the archive says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lambay.runtime.images.image import ImageUnusable

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
MAX_UNPACKED_BYTES = 10 * 1024**3
"""Lambda's limit for an image: Developer Guide, "Lambda quotas"."""


def unpack_layer(archive: IO[bytes], into: Path) -> None:
    """Unpack a tar stream into an existing, empty directory. Raises ImageUnusable, OSError."""
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    size = 0
    try:
        with tarfile.open(fileobj=archive, mode="r|") as members:
            for member in members:
                size += member.size
                if size > MAX_UNPACKED_BYTES:
                    raise ImageUnusable(f"a layer holds more than {MAX_UNPACKED_BYTES} bytes")
                _place(root, members, member)
    except tarfile.TarError as error:
        raise ImageUnusable(f"a layer is not an archive: {error}") from error
    finally:
        os.close(root)


def _place(root: int, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    *parents, name = _parts(member.name)
    if not name:
        return
    with _directory(root, parents, member.name) as directory:
        if name == _OPAQUE:
            os.setxattr(f"/proc/self/fd/{directory}", _OPAQUE_ATTRIBUTE, b"y")
        elif name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise ImageUnusable(f"{member.name!r} leads out of the image")
            _clear(directory, hidden)
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
        elif member.isdir():
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=directory)
            os.chmod(name, (member.mode & 0o777) | 0o555, dir_fd=directory, follow_symlinks=False)
        elif member.isfile():
            _clear(directory, name)
            _write(directory, name, members, member)
        elif member.issym():
            _clear(directory, name)
            os.symlink(member.linkname, name, dir_fd=directory)
        elif member.islnk():
            _clear(directory, name)
            _link(root, member, directory, name)
        # Devices and pipes are left out, as on Lambda.


def _parts(name: str) -> list[str]:
    """The path's components; `[""]` for the layer's own directory."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageUnusable(f"{name!r} leads out of the image")
    return parts or [""]


@contextlib.contextmanager
def _directory(root: int, parents: list[str], told: str) -> Iterator[int]:
    """A descriptor of the directory, made where it is missing; a symbolic link on the way is refused."""
    current = os.dup(root)
    try:
        for part in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(part, flags, dir_fd=current)
            except OSError as error:
                raise ImageUnusable(f"{told!r} goes through {part!r}, which is no directory") from error
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _clear(directory: int, name: str) -> None:
    """A later entry of the same layer wins."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


def _write(directory: int, name: str, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    source = members.extractfile(member)
    assert source is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        # No set-user-id bits: the sandbox would ignore them, a host's user would not.
        os.fchmod(file.fileno(), (member.mode & 0o777) | 0o444)
        os.utime(file.fileno(), (member.mtime, member.mtime))


def _link(root: int, member: tarfile.TarInfo, directory: int, name: str) -> None:
    *parents, target = _parts(member.linkname)
    with _directory(root, parents, member.linkname) as source:
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ImageUnusable(
                f"{member.name!r} is a link to {member.linkname!r}, which its layer lacks"
            ) from error
