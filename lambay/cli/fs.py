"""`lambay fs`: look into file systems, copy to and from them, and mount them on this host.

A place is `ID:/PATH`, where ID is an access point (`fsap-…`, whose root, user and groups then apply) or a file
system (`fs-…`, as its root user).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lambay.cli.endpoint import CommandError, add_endpoint, ask

_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A path on a file system, seen through `source`."""

    source: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        match = re.fullmatch(r"(fs(?:ap)?-[0-9a-f]+)(?::(/.*)?)?", text)
        if match is None:
            raise CommandError(f"{text!r} is not fsap-…:/path or fs-…:/path")
        return cls(match[1], match[2] or "/")

    def within(self, mountpoint: Path) -> Path:
        return mountpoint / os.path.normpath(self.path).lstrip("/")


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "fs", help="list, copy, show and mount files of a file system", description=__doc__
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    show = actions.add_parser("ls", help="list file systems, or a directory of one")
    show.add_argument("place", nargs="?", help="fsap-…:/path or fs-…:/path; without it, every file system")
    show.add_argument("-l", "--long", action="store_true", help="with mode, owner, size and time")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(run=_ls)

    copy = actions.add_parser("cp", help="copy a file or, with -r, a directory; either side may be a place")
    copy.add_argument("source")
    copy.add_argument("destination")
    copy.add_argument("-r", "--recursive", action="store_true", help="copy directories with all they hold")
    copy.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    copy.set_defaults(run=_cp)

    cat = actions.add_parser("cat", help="print a file")
    cat.add_argument("place")
    cat.set_defaults(run=_cat)

    mount = actions.add_parser(
        "mount", help="mount on a directory of this host until unmounted or Lambay stops"
    )
    mount.add_argument("source", help="fsap-… or fs-…")
    mount.add_argument("directory", type=Path)
    mount.add_argument(
        "--nfs", action="store_true", help="print the command with which any Linux host mounts it by NFS"
    )
    mount.set_defaults(run=_mount)

    unmount = actions.add_parser("unmount", help="undo `lambay fs mount`")
    unmount.add_argument("directory", type=Path)
    unmount.set_defaults(run=_unmount)

    credits = actions.add_parser(
        "credits", help="show a file system's burst credits, or set them to see it without"
    )
    credits.add_argument("file_system", help="fs-…")
    credits.add_argument("amount", nargs="?", metavar="AMOUNT", help="bytes, or a number with K, M, G or T")
    credits.set_defaults(run=_credits)

    for action in (show, copy, cat, mount, unmount, credits):
        add_endpoint(action)


def _ls(options: argparse.Namespace) -> int:
    if options.place is None:
        return _ls_file_systems(options)
    place = Place.parse(options.place)
    with _mounted(options, place) as mountpoint, _readable(options.place):
        target = place.within(mountpoint)
        paths = sorted(target.iterdir()) if stat.S_ISDIR(target.lstat().st_mode) else [target]
        entries = [_entry(path) for path in paths]
    if options.json:
        print(json.dumps(entries, indent=2))
        return 0
    for entry in entries:
        print(_long(entry) if options.long else entry["name"])
    return 0


def _ls_file_systems(options: argparse.Namespace) -> int:
    found = ask(options, "GET", "/_lambay/status")["file_systems"]
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for shown in found:
        size = "" if shown["bytes"] is None else _size(shown["bytes"])
        print(f"{shown['id']}  {shown['state']:<10} {size:>10}  {shown['name'] or ''}".rstrip())
        for setting in shown["stored_not_enforced"]:
            print(f"    stored, not yet enforced: {setting}")
    return 0


def _credits(options: argparse.Namespace) -> int:
    page = f"/_lambay/credits/{quote(options.file_system)}"
    if options.amount is None:
        told = ask(options, "GET", page)
    else:
        told = ask(options, "POST", page, {"credits": _amount(options.amount)})
    permitted = "no limit" if told["permitted"] is None else f"{_size(told['permitted'])}/s"
    print(f"{told['file_system']}  {_size(told['credits'])} of burst credits, {permitted}")
    return 0


