"""The files of a file system or access point, for the console's browser: `/_lambay/files/ID/PATH`.

They are reached through a mount of our own, as any client reaches them: an access point's root directory and
identity hold, bytes are metered, limits apply, and functions see a change at once. The mount is made when it is
first asked for and ends a while after the last request. Symbolic links are shown and never followed: they would
lead through the server's own directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from lambay.aws import AWSError, resource_id
from lambay.efs.mount_source import MountSource
from lambay.fsd import FsdError, Mount, Mounted, PosixIdentity
from lambay.fsd.supervisor import OnDeath
from lambay.http import Request, Response
from lambay.settings import Settings

T = TypeVar("T")

PATH = "/_lambay/files/"
IDLE_SECONDS = 60.0
LISTED_AT_MOST = 10_000
_PIECE = 1 << 20
_ROOT = PosixIdentity(0, 0)
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Sources(Protocol):
    async def mount_source(self, identifier: str, *, account: str, region: str) -> MountSource: ...

    def place_of(self, identifier: str) -> tuple[str, str] | None: ...


class FileServer(Protocol):
    async def mount(self, mount: Mount) -> Mounted: ...

    async def unmount(self, mount: str) -> None: ...

    def on_death(self, listener: OnDeath) -> None: ...


class Entry(msgspec.Struct, frozen=True):
    """What a directory has under a name. `name` is UTF-8; bytes that are not come as U+FFFD, and cannot be opened."""

    name: str
    kind: str
    bytes: int
    mode: str
    uid: int
    gid: int
    modified_ms: int
    target: str = ""


class Listing(msgspec.Struct, frozen=True):
    entries: list[Entry]
    more: bool
    """There are more than `LISTED_AT_MOST`."""


@dataclass(eq=False, slots=True)
class _Attached:
    mount: str
    directory: Path
    users: int = 0
    ending: asyncio.TimerHandle | None = None


class Files:
    """GET lists a directory, or gives a file's content (with Range). PUT writes a piece at `?offset=`, the first
    piece making or emptying the file; PUT `?directory` makes one. DELETE removes, with `?recursive` all below.
    """

    def __init__(self, sources: Sources, fsd: FileServer, settings: Settings) -> None:
        self._sources = sources
        self._fsd = fsd
        self._settings = settings
        self._directory = settings.run_dir / "console"
        self._attached: dict[str, _Attached] = {}
        self._attaching: dict[str, asyncio.Lock] = {}
        self._endings: set[asyncio.Task[None]] = set()
        # A throttled or stalled file system holds these, and nobody else's threads.
        self._threads = ThreadPoolExecutor(4, "console-files")
        fsd.on_death(self._died)

    async def handle(self, request: Request) -> Response:
        """Raises AWSError."""
        identifier, _, rest = request.path.removeprefix(PATH).partition("/")
        parts = _parts(rest)
        asked = parse_qs(request.query, keep_blank_values=True)
        attached = await self._attach(identifier)
        try:
            match request.method:
                case "GET":
                    return await self._get(attached, parts, request.headers.get("range", ""))
                case "PUT" if "directory" in asked:
                    await self._do(_make_directory, attached.directory, parts)
                case "PUT":
                    offset = _whole_number("offset", asked.get("offset", ["0"])[0])
                    await self._do(_write, attached.directory, parts, request.body, offset)
                case "DELETE":
                    await self._do(_remove, attached.directory, parts, "recursive" in asked)
                case _:
                    raise AWSError("MethodNotAllowed", f"{request.method} is nothing to do here", status=405)
        finally:
            self._release(attached)
        return Response(HTTPStatus.NO_CONTENT)

    async def stop(self) -> None:
        """End every mount; more may be made afterwards."""
        attached, self._attached = list(self._attached.values()), {}
        for each in attached:
            if each.ending is not None:
                each.ending.cancel()
            await self._end(each)
        await asyncio.gather(*self._endings)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _get(self, attached: _Attached, parts: Sequence[str], wanted: str) -> Response:
        found = await self._do(_open, attached.directory, parts)
        if isinstance(found, Listing):
            return Response(200, {"content-type": "application/json"}, msgspec.json.encode(found))
        try:
            size = os.fstat(found).st_size
            first, last = _range(wanted, size)
        except BaseException:
            os.close(found)
            raise
        headers = {
            "content-type": "application/octet-stream",
            "content-disposition": "attachment",
            "content-length": str(last - first),
            "accept-ranges": "bytes",
            "x-content-type-options": "nosniff",
        }
        if wanted:
            headers["content-range"] = f"bytes {first}-{last - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
        attached.users += 1
        return Response(status, headers, self._pieces(attached, found, first, last))

    async def _pieces(self, attached: _Attached, fd: int, first: int, last: int) -> AsyncIterator[bytes]:
        try:
            while first < last:
                piece = await self._do(os.pread, fd, min(_PIECE, last - first), first)
                if not piece:
                    break
                first += len(piece)
                yield piece
        finally:
            os.close(fd)
            self._release(attached)

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        """Blocking work in a thread. Raises AWSError for what the file system says."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except OSError as error:
            status = _STATUS.get(type(error), HTTPStatus.CONFLICT)
            said = error.strerror or str(error)
            raise AWSError("FileError", f"{said} ({error.filename or '/'})", status=status) from None

    async def _attach(self, identifier: str) -> _Attached:
        async with self._attaching.setdefault(identifier, asyncio.Lock()):
            attached = self._attached.get(identifier)
            if attached is None:
                attached = self._attached[identifier] = await self._mount(identifier)
            attached.users += 1
            if attached.ending is not None:
                attached.ending.cancel()
                attached.ending = None
            return attached

    async def _mount(self, identifier: str) -> _Attached:
        place = self._sources.place_of(identifier) or (self._settings.account, self._settings.region)
        source = await self._sources.mount_source(identifier, account=place[0], region=place[1])
        mount = resource_id("console")
        directory = self._directory / mount
        await asyncio.to_thread(directory.mkdir, parents=True)
        try:
            await self._fsd.mount(
                Mount(
                    mount=mount,
                    volume=source.volume,
                    mountpoint=str(directory),
                    root=source.root,
                    create=source.create,
                    posix=source.posix or _ROOT,
                    read_only=source.read_only,
                )
            )
        except FsdError as error:
            await asyncio.to_thread(directory.rmdir)
            raise AWSError("MountFailed", f"{identifier}: {error.message}", status=409) from None
        return _Attached(mount, directory)

    def _release(self, attached: _Attached) -> None:
        attached.users -= 1
        if attached.users == 0:
            attached.ending = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, attached)

    def _expire(self, attached: _Attached) -> None:
        if self._forget(attached):
            task = asyncio.create_task(self._end(attached))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    def _forget(self, attached: _Attached) -> bool:
        for identifier, known in self._attached.items():
            if known is attached:
                del self._attached[identifier]
                return True
        return False

    async def _end(self, attached: _Attached) -> None:
        with contextlib.suppress(FsdError):
            await self._fsd.unmount(attached.mount)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(attached.directory.rmdir)

    def _died(self, lost: Sequence[str]) -> None:
        for attached in [each for each in self._attached.values() if each.mount in lost]:
            if attached.ending is not None:
                attached.ending.cancel()
            self._expire(attached)


