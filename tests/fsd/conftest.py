"""A running fsd, volumes on a real directory, mounts with identities, and actors to use them."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .actor import DEADLINE, Actor

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """An error answer of the control socket."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error.get('message')}")
        self.code: str = error["code"]
        self.errno: int | None = error.get("errno")


@dataclass(frozen=True)
class Volume:
    name: str
    backing: Path


@dataclass(frozen=True)
class Mount:
    name: str
    path: Path
    connection: int


class Server:
    """An fsd process and its control connection."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = directory / "fsd.sock"
        self._numbers = itertools.count(1)
        self.mounts: dict[str, Mount] = {}
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "fsd", "--socket", self.socket, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(directory / "log").open("wb"),
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        line = self.process.stdout.readline() if ready else b""
        assert line, f"fsd did not start: {self.log()}"
        self.control = self.connect()
        self.answers = self.control.makefile("rb")

    def connect(self) -> socket.socket:
        """One more control connection."""
        control = socket.socket(socket.AF_UNIX)
        control.settimeout(DEADLINE)
        control.connect(str(self.socket))
        return control

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """One request on the supervisor's connection. Raises Refused."""
        number = next(self._numbers)
        self.control.sendall(json.dumps({"id": number, "op": operation, **fields}).encode() + b"\n")
        while line := self.answers.readline():
            answer: dict[str, Any] = json.loads(line)
            if answer["id"] == number:
                if "error" in answer:
                    raise Refused(answer["error"])
                result: dict[str, Any] = answer.get("result", answer)
                return result
        raise AssertionError(f"fsd closed its control connection: {self.log()}")

    def volume(self, backing: Path, name: str | None = None, *, passthrough: bool = True) -> Volume:
        volume = Volume(name or f"fs-{next(self._numbers):017x}", backing)
        backing.mkdir(parents=True, exist_ok=True)
        options = {} if passthrough else {"passthrough": False}
        self.call("volume.open", volume=volume.name, backing=str(backing), **options)
        return volume

    def mount(
        self,
        volume: Volume,
        *,
        uid: int | None = 0,
        gid: int | None = None,
        gids: tuple[int, ...] = (),
        root: str = "/",
        create: tuple[int, int, int] | None = None,
        read_only: bool = False,
        anonymous: tuple[int, int] = (65534, 65534),
        permissions: dict[str, bool] | None = None,
    ) -> Mount:
        """A mount that acts as `uid`:`gid`; `uid=None` is a mount without a POSIX user."""
        name = f"m-{next(self._numbers)}"
        path = self.directory / "mounts" / name
        path.mkdir(parents=True)
        posix = None if uid is None else {"uid": uid, "gid": uid if gid is None else gid, "gids": list(gids)}
        owner = None if create is None else {"uid": create[0], "gid": create[1], "mode": create[2]}
        answer = self.call(
            "mount",
            mount=name,
            volume=volume.name,
            mountpoint=str(path),
            root=root,
            create=owner,
            posix=posix,
            anonymous={"uid": anonymous[0], "gid": anonymous[1]},
            read_only=read_only,
            permissions=permissions or {},
        )
        self.mounts[name] = Mount(name, path, answer["connection"])
        return self.mounts[name]

    def unmount(self, mount: Mount) -> None:
        self.call("unmount", mount=mount.name)
        self.mounts.pop(mount.name, None)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9; then no request may hang on what it left, which is what its supervisor sees to."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)
        self.abort()

    def abort(self) -> None:
        """End what is still mounted. Numbers of connections are used again: only what is there is aborted."""
        left = mounts_below(self.directory)
        for mount in self.mounts.values():
            if left.get(str(mount.path)) == mount.connection:
                (_CONNECTIONS / str(mount.connection) / "abort").write_text("1")
            detach(mount.path)
        self.mounts.clear()

    def stop(self) -> int:
        """Shut down; its exit status."""
        try:
            if self.process.poll() is None:
                self.call("shutdown")
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self.abort()
            self.answers.close()
            self.control.close()


def detach(path: Path) -> None:
    _libc.umount2(os.fsencode(path), 2)


def mounts_below(directory: Path) -> dict[str, int]:
    """Mount points below a directory with the minor number of their device, a FUSE connection's number."""
    fields = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {line[4]: int(line[2].split(":")[1]) for line in fields if line[4].startswith(f"{directory}/")}


@pytest.fixture(scope="session", autouse=True)
def fusectl() -> None:
    if not os.path.ismount(_CONNECTIONS):
        subprocess.run(["mount", "-t", "fusectl", "fusectl", _CONNECTIONS], check=True)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory on the file system that volumes live on (not a tmpfs), which every user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="lambay-fsd-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    left = mounts_below(directory)
    for path in reversed(list(left)):
        detach(Path(path))
    subprocess.run(["rm", "-rf", directory], check=True)
    assert not left, "mounts were left behind"


#: Options of the server, and whether file data may pass it by. `served`: all data goes through it, as for a throttled
#: file system. `classic`: what a kernel before 6.9 gives.
WAYS = {
    "io_uring": ((), True),
    "served": ((), False),
    "classic": (("--transport", "classic"), False),
}
every_way = pytest.mark.parametrize("way", list(WAYS), ids=list(WAYS))


@pytest.fixture
def way() -> str:
    """How a server works unless a test asks for others (`@every_way`): as Lambay starts it."""
    return "io_uring"


@pytest.fixture
def fsd(scratch: Path, way: str) -> Iterator[Server]:
    """A server of this test's own. When the test ends it must still live, and end cleanly."""
    server = Server(scratch, *WAYS[way][0])
    yield server
    killed = server.process.poll() is not None
    status = server.stop()
    assert killed or status == 0, f"fsd ended with status {status}: {server.log()}"


@pytest.fixture
def volume(fsd: Server, scratch: Path, way: str) -> Volume:
    """An empty volume whose root anybody may write."""
    volume = fsd.volume(scratch / "volume", passthrough=WAYS[way][1])
    volume.backing.chmod(0o777)
    return volume


Hire = Callable[..., Actor]


@pytest.fixture
def actor() -> Iterator[Hire]:
    """Hires actors: `actor(uid, gid, groups, umask)`."""
    hired: list[Actor] = []

    def hire(*identity: Any, **named: Any) -> Actor:
        hired.append(Actor(*identity, **named))
        return hired[-1]

    yield hire
    for each in hired:
        each.process.kill()
    for each in hired:
        each.close()


@pytest.fixture
def rng() -> random.Random:
    """Random choices; a failing test shows the seed, LAMBAY_TEST_SEED repeats it."""
    seed = int(os.environ.get("LAMBAY_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"seed: LAMBAY_TEST_SEED={seed}")
    return random.Random(seed)
