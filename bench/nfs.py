"""NFS: fsd beside NFS-Ganesha on the same machine and file system, with the same client, in turn.

Ganesha's columns need Debian's nfs-ganesha and nfs-ganesha-vfs. The client keeps eight requests under way on one
connection, as a kernel does that reads ahead and writes back, and looks at nothing of the answers but their status.
A figure is the best round's; beside it is the processor time of the server for a request, over all rounds, which a
busy machine and a slow client blur least.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.nfs import wire
from tests.nfs.conftest import Door
from tests.nfs.wire import Client, Connection, StateId, u32

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

_DEPTH = 8
_MIB = 1 << 20
_BIG = 128
_FILES = 2_000
_RANDOM = 4_000
# The stateid that the operation before left (RFC 8881 section 16.2.3.1.2).
_CURRENT = StateId(1, bytes(12))
_ATTRIBUTES = (1, 3, 4, 20, 33, 35)
_TICKS = os.sysconf("SC_CLK_TCK")

Compound = Sequence[bytes]


class Pipeline:
    """A client with several requests under way, each in a slot of its own."""

    def __init__(self, port: int) -> None:
        self.client = Client(Connection(port), ("fs-1",))
        self._socket = self.client.connection.socket
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The client's own requests were in slot 0.
        self._numbers = [0] * (_DEPTH + 1)
        self._buffer = bytearray(2 * _MIB)

    def run(self, compounds: Sequence[Compound]) -> float:
        """Seconds for all of them."""
        records = iter(compounds)
        slots: dict[int, int] = {}
        began = time.perf_counter()
        for slot in range(1, _DEPTH + 1):
            self._send(slot, next(records, None), slots)
        while slots:
            slot = slots.pop(self._receive())
            self._send(slot, next(records, None), slots)
        return time.perf_counter() - began

    def _send(self, slot: int, operations: Compound | None, slots: dict[int, int]) -> None:
        if operations is None:
            return
        self._numbers[slot] += 1
        steps = (
            u32(wire.SEQUENCE) + self.client.session + u32(self._numbers[slot], slot, _DEPTH, 0),
            *operations,
        )
        body = wire.opaque(b"bench") + u32(1, len(steps)) + b"".join(steps)
        xid, record = self.client.connection.call_record(1, body)
        slots[xid] = slot
        self.client.connection.send(record)

    def _receive(self) -> int:
        """The xid of the next answer. Raises RuntimeError where it is not OK."""
        whole = memoryview(self._buffer)
        self._exactly(whole[:4])
        size = struct.unpack(">I", whole[:4])[0] & 0x7FFF_FFFF
        self._exactly(whole[:size])
        xid, _, reply, _, verifier = struct.unpack(">5I", whole[:20])
        accepted, status = struct.unpack(">2I", whole[20 + verifier : 28 + verifier])
        if reply or accepted or status:
            raise RuntimeError(f"a request failed: reply {reply}, accepted {accepted}, status {status}")
        return int(xid)

    def _exactly(self, into: memoryview) -> None:
        done = 0
        while done < len(into):
            count = self._socket.recv_into(into[done:])
            if count == 0:
                raise EOFError("the server closed the connection")
            done += count


@dataclass
class Server:
    """One of the two, with a client and what it has opened."""

    pid: int
    pipeline: Pipeline
    big: tuple[bytes, StateId] = field(init=False)
    root: bytes = field(init=False)
    lot: random.Random = field(default_factory=lambda: random.Random(4))

    def __post_init__(self) -> None:
        self.big = self.pipeline.client.open("big")
        self.root = self.pipeline.client.handle()

    def processor_seconds(self) -> float:
        """Of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


Row = Callable[[Server], Sequence[Compound]]


def writes(server: Server) -> Sequence[Compound]:
    handle, state = server.big
    block = bytes(_MIB)
    return [(wire.putfh(handle), wire.write(state, n * _MIB, block)) for n in range(_BIG)]


def reads(server: Server) -> Sequence[Compound]:
    handle, state = server.big
    return [(wire.putfh(handle), wire.read(state, n * _MIB, _MIB)) for n in range(_BIG)]


def random_reads(server: Server) -> Sequence[Compound]:
    handle, state = server.big
    return [(wire.putfh(handle), wire.read(state, _somewhere(server), 4096)) for _ in range(_RANDOM)]


