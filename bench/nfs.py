"""NFS: fsd beside NFS-Ganesha on the same directory and machine, with the same client.

`python -m bench.nfs [SECONDS]`; Ganesha's rows need Debian's nfs-ganesha and nfs-ganesha-vfs. The client is that of
the tests, one connection and one request at a time: what is compared are the servers' latencies.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.nfs import wire
from tests.nfs.conftest import Door
from tests.nfs.wire import Client, Connection, u32

_GANESHA = """
NFS_CORE_PARAM {{
    NFS_Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false;
}}
NFSv4 {{ Graceless = true; RecoveryRoot = "{state}"; }}
EXPORT {{
    Export_Id = 1; Path = "{path}"; Pseudo = "/fs-1"; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
    Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = WARN; }}
"""

Row = Callable[[Client, int], float]
_FILES = 300


def _file(client: Client, name: str) -> tuple[bytes, wire.StateId]:
    return client.open(name)


def writes(client: Client, count: int) -> float:
    """MiB/s of 1 MiB WRITEs and one COMMIT."""
    handle, state = _file(client, "big")
    block = bytes(1 << 20)
    began = time.perf_counter()
    for n in range(64):
        client.ok(wire.putfh(handle), wire.write(state, n << 20, block))
    client.ok(wire.putfh(handle), u32(wire.COMMIT) + bytes(12))
    return 64 / (time.perf_counter() - began)


def reads(client: Client, count: int) -> float:
    """MiB/s of 1 MiB READs."""
    handle, state = _file(client, "big")
    began = time.perf_counter()
    for n in range(64):
        client.ok(wire.putfh(handle), wire.read(state, n << 20, 1 << 20))
    return 64 / (time.perf_counter() - began)


def small_files(client: Client, count: int) -> float:
    """Files a second: OPEN that creates, WRITE 4 KiB, CLOSE, in two compounds as a client's kernel sends them."""
    began = time.perf_counter()
    for n in range(count):
        *_, opened, handle = client.ok(
            *client.steps(), wire.open_(b"o", f"s{n}", create=wire.unchecked(mode=0o644)), u32(wire.GETFH)
        )
        client.ok(
            wire.putfh(handle), wire.write(opened["state"], 0, bytes(4096)), wire.close(opened["state"])
        )
    return count / (time.perf_counter() - began)


def lookups(client: Client, count: int) -> float:
    """LOOKUPs with attributes a second."""
    root = client.handle()
    began = time.perf_counter()
    for n in range(count):
        client.ok(wire.putfh(root), wire.lookup(f"s{n}"), u32(wire.GETFH), wire.getattr_(1, 3, 4, 20, 33, 35))
    return count / (time.perf_counter() - began)


def attributes(client: Client, count: int) -> float:
    """GETATTRs a second."""
    handle = client.handle("s0")
    began = time.perf_counter()
    for _ in range(count):
        client.ok(wire.putfh(handle), wire.getattr_(1, 3, 4, 20, 33, 35))
    return count / (time.perf_counter() - began)


def removals(client: Client, count: int) -> float:
    """REMOVEs a second."""
    root = client.handle()
    began = time.perf_counter()
    for n in range(count):
        client.ok(wire.putfh(root), wire.remove(f"s{n}"))
    return count / (time.perf_counter() - began)


ROWS: dict[str, Row] = {
    "write 1 MiB, MiB/s": writes,
    "read 1 MiB, MiB/s": reads,
    "create + write 4 KiB + close, files/s": small_files,
    "lookup, 1/s": lookups,
    "getattr, 1/s": attributes,
    "remove, 1/s": removals,
}


def measured(port: int) -> dict[str, float]:
    client = Client(Connection(port), ("fs-1",))
    return {name: row(client, _FILES) for name, row in ROWS.items()}


@contextmanager
def ganesha(directory: Path) -> Iterator[int]:
    """The port of a Ganesha on a directory of its own, on the same file system."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    (directory / "export").mkdir()
    (directory / "state").mkdir()
    configuration = directory / "ganesha.conf"
    configuration.write_text(_GANESHA.format(port=port, path=directory / "export", state=directory / "state"))
    process = subprocess.Popen(
        ["ganesha.nfsd", "-F", "-f", configuration, "-L", directory / "log", "-p", directory / "pid"]
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "log").read_text())
        yield port
    finally:
        process.kill()
        process.wait()


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        (Path(directory) / "fsd").mkdir()
        door = Door(Path(directory) / "fsd")
        ours = measured(door.port)
        door.stop()
        theirs: dict[str, float] = {}
        if shutil.which("ganesha.nfsd"):
            (Path(directory) / "ganesha").mkdir()
            with ganesha(Path(directory) / "ganesha") as port:
                theirs = measured(port)
        else:
            print(
                "NFS-Ganesha is not installed: apt-get install nfs-ganesha nfs-ganesha-vfs", file=sys.stderr
            )
    print(f"{'':40}{'fsd':>10}{'Ganesha':>10}")
    for name, figure in ours.items():
        beside = f"{theirs[name]:10.0f}" if name in theirs else f"{'-':>10}"
        print(f"{name:40}{figure:10.0f}{beside}")


if __name__ == "__main__":
    main()
