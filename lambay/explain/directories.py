"""Whether a POSIX user can use an access point's root directory: the kernel's rules, in words.

Pure but for the look at the directory itself. EFS User Guide, "Working with users, groups, and permissions".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lambay.causes import root_missing
from lambay.explain.findings import Step, failed, note, ok

NOBODY = 65534
CHECK = "root directory"
POSIX = "POSIX permissions"


class Directory(NamedTuple):
    """What lies at an access point's root: owner, group and permission bits."""

    uid: int
    gid: int
    mode: int
    is_directory: bool = True


class User(NamedTuple):
    """As whom requests act; `named` is how people know it."""

    uid: int
    gid: int
    gids: tuple[int, ...]
    named: str


def look(backing: Path, root: str) -> Directory | None:
    """What is at `root` in the file system whose files lie in `backing`; symbolic links are not followed."""
    try:
        found = os.lstat(backing / root.lstrip("/"))
    except OSError:
        return None
    return Directory(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), stat.S_ISDIR(found.st_mode))


def steps(
    directory: Directory | None, *, root: str, file_system: str, creates: bool, user: User, writes: bool
) -> Iterator[Step]:
    """Whether the directory is there, and what `user` may do in it; `writes` is whether IAM lets it write."""
    if directory is None:
        if not creates:
            yield failed(CHECK, root_missing(file_system, root))
            return
        yield ok(CHECK, f"{root} is made on {file_system} at the first mount")
        return
    if not directory.is_directory:
        yield failed(CHECK, f"{root} on {file_system} is not a directory: remove it, or use another path")
        return
    yield ok(CHECK, f"{root} exists on {file_system}")
    may = _rights(directory, user)
    lacking = [word for word, bit in (("enter", 1), ("read", 4)) if not may & bit]
    if lacking:
        yield failed(POSIX, _sentence(root, directory, user, lacking))
    elif not may & 2:
        where = note if not writes else failed
        yield where(POSIX, _sentence(root, directory, user, ["write to"]))
    else:
        yield ok(POSIX, f"{user.named} may read and write {root}")


def _rights(directory: Directory, user: User) -> int:
    """The three bits that count: the owner's, the group's or the others', and all of them for root."""
    if user.uid == 0:
        return 7
    if user.uid == directory.uid:
        return directory.mode >> 6 & 7
    if directory.gid in (user.gid, *user.gids):
        return directory.mode >> 3 & 7
    return directory.mode & 7


def _sentence(root: str, directory: Directory, user: User, lacking: list[str]) -> str:
    return (
        f"access point root {root} is owned by {directory.uid}:{directory.gid} mode {directory.mode:o}; "
        f"{user.named} is {user.uid}:{user.gid} and may not {' or '.join(lacking)} it: change its owner to "
        f"{user.uid}:{user.gid}, or delete it and let the access point make it anew with its CreationInfo"
    )