_STATUS = {
    FileNotFoundError: HTTPStatus.NOT_FOUND,
    NotADirectoryError: HTTPStatus.NOT_FOUND,
    PermissionError: HTTPStatus.FORBIDDEN,
}


def _parts(path: str) -> list[str]:
    """The names of a percent-encoded path. Raises AWSError for one that would lead elsewhere."""
    parts = [unquote(part) for part in path.split("/") if part]
    for part in parts:
        if part in (".", "..") or "/" in part or "\0" in part:
            raise AWSError("InvalidRequest", f"path: {part!r} is no name of a file", status=400)
    return parts


def _whole_number(name: str, given: str) -> int:
    if not given.isdecimal():
        raise AWSError("InvalidRequest", f"{name}: '{given}' is not a whole number", status=400)
    return int(given)


def _range(wanted: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last (RFC 9110, section 14.2). Raises AWSError."""
    if not wanted:
        return 0, size
    unit, _, span = wanted.partition("=")
    first, _, last = span.partition("-")
    if unit != "bytes" or "," in span or not (first or last) or not (first + last).isdecimal():
        raise AWSError("InvalidRange", f"Range: '{wanted}' is not bytes=FIRST-LAST", status=416)
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size:
        raise AWSError("InvalidRange", f"Range: the file has {size} bytes", status=416)
    return int(first), min(size, int(last) + 1) if last else size


@contextlib.contextmanager
def _parent(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of the directory that holds the last of `parts`, by way of directories alone."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            following = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = following
        yield fd
    finally:
        os.close(fd)


def _name(parts: Sequence[str]) -> str:
    return parts[-1] if parts else "."


def _open(root: Path, parts: Sequence[str]) -> Listing | int:
    """A directory's listing, or a file's descriptor."""
    with _parent(root, parts) as parent:
        # Not blocking: a fifo that nobody writes is no reason to wait.
        fd = os.open(_name(parts), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return _list(fd)
        if not stat.S_ISREG(mode):
            raise OSError(0, "this is neither a file nor a directory", _name(parts))
        fd, given = -1, fd
        return given
    finally:
        if fd >= 0:
            os.close(fd)


def _list(fd: int) -> Listing:
    entries: list[Entry] = []
    with os.scandir(fd) as found:
        for each in found:
            if len(entries) == LISTED_AT_MOST:
                return Listing(entries, more=True)
            with contextlib.suppress(FileNotFoundError):
                entries.append(_entry(each, fd))
    entries.sort(key=lambda entry: (entry.kind != "directory", entry.name))
    return Listing(entries, more=False)


def _entry(found: os.DirEntry[str], fd: int) -> Entry:
    status = found.stat(follow_symlinks=False)
    target = os.readlink(found.name, dir_fd=fd) if found.is_symlink() else ""
    return Entry(
        name=_text(found.name),
        kind=_KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        bytes=status.st_size,
        mode=stat.filemode(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        modified_ms=status.st_mtime_ns // 1_000_000,
        target=_text(target),
    )


def _text(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


def _write(root: Path, parts: Sequence[str], content: bytes, offset: int) -> None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    if offset == 0:
        flags |= os.O_CREAT | os.O_TRUNC
    with _parent(root, parts) as parent:
        fd = os.open(_name(parts), flags, 0o644, dir_fd=parent)
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]
    finally:
        os.close(fd)


def _make_directory(root: Path, parts: Sequence[str]) -> None:
    with _parent(root, parts) as parent:
        os.mkdir(_name(parts), 0o755, dir_fd=parent)


def _remove(root: Path, parts: Sequence[str], recursive: bool) -> None:
    if not parts:
        raise OSError(0, "the root directory stays", "/")
    with _parent(root, parts) as parent:
        name = _name(parts)
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
        elif recursive:
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.rmdir(name, dir_fd=parent)
