"""A running fsd with an NFS socket: everything below a pseudo-root, and a file system of its own."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambay.tls import generated

from .wire import DEADLINE, Client, Connection, User

FSD = Path(sys.executable).with_name("fsd")


class Door:
    """fsd, its control connection and the listening sockets, which outlive it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.backing = directory / "file-systems" / "fs-1"
        self.backing.mkdir(parents=True)
        self.pseudo, self.alone = _listening(), _listening()
        certificate, key = generated(directory / "tls", "localhost")
        self.identity = {"certificate": certificate.read_text(), "key": key.read_text()}
        self.port: int = self.pseudo.getsockname()[1]
        self.start()

    def start(self) -> None:
        control = self.directory / "fsd.sock"
        self.process = subprocess.Popen(
            [FSD, "--socket", control],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.directory / "log").open("ab"),
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert ready, "fsd did not start"
        assert self.process.stdout.readline()
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(DEADLINE)
        self.control.connect(str(control))
        self.answers = self.control.makefile("rb")
        self.call("volume.open", volume="fs-1", backing=str(self.backing), nfs_state=self.state)
        self.export("fs-1")
        self.export(
            "fsap-1",
            root="/ap",
            create={"uid": 1000, "gid": 1000, "mode": 0o750},
            posix={"uid": 1000, "gid": 1000, "gids": []},
        )
        self.call("nfs.tls", state=self.state, identities=[self.identity])
        self.listen("outside", self.pseudo, None)
        self.listen("target", self.alone, "fs-1")

    def call(self, operation: str, descriptor: int | None = None, **fields: Any) -> dict[str, Any]:
        line = json.dumps({"id": 1, "op": operation, **fields}).encode() + b"\n"
        if descriptor is None:
            self.control.sendall(line)
        else:
            socket.send_fds(self.control, [line], [descriptor])
        answer: dict[str, Any] = json.loads(self.answers.readline())
        assert "error" not in answer, answer
        return answer

    @property
    def state(self) -> str:
        return str(self.directory / "nfs")

    def export(self, name: str, **fields: Any) -> None:
        self.call("nfs.export", state=self.state, export=name, volume="fs-1", **fields)

    def offer_another(self) -> None:
        """fs-2, for as long as this process lives."""
        backing = self.backing.with_name("fs-2")
        backing.mkdir()
        self.call("volume.open", volume="fs-2", backing=str(backing), nfs_state=self.state)
        self.call("nfs.export", state=self.state, export="fs-2", volume="fs-2")

    def listen(self, name: str, listening: socket.socket, export: str | None) -> None:
        self.call("nfs.listen", listening.fileno(), state=self.state, listener=name, export=export)

    def kill(self) -> None:
        """As nobody can prevent; then begin again."""
        self.process.kill()
        self.process.wait(DEADLINE)
        self.answers.close()
        self.control.close()
        self.start()

    def stop(self) -> None:
        self.call("shutdown")
        assert self.process.wait(DEADLINE) == 0, (self.directory / "log").read_text()
        for listening in (self.pseudo, self.alone):
            listening.close()


def _listening() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    return listening


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with tempfile.TemporaryDirectory() as directory:
        door = Door(Path(directory))
        try:
            yield door
        finally:
            door.stop()
        log = (Path(directory) / "log").read_text()
        assert "panic" not in log, log


@pytest.fixture
def connect(door: Door) -> Iterator[Callable[..., Connection]]:
    opened: list[Connection] = []

    def connect(user: User | None = None, port: int | None = None) -> Connection:
        opened.append(Connection(port or door.port, user))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def client(connect: Callable[..., Connection]) -> Client:
    """A client of fs-1, as root."""
    return Client(connect(), ("fs-1",))