def _amount(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if match is None:
        raise CommandError(f"AMOUNT: {text!r} is not a number of bytes, or one with K, M, G or T")
    return int(match[1]) << (10 * " KMGT".index(match[2] or " "))


def _entry(path: Path) -> dict[str, Any]:
    status = path.lstat()
    return {
        "name": path.name,
        "mode": stat.filemode(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "bytes": status.st_size,
        "modified": datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds"),
        "target": os.readlink(path) if path.is_symlink() else None,
    }


def _long(entry: dict[str, Any]) -> str:
    arrow = f" -> {entry['target']}" if entry["target"] else ""
    owner = f"{entry['uid']}:{entry['gid']}"
    when = entry["modified"][:19].replace("T", " ")
    return f"{entry['mode']} {owner:>11} {_size(entry['bytes']):>10} {when} {entry['name']}{arrow}"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _cat(options: argparse.Namespace) -> int:
    place = Place.parse(options.place)
    with (
        _mounted(options, place) as mountpoint,
        _readable(options.place),
        place.within(mountpoint).open("rb") as file,
    ):
        shutil.copyfileobj(file, sys.stdout.buffer, _BLOCK)
    sys.stdout.buffer.flush()
    return 0


def _cp(options: argparse.Namespace) -> int:
    with _local(options, options.source) as source, _local(options, options.destination) as destination:
        if not os.path.lexists(source):
            raise CommandError(f"{options.source}: no such file or directory")
        if source.is_dir() and not options.recursive:
            raise CommandError(f"{options.source} is a directory; copy it with --recursive")
        if destination.is_dir() and not source.is_dir():
            destination = destination / source.name
        with _readable(options.destination):
            _copy(source, destination, quiet=options.quiet or not sys.stderr.isatty())
    return 0


@contextmanager
def _local(options: argparse.Namespace, text: str) -> Iterator[Path]:
    """`text` as a path of this host, mounted first where it is a place."""
    if not text.startswith(("fs-", "fsap-")):
        yield Path(text)
        return
    place = Place.parse(text)
    with _mounted(options, place) as mountpoint:
        yield place.within(mountpoint)


def _copy(source: Path, destination: Path, *, quiet: bool) -> None:
    from tqdm import tqdm

    files = [source] if not source.is_dir() else [path for path in source.rglob("*") if not path.is_dir()]
    total = sum(path.lstat().st_size for path in files)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(
        total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=quiet, desc=source.name
    ) as bar:
        if source.is_dir():
            for directory in (source, *(path for path in sorted(source.rglob("*")) if path.is_dir())):
                made = destination / directory.relative_to(source)
                made.mkdir(parents=True, exist_ok=True)
        for path in files:
            _copy_one(path, destination / path.relative_to(source) if source.is_dir() else destination, bar)


def _copy_one(source: Path, destination: Path, bar: Any) -> None:
    """Content, permission bits and modification time; a symbolic link stays one."""
    if source.is_symlink():
        destination.unlink(missing_ok=True)
        destination.symlink_to(os.readlink(source))
        return
    with source.open("rb") as reading, destination.open("wb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
            bar.update(len(block))
    status = source.stat()
    destination.chmod(stat.S_IMODE(status.st_mode))
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _readable(text: str) -> Iterator[None]:
    """An operating system's refusal becomes the command's error, naming the place rather than the mount point."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise CommandError(f"{text}: {error.strerror}") from None
        raise CommandError(f"{text}: {Path(os.fsdecode(error.filename)).name}: {error.strerror}") from None


@contextmanager
def _mounted(options: argparse.Namespace, place: Place) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lambay-") as directory:
        mount = _ask_mount(options, place.source, Path(directory))
        try:
            yield Path(directory)
        finally:
            ask(options, "DELETE", f"/_lambay/mounts/{mount}")


def _ask_mount(options: argparse.Namespace, source: str, directory: Path) -> str:
    kind = "access_point" if source.startswith("fsap-") else "file_system"
    answer = ask(options, "POST", "/_lambay/mounts", {kind: source, "mountpoint": str(directory.resolve())})
    return str(answer["mount"])


# What EFS recommends. https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html
_NFS_OPTIONS = "vers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
_NFS_PORT = 2049


def _mount(options: argparse.Namespace) -> int:
    if options.nfs:
        print(_nfs_command(options))
        return 0
    if not options.directory.is_dir():
        raise CommandError(f"{options.directory} is not a directory")
    _ask_mount(options, Place.parse(options.source).source, options.directory)
    print(
        f"{options.source} is mounted on {options.directory}; undo it with: lambay fs unmount {options.directory}"
    )
    return 0


def _nfs_command(options: argparse.Namespace) -> str:
    place = Place.parse(options.source)
    address = ask(options, "GET", "/_lambay/status").get("nfs")
    if address is None:
        raise CommandError(
            "no NFS clients are served; start the server with `lambay up --nfs-listen ADDRESS:PORT`"
        )
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = urlsplit(options.endpoint).hostname or host
    used = _NFS_OPTIONS if int(port) == _NFS_PORT else f"{_NFS_OPTIONS},port={port}"
    below = "" if place.path == "/" else place.path
    return f"mount -t nfs4 -o {used} {host}:/{place.source}{below} {options.directory}"


def _unmount(options: argparse.Namespace) -> int:
    wanted = str(options.directory.resolve())
    for mount in ask(options, "GET", "/_lambay/mounts")["mounts"]:
        if mount["mountpoint"] == wanted:
            ask(options, "DELETE", f"/_lambay/mounts/{mount['mount']}")
            return 0
    raise CommandError(f"nothing that Lambay mounted is at {wanted}")
