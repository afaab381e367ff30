"""The file server beside the file system beneath it and beside bindfs: one table, one run, one directory.

    .venv/bin/python -m bench.files [--quick] [--only metadata] [--repeat 3] [--json FILE]

fsd runs as functions use it: the access point's identity on every operation, locks, coherence and
metering on, and nothing throttles. The load comes from `fsbench` (native, in the crate): it asks ext4
for ten times what any FUSE server here answers, so it is not what limits a row. Each figure is the best
of the repetitions; the systems take turns, so that a busy neighbour on the machine meets all of them.

Every part runs on a freshly started server of each kind, so that a peer that keeps a descriptor for every file it
ever saw gets through. The metadata parts have a file system of their own, made for each repetition in an image below
the directory and thrown away afterwards: ext4 looks long for a new inode where files were removed in the last five
minutes, and then the order of the systems would decide who creates faster.

"first" means: the client has not met these names; natively the kernel has. "cold" means: neither the file's
pages nor those beneath it were in memory. The disk is part of the figure then, for ext4 as for the rest.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UID = GID = 1001
MIB = 1 << 20
PROCESSES = 8
#: Sparse: it takes what is written.
IMAGE_BYTES = 8 << 30


@dataclass(frozen=True)
class System:
    """One column: a directory to work in, and where its files really are."""

    name: str
    path: Path
    beneath: Path


@dataclass(frozen=True)
class Scale:
    files: int
    entries: int
    large_mib: int
    blocks: int
    model_mib: int = 90


#: passthrough_hp keeps every file it knows open, and 20,000 descriptors are all it gets.
FULL = Scale(files=8_000, entries=10_000, large_mib=512, blocks=50_000)
QUICK = Scale(files=1_000, entries=10_000, large_mib=64, blocks=5_000)


class Load:
    """Runs the load generator."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def run(self, workload: str, directory: Path, count: int) -> dict[str, float]:
        return self.together(workload, [directory], count)

    def together(self, workload: str, directories: list[Path], count: int) -> dict[str, float]:
        """One process a directory, all begun at once; what they did together in the longest's time."""
        processes = [
            subprocess.Popen(
                [self._binary, workload, directory, str(count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for directory in directories
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results: list[dict[str, float]] = []
        for process in processes:
            out, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"fsbench {workload} failed")
            results.append(json.loads(out))
        return {
            "operations": sum(result["operations"] for result in results),
            "bytes": sum(result["bytes"] for result in results),
            "seconds": max(result["seconds"] for result in results),
        }


class Rows:
    """The best figure of each row and system, in operations or MiB per second, or in milliseconds."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}
        self.best: dict[str, dict[str, float]] = {}

    def rate(self, row: str, system: System, result: dict[str, float]) -> None:
        self._add(row, "ops/s", system, result["operations"] / result["seconds"], max)

    def throughput(self, row: str, system: System, result: dict[str, float]) -> None:
        self._add(row, "MiB/s", system, result["bytes"] / MIB / result["seconds"], max)

    def time(self, row: str, system: System, seconds: float) -> None:
        self._add(row, "ms", system, seconds * 1000, min)

    def _add(
        self, row: str, unit: str, system: System, value: float, better: Callable[[float, float], float]
    ) -> None:
        self.units[row] = unit
        known = self.best.setdefault(row, {})
        known[system.name] = better(known.get(system.name, value), value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the best figure counts")
    parser.add_argument(
        "--only", action="append", choices=sorted(PARTS), help="measure this part; may be given again"
    )
    parser.add_argument(
        "--directory", default="/var/tmp", help="a directory on the file system to measure on"
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more file server: a command that mounts {source} on {mountpoint} and stays or detaches",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench.files: mounting takes root")
    # Whoever ends it early leaves no mount behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = QUICK if options.quick else FULL
    rows = Rows()
    load = Load(build_load_generator())
    systems: list[System] = []
    told: set[str] = set()
    for turn in range(options.repeat):
        for part in options.only or PARTS:
            with ExitStack() as stack:
                place = stack.enter_context(scratch(Path(options.directory), image=part in ON_IMAGE))
                systems, notes = start(stack, place, options.peer)
                for note in notes:
                    # The same every time, but for the directory.
                    line = note.replace(str(place), "DIRECTORY")
                    if line not in told:
                        print(line)
                        told.add(line)
                first = turn % len(systems)
                for system in systems[first:] + systems[:first]:
                    # What the one before left to be written is not this one's.
                    subprocess.run(["sync", "--file-system", place], check=True)
                    PARTS[part](load, system, scale, rows)
                for system in systems:
                    removal(load, system, scale, rows)
    show(rows, systems)
    if options.json:
        Path(options.json).write_text(json.dumps({"units": rows.units, "rows": rows.best}, indent=1))


@contextmanager
def scratch(directory: Path, *, image: bool) -> Iterator[Path]:
    """A directory to work in that goes afterwards; with `image` it is a new ext4 on a file of its own."""
    made = Path(tempfile.mkdtemp(prefix="lambay-bench-", dir=directory))
    file, place = made / "image", made / "files"
    place.mkdir()
    try:
        if image:
            with file.open("wb") as sparse:
                sparse.truncate(IMAGE_BYTES)
            subprocess.run(["mkfs.ext4", "-q", file], check=True)
            subprocess.run(["mount", "-o", "loop,noinit_itable", file, place], check=True)
        made.chmod(0o755)
        place.chmod(0o755)
        yield place
    finally:
        if image:
            # A server may take a moment to let go of it.
            subprocess.run(["umount", "--lazy", place], check=True)
        shutil.rmtree(made)


def start(stack: ExitStack, place: Path, peers: list[str]) -> tuple[list[System], list[str]]:
    """Every system on a directory of its own below `place`, with a line about each."""
    plain = place / "plain"
    plain.mkdir()
    kind = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", place], capture_output=True, text=True, check=True
    )
    systems = [System("native", plain, plain)]
    notes = [
        f"native   {' on '.join(kind.stdout.split())}, {os.cpu_count()} processors, {os.uname().release}"
    ]
    system, note = stack.enter_context(fsd(place))
    systems.append(system)
    notes.append(note)
    if shutil.which("bindfs"):
        system, note = stack.enter_context(bindfs(place))
        systems.append(system)
        notes.append(note)
    else:
        notes.append("bindfs   not installed (apt-get install bindfs): no column")
    for text in [*found_peers(notes), *peers]:
        system, note = stack.enter_context(peer(place, text))
        systems.append(system)
        notes.append(note)
    return systems, notes


#: Peers that are measured where the machine has them: name, program, command, and what it is.
PEERS = (
    (
        "libfuse",
        "passthrough_hp",
        "{program} --foreground -o io_uring,allow_other {source} {mountpoint}",
        "the example of libfuse 3.17 or newer, over io_uring and with passthrough",
    ),
)


def found_peers(notes: list[str]) -> list[str]:
    """NAME=COMMAND of each peer that is here; a line for each that is not."""
    found: list[str] = []
    for name, program, command, what in PEERS:
        where = shutil.which(program)
        if where is None:
            notes.append(f"{name:8} {program} ({what}) is not on the PATH: no column")
        else:
            found.append(f"{name}={command.replace('{program}', where)}")
    return found


@contextmanager
def peer(scratch: Path, text: str) -> Iterator[tuple[System, str]]:
    """Any other file server, by the command that mounts it."""
    name, _, command = text.partition("=")
    backing, mountpoint = scratch / f"{name}-volume", scratch / name
    backing.mkdir()
    mountpoint.mkdir()
    before = mountpoint.stat().st_dev
    process = subprocess.Popen(shlex.split(command.format(source=backing, mountpoint=mountpoint)))
    until = time.monotonic() + 10
    # It tells nobody when it has mounted.
    while mountpoint.stat().st_dev == before:
        if time.monotonic() > until or process.poll():
            process.kill()
            raise SystemExit(f"bench.files: {command} did not mount {mountpoint}")
        os.sched_yield()
    try:
        yield System(name, mountpoint, backing), f"{name:8} {command}"
    finally:
        subprocess.run(["umount", "--lazy", mountpoint], check=True)
        process.wait(30)


@contextmanager
def fsd(scratch: Path) -> Iterator[tuple[System, str]]:
    """The file server with one mount that acts as UID:GID, in elastic mode."""
    backing, mountpoint, path = scratch / "fsd-volume", scratch / "fsd", scratch / "fsd.sock"
    backing.mkdir()
    os.chown(backing, UID, GID)
    mountpoint.mkdir()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "fsd", "--socket", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit("bench.files: fsd did not start")
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(path))
        answers = control.makefile("rb")

        def call(operation: str, **fields: Any) -> dict[str, Any]:
            control.sendall(json.dumps({"id": 1, "op": operation, **fields}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(answers.readline())
            if "error" in answer:
                raise SystemExit(f"bench.files: fsd refused {operation}: {answer['error']}")
            result: dict[str, Any] = answer.get("result", answer)
            return result

        hello = call("hello")
        call("volume.open", volume="fs-bench", backing=str(backing))
        # As Lambay with `--quotas off`: everything is counted and paced, nothing held back.
        call(
            "volume.limits",
            volume="fs-bench",
            throughput={"mode": "elastic"},
            performance="general_purpose",
            passthrough=True,
            enforce=False,
        )
        call(
            "mount",
            mount="bench",
            volume="fs-bench",
            mountpoint=str(mountpoint),
            root="/",
            create=None,
            posix={"uid": UID, "gid": GID, "gids": []},
            anonymous={"uid": 65534, "gid": 65534},
            read_only=False,
        )
        note = (
            f"fsd      {hello['version']}, transport {hello['transport']}, passthrough "
            f"{'on' if hello.get('passthrough') else 'off'}, acts as {UID}:{GID}; "
            "locks, coherence and metering on"
        )
        try:
            yield System("fsd", mountpoint, backing), note
        finally:
            call("shutdown")
            process.wait(30)


@contextmanager
def bindfs(scratch: Path) -> Iterator[tuple[System, str]]:
    """bindfs with the same identity."""
    backing, mountpoint = scratch / "bindfs-volume", scratch / "bindfs"
    backing.mkdir()
    mountpoint.mkdir()
    owner = [f"--force-user={UID}", f"--force-group={GID}"]
    created = [f"--create-for-user={UID}", f"--create-for-group={GID}"]
    subprocess.run(["bindfs", "-o", "allow_other", *owner, *created, backing, mountpoint], check=True)
    version = subprocess.run(
        ["bindfs", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    try:
        yield System("bindfs", mountpoint, backing), f"bindfs   {version}, {' '.join([*owner, *created])}"
    finally:
        subprocess.run(["umount", "--lazy", mountpoint], check=True)


def build_load_generator() -> Path:
    """`fsbench` of the crate, built if needed."""
    crate = Path(__file__).parent.parent
    target = os.environ.get("CARGO_TARGET_DIR") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambay/target"
    )
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--bin", "fsbench"],
        check=True,
        cwd=crate,
        env={**os.environ, "CARGO_TARGET_DIR": target},
    )
    return Path(target) / "release/fsbench"


def place(directory: Path, names: int) -> None:
    """Files that no client has seen, made beneath the mount."""
    directory.mkdir()
    for number in range(names):
        path = directory / f"f{number:06}"
        path.write_bytes(bytes(4096))
        os.chown(path, UID, GID)


def forget_data(*paths: Path) -> None:
    """Drop a file's pages, through the mount and beneath it."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def metadata(load: Load, system: System, scale: Scale, rows: Rows) -> None:
    directory = system.path / f"small-{time.monotonic_ns()}"
    directory.mkdir()
    rows.rate("create, write 4 KiB, close", system, load.run("create", directory, scale.files))
    rows.rate("stat, known", system, load.run("stat", directory, scale.files))
    rows.rate("open, read 4 KiB, close", system, load.run("open-read-close", directory, scale.files))
    # A name of its own each time: some peers believe for hours in what they once saw.
    unseen = f"unseen-{time.monotonic_ns()}"
    place(system.beneath / unseen, scale.entries)
    rows.rate("stat, first", system, load.run("stat", system.path / unseen, scale.files))
    rows.rate("readdir of 10,000, first (entries)", system, load.run("readdir", system.path / unseen, 1))
    rows.rate("readdir of 10,000, again (entries)", system, load.run("readdir", system.path / unseen, 10))


def many_processes(load: Load, system: System, scale: Scale, rows: Rows) -> None:
    run = time.monotonic_ns()
    directories = [system.path / f"process-{run}-{number}" for number in range(PROCESSES)]
    for directory in directories:
        directory.mkdir()
    files = scale.files // 4
    for workload, row in (
        ("create", f"{PROCESSES} processes: create, write 4 KiB, close"),
        ("stat", f"{PROCESSES} processes: stat, known"),
        ("open-read-close", f"{PROCESSES} processes: open, read 4 KiB, close"),
    ):
        rows.rate(row, system, load.together(workload, directories, files))


def removal(load: Load, system: System, scale: Scale, rows: Rows) -> None:
    """What the other parts made, after all of them: ext4 creates slowly for minutes where it has removed."""
    for directory in sorted(system.path.glob("small-*")):
        rows.rate("unlink", system, load.run("unlink", directory, scale.files))
    together = sorted(system.path.glob("process-*"))
    for first in range(0, len(together), PROCESSES):
        directories = together[first : first + PROCESSES]
        rows.rate(
            f"{PROCESSES} processes: unlink", system, load.together("unlink", directories, scale.files // 4)
        )


def data(load: Load, system: System, scale: Scale, rows: Rows) -> None:
    directory = system.path / "data"
    directory.mkdir()
    large = (directory / "large", system.beneath / "data/large")
    rows.throughput("sequential write, 1 MiB", system, load.run("write", directory, scale.large_mib))
    rows.throughput(
        "sequential write, 1 MiB, fsync", system, load.run("write-sync", directory, scale.large_mib)
    )
    forget_data(*large)
    rows.throughput("sequential read, cold", system, load.run("read", directory, 0))
    rows.throughput("sequential read, cached beneath", system, _cached_beneath(load, directory, large[0]))
    rows.throughput("sequential read, cached", system, load.run("read", directory, 0))
    rows.rate("random read, 4 KiB", system, load.run("random-read", directory, scale.blocks))
    rows.rate("random write, 4 KiB", system, load.run("random-write", directory, scale.blocks))
    large[0].unlink()
    directory.rmdir()


def _cached_beneath(load: Load, directory: Path, large: Path) -> dict[str, float]:
    """In memory beneath the mount but not in the client's cache; natively there is one cache."""
    load.run("read", directory, 0)
    if directory.parent.is_mount():
        fd = os.open(large, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    return load.run("read", directory, 0)


def loading(load: Load, system: System, scale: Scale, rows: Rows) -> None:
    """A model of 90 MB is mapped and every page of it touched."""
    directory = system.path / "model"
    directory.mkdir()
    model = (directory / "large", system.beneath / "model/large")
    load.run("write-sync", directory, scale.model_mib)
    forget_data(*model)
    for row in ("load 90 MB by mmap, cold", "load 90 MB by mmap, again"):
        begun = time.perf_counter()
        with (
            model[0].open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view,
        ):
            assert len(view[:: mmap.PAGESIZE]) == scale.model_mib * MIB // mmap.PAGESIZE
            rows.time(row, system, time.perf_counter() - begun)
    model[0].unlink()
    directory.rmdir()


PARTS: dict[str, Callable[[Load, System, Scale, Rows], None]] = {
    "metadata": metadata,
    "processes": many_processes,
    "data": data,
    "loading": loading,
}


#: Parts on a file system of their own. What is about the disk stays on the directory's.
ON_IMAGE = {"metadata", "processes"}


def show(rows: Rows, systems: list[System]) -> None:
    width = max(map(len, rows.best))
    others = [system.name for system in systems if system.name not in ("native", "fsd")]
    heads = [*(system.name for system in systems), "fsd/native", *(f"fsd/{name}" for name in others)]
    print(f"\n{'':{width}}  {'unit':6}" + "".join(f"{head:>12}" for head in heads))
    for row, found in rows.best.items():
        unit = rows.units[row]
        cells = [f"{found[system.name]:>12,.{1 if unit == 'ms' else 0}f}" for system in systems]
        for name in ("native", *others):
            # More is better, also where the figure is a time.
            ratio = found[name] / found["fsd"] if unit == "ms" else found["fsd"] / found[name]
            cells.append(f"{ratio:>11.2f}x")
        print(f"{row:{width}}  {unit:6}" + "".join(cells))


if __name__ == "__main__":
    main()
