"""What a function sees of the machine: the bubblewrap command line and the small /etc.

Bubblewrap runs as root without a user namespace, in mount, pid, ipc, uts, cgroup and network namespaces of
the slot's own; setpriv then gives everything up for the slot's own uid. /var, /opt, /mnt and /tmp are slave
binds of the slot's directory, so that what Lambay mounts below it later appears in the running sandbox.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lambay.runtime import kernel

USER = "sbx_user1051"
HOSTNAME = "lambda"
# With those of LD_LIBRARY_PATH: the dynamic loader never looks again into one that was not there at first.
_DIRECTORIES = (
    "var",
    "var/task",
    "var/task/lib",
    "var/lang",
    "var/lang/lib",
    "var/node_modules",
    "var/runtime",
    "var/runtime/lib",
    "var/rapid",
    "opt",
    "opt/lib",
    "mnt",
    "tmp",
    "image",
)
_KEPT_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


@dataclass(frozen=True, slots=True)
class Tree:
    """A slot's directory on the host: the sources of its sandbox's writable and later mounted places."""

    root: Path

    @property
    def task(self) -> Path:
        return self.root / "var/task"

    @property
    def opt(self) -> Path:
        return self.root / "opt"

    @property
    def mnt(self) -> Path:
        return self.root / "mnt"

    @property
    def image(self) -> Path:
        """Where a container image is mounted, in slots that run one."""
        return self.root / "image"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def places(self) -> dict[str, Path]:
        """What differs between sandboxes of a runtime: places in the sandbox and what is seen there."""
        return {
            "/var/task": self.task,
            "/opt": self.opt,
            "/mnt": self.mnt,
            "/tmp": self.tmp,
            "/etc/passwd": self.root / "passwd",
        }

    def make(self, uid: int) -> None:
        for name in _DIRECTORIES:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "passwd").write_text(
            f"root:x:0:0:root:/root:/sbin/nologin\n{USER}:x:{uid}:{uid}::/home/{USER}:/sbin/nologin\n"
        )

    def remove(self) -> None:
        """Detach all that is mounted here and remove the empty directories. Raises OSError.

        Nothing is ever deleted by walking: what a mount still in place held would be a user's file.
        """
        kernel.detach(self.root)
        # Its making, or an earlier removal, may have been cut short.
        with contextlib.suppress(FileNotFoundError):
            for mount_point in self.mnt.iterdir():
                mount_point.rmdir()
        (self.root / "passwd").unlink(missing_ok=True)
        for directory in (*(self.root / name for name in reversed(_DIRECTORIES)), self.root):
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()


def make_etc(directory: Path) -> None:
    """The /etc of every sandbox: names, certificates and the loader's cache, nothing else of the host."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "passwd").touch()
    (directory / "group").write_text("root:x:0:\n")
    (directory / "hosts").write_text("127.0.0.1 localhost sandbox.localdomain sandbox\n::1 localhost\n")
    # The Amazon DNS server's address, in a VPC and outside.
    (directory / "resolv.conf").write_text("nameserver 169.254.169.253\n")
    (directory / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("ld.so.cache", "ld.so.conf", "mime.types", "services", "protocols"):
        if Path("/etc", name).is_file():
            shutil.copyfile(Path("/etc", name), directory / name)
    for name in ("ssl", "pki", "ca-certificates"):
        if Path("/etc", name).is_dir():
            (directory / name).mkdir()
    (directory / "localtime").symlink_to("/usr/share/zoneinfo/UTC")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox to start. `mounts` maps places in the sandbox to the host's directories, read-only;
    `masked` are directories shown empty. `environment` is all that the first process finds."""

    tree: Tree
    etc: Path
    uid: int
    command: tuple[str, ...]
    mounts: Mapping[str, Path]
    masked: tuple[Path, ...]
    environment: Mapping[str, str]

    def arguments(self, *, seccomp: int, status: int, block: int) -> list[str]:
        """Bubblewrap's arguments up to the command; the descriptors are those of the like-named options."""
        return [*self._namespaces(), *self._root(), *self._places(), *self._process(seccomp, status, block)]

    def fork_server_arguments(self) -> list[str]:
        """Those of a process that makes sandboxes of its copies: the same files, and root's powers to do it."""
        environment = [("--setenv", name, value) for name, value in self.environment.items()]
        return [
            "--die-with-parent",
            *("--cap-add", "ALL"),
            *self._root(),
            *self._places(),
            *("--chdir", "/", "--clearenv"),
            *(part for variable in environment for part in variable),
        ]

    def launch(self) -> list[str]:
        """The command behind the arguments: setpriv, which becomes the interpreter."""
        identity = str(self.uid)
        return [
            "/usr/bin/setpriv",
            f"--reuid={identity}",
            f"--regid={identity}",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
            *self.command,
        ]

    def _namespaces(self) -> Iterator[str]:
        yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup")
        yield from ("--hostname", HOSTNAME, "--die-with-parent", "--cap-drop", "ALL")
        for name in _KEPT_CAPABILITIES:
            yield from ("--cap-add", name)

    def _root(self) -> Iterator[str]:
        yield from ("--ro-bind", "/usr", "/usr")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            path = Path("/", name)
            if path.is_symlink():
                yield from ("--symlink", os.readlink(path), str(path))
            elif path.is_dir():
                yield from ("--ro-bind", str(path), str(path))
        yield from ("--ro-bind", str(self.etc), "/etc")
        yield from ("--ro-bind", str(self.tree.root / "passwd"), "/etc/passwd")
        for name in ("ssl", "pki", "ca-certificates"):
            if (self.etc / name).is_dir():
                yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")
        yield from ("--proc", "/proc", "--dev", "/dev")

    def _places(self) -> Iterator[str]:
        yield from ("--ro-bind", str(self.tree.root / "var"), "/var")
        for place, source in self.mounts.items():
            yield from ("--ro-bind", str(source), place)
        for masked in self.masked:
            yield from ("--tmpfs", str(masked), "--remount-ro", str(masked))
        yield from ("--ro-bind", str(self.tree.opt), "/opt", "--ro-bind", str(self.tree.mnt), "/mnt")
        yield from ("--bind", str(self.tree.tmp), "/tmp", "--remount-ro", "/")

    def _process(self, seccomp: int, status: int, block: int) -> Iterator[str]:
        yield from ("--seccomp", str(seccomp), "--info-fd", str(status), "--block-fd", str(block))
        yield from ("--chdir", "/", "--clearenv")
        for name, value in self.environment.items():
            yield from ("--setenv", name, value)