def random_writes(server: Server) -> Sequence[Compound]:
    handle, state = server.big
    block = bytes(4096)
    return [(wire.putfh(handle), wire.write(state, _somewhere(server), block)) for _ in range(_RANDOM)]


def _somewhere(server: Server) -> int:
    return server.lot.randrange(_BIG * _MIB // 4096) * 4096


def small_files(server: Server) -> Sequence[Compound]:
    block = bytes(4096)
    return [
        (
            wire.putfh(server.root),
            wire.open_(b"o", f"s{n}", create=wire.unchecked(mode=0o644)),
            wire.write(_CURRENT, 0, block),
            wire.close(_CURRENT),
        )
        for n in range(_FILES)
    ]


def lookups(server: Server) -> Sequence[Compound]:
    look = (u32(wire.GETFH), wire.getattr_(*_ATTRIBUTES))
    return [(wire.putfh(server.root), wire.lookup(f"s{n}"), *look) for n in range(_FILES)]


def attributes(server: Server) -> Sequence[Compound]:
    handle, _ = server.big
    return [(wire.putfh(handle), wire.getattr_(*_ATTRIBUTES))] * _FILES


def renames(server: Server) -> Sequence[Compound]:
    there = (wire.putfh(server.root), u32(wire.SAVEFH))
    return [(*there, wire.rename(f"s{n}", f"t{n}")) for n in range(_FILES)]


def removals(server: Server) -> Sequence[Compound]:
    return [(wire.putfh(server.root), wire.remove(f"t{n}")) for n in range(_FILES)]


ROWS: dict[str, Row] = {
    "write 1 MiB, MiB/s": writes,
    "read 1 MiB, MiB/s": reads,
    "random read 4 KiB, 1/s": random_reads,
    "random write 4 KiB, 1/s": random_writes,
    "create + write 4 KiB + close, files/s": small_files,
    "lookup, 1/s": lookups,
    "getattr, 1/s": attributes,
    "rename, 1/s": renames,
    "remove, 1/s": removals,
}


@dataclass
class Figure:
    """A row of one server: requests a second in the best round, microseconds of processor time a request."""

    rate: float = 0.0
    processor_us: float = 0.0


def measured(servers: dict[str, Server], rounds: int) -> dict[str, dict[str, Figure]]:
    """By row and server; who goes first changes with every round."""
    table = {row: {name: Figure() for name in servers} for row in ROWS}
    for turn in range(rounds):
        for row, compounds_of in ROWS.items():
            for name in sorted(servers, reverse=turn % 2 == 1):
                server, figure = servers[name], table[row][name]
                compounds = compounds_of(server)
                before = server.processor_seconds()
                seconds = server.pipeline.run(compounds)
                spent = server.processor_seconds() - before
                figure.rate = max(figure.rate, len(compounds) / seconds)
                figure.processor_us += spent / len(compounds) / rounds * 1e6
    return table


@contextmanager
def ganesha(directory: Path) -> Iterator[tuple[int, int]]:
    """The pid and port of a Ganesha on a directory of its own, on the same file system."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    (directory / "export").mkdir(parents=True)
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
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def _rounds(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 100:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} given; 1 to 100 allowed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_rounds, default=5, metavar="N", help="5 unless told otherwise")
    rounds: int = parser.parse_args().rounds
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"))))
        (directory / "fsd").mkdir()
        door = Door(directory / "fsd")
        stack.callback(door.stop)
        servers = {"fsd": Server(door.process.pid, Pipeline(door.port))}
        if shutil.which("ganesha.nfsd"):
            pid, port = stack.enter_context(ganesha(directory / "ganesha"))
            servers["Ganesha"] = Server(pid, Pipeline(port))
        else:
            print(
                "NFS-Ganesha is not installed: apt-get install nfs-ganesha nfs-ganesha-vfs", file=sys.stderr
            )
        table = measured(servers, rounds)
    print(f"{'':40}" + "".join(f"{name:>10}{'µs CPU':>8}" for name in servers))
    for row, figures in table.items():
        shown = (f"{figures[name].rate:10.0f}{figures[name].processor_us:8.0f}" for name in servers)
        print(f"{row:40}" + "".join(shown))


if __name__ == "__main__":
    main()
