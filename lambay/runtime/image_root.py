"""A container image as the root of one slot's sandbox: its layers, merged, with the places that every sandbox has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lambay.runtime import kernel
from lambay.runtime.images import Image
from lambay.runtime.sandbox import USER, Tree

_PLACES = ("proc", "dev", "tmp", "mnt", "opt", "etc", "var/task")
_FILES = ("etc/passwd", "etc/hosts", "etc/resolv.conf")


def make_skeleton(directory: Path) -> None:
    """What lies beneath every image, so that there is something to mount on."""
    for name in _PLACES:
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (directory / name).touch()


def places(image: Image, tree: Tree, skeleton: Path, etc: Path, uid: int) -> Iterator[tuple[str, Path]]:
    """Mount the image in the slot's directory; places in the sandbox, its root first, and what is seen there."""
    kernel.mount_overlay((skeleton, *image.layers), tree.image)
    known = _passwd(tree.image)
    (tree.root / "passwd").write_text(f"{known}{USER}:x:{uid}:{uid}::/home/{USER}:/sbin/nologin\n")
    yield "/", tree.image
    yield "/mnt", tree.mnt
    yield "/tmp", tree.tmp
    yield "/etc/passwd", tree.root / "passwd"
    yield "/etc/hosts", etc / "hosts"
    yield "/etc/resolv.conf", etc / "resolv.conf"


def extensions(image: Image) -> list[Path]:
    """The directories of its layers that hold external extensions."""
    found = [layer / "opt" for layer in image.layers]
    return [
        opt / "extensions" for opt in found if not opt.is_symlink() and not (opt / "extensions").is_symlink()
    ]


def _passwd(root: Path) -> str:
    """The image's own users. No link is followed: it could lead to the host's."""
    try:
        etc = os.open(root / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open("passwd", flags, dir_fd=etc), errors="replace") as file:
            text = file.read(1 << 20)
    except OSError:
        return ""
    finally:
        os.close(etc)
    return text if not text or text.endswith("\n") else f"{text}\n"
