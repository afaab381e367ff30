"""A Linux machine with a kernel NFS client: QEMU without KVM, Debian's cloud kernel, an initramfs of busybox."""

from __future__ import annotations

import base64
import gzip
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

BOOT_SECONDS = 300.0
COMMAND_SECONDS = 300.0
_MODULES = ("virtio_pci", "virtio_net", "nfsv4")
# What busybox has not.
_PROGRAMS = (Path("/usr/bin/flock"),)

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do insmod $module; done
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
stty -echo
echo GUEST-READY
while read -r file; do
  { echo "$file" | base64 -d > /tmp/command; } 2>/dev/null
  sh /tmp/command 2>&1
  echo "GUEST-DONE $?"
done
poweroff -f
"""


class NoGuest(Exception):
    """What the host lacks for one."""


def unpacked() -> Path:
    """Where `scripts/guest` keeps the kernel and its modules."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lambay" / "guest"


def kernel() -> Path:
    """Raises NoGuest."""
    images = sorted((unpacked() / "boot").glob("vmlinuz-*"))
    if not images:
        raise NoGuest(f"no kernel in {unpacked()}: `scripts/guest` provides it")
    return images[-1]


def modules(release: str) -> list[Path]:
    """The files of `_MODULES` and of what they need, in the order in which they load."""
    found: dict[Path, None] = {}
    for name in _MODULES:
        shown = subprocess.run(
            ["/sbin/modprobe", "-d", unpacked(), "-S", release, "--show-depends", name],
            check=True,
            capture_output=True,
            text=True,
        )
        for line in shown.stdout.splitlines():
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def initramfs(release: str) -> bytes:
    files: dict[str, bytes] = {"init": _INIT.encode(), "bin/busybox": Path("/bin/busybox").read_bytes()}
    for program in _PROGRAMS:
        files[f"usr/bin/{program.name}"] = program.read_bytes()
        shown = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
        for library in re.findall(r"(/\S+) \(0x", shown.stdout):
            files[library.removeprefix("/")] = Path(library).read_bytes()
    for number, module in enumerate(modules(release)):
        files[f"modules/{number:02}-{module.name}"] = module.read_bytes()
    directories = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    return gzip.compress(_cpio([*sorted(directories), "proc", "sys", "dev", "tmp", "mnt"], files), 1)


def _cpio(directories: list[str], files: dict[str, bytes]) -> bytes:
    """An archive as the kernel unpacks it ("newc")."""
    out = bytearray()

    def entry(name: str, mode: int, content: bytes = b"") -> None:
        fields = (len(out), mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0")
        out.extend(bytes(-len(out) % 4) + content)
        out.extend(bytes(-len(out) % 4))

    for directory in directories:
        entry(directory, 0o40755)
    for name, content in files.items():
        entry(name, 0o100755, content)
    entry("TRAILER!!!", 0)
    return bytes(out)


class Guest:
    """A running guest; the host is 10.0.2.2 to it, and reaches the host's loopback so."""

    def __init__(self) -> None:
        image = kernel()
        if shutil.which("qemu-system-x86_64") is None:
            raise NoGuest("no qemu-system-x86_64: `scripts/guest` provides it")
        self._directory = tempfile.TemporaryDirectory()
        archive = Path(self._directory.name) / "initramfs"
        archive.write_bytes(initramfs(image.name.removeprefix("vmlinuz-")))
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-m", "256", "-no-reboot"),
                *("-nographic", "-nodefaults", "-serial", "stdio", "-kernel", image, "-initrd", archive),
                *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
                *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._until("GUEST-READY", BOOT_SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.decode(errors="replace").rstrip("\r\n"))
        self._lines.put(None)

    def _until(self, mark: str, seconds: float) -> list[str]:
        lines: list[str] = []
        while True:
            line = self._lines.get(timeout=seconds)
            assert line is not None, "the guest ended: " + "\n".join(lines)
            lines.append(line)
            if mark in line:
                return lines

    def begin(self, script: str) -> None:
        """Start a script in the guest's shell; `result` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(base64.b64encode(script.encode()) + b"\n")
        self.process.stdin.flush()

    def result(self) -> tuple[int, str]:
        """Status and output of the script that was begun."""
        *lines, last = self._until("GUEST-DONE ", COMMAND_SECONDS)
        match = re.search(r"(.*)GUEST-DONE (\d+)", last)
        assert match is not None
        return int(match[2]), "\n".join([*lines, match[1]]).strip()

    def run(self, script: str) -> str:
        """A script's output; it must succeed."""
        self.begin(script)
        status, said = self.result()
        assert status == 0, said
        return said

    def wait_for(self, mark: str) -> None:
        """Until the script that was begun says `mark`."""
        self._until(mark, COMMAND_SECONDS)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._directory.cleanup()
