"""Which Python interpreters this host has, and what it takes to run one in a sandbox."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"python3\.(\d+)")
# Lambda's identifiers: Lambda Developer Guide, "Lambda runtimes".
RUNTIMES = tuple(f"python3.{minor}" for minor in range(8, 15))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`executable` on the host; `prefix` is the directory tree it needs, `executable` lies below it."""

    runtime: str
    executable: Path
    prefix: Path

    @property
    def in_usr(self) -> bool:
        return self.prefix.is_relative_to("/usr")

    @property
    def sandbox_prefix(self) -> Path:
        """Where a sandbox has it: in place below /usr, which it sees, else at /var/lang as Lambda does."""
        return self.prefix if self.in_usr else Path("/var/lang")

    @property
    def sandbox_executable(self) -> Path:
        return self.sandbox_prefix / self.executable.relative_to(self.prefix)

    @property
    def site_directories(self) -> tuple[Path, ...]:
        """The host's own packages, as a sandbox would see them; functions must not come to rely on them."""
        library = f"lib/{self.runtime}"
        found = (
            self.prefix / library / "site-packages",
            Path("/usr/lib/python3/dist-packages"),
            Path("/usr/local") / library / "dist-packages",
            Path("/usr/local") / library / "site-packages",
        )
        return tuple(
            self.sandbox_prefix / path.relative_to(self.prefix) if path.is_relative_to(self.prefix) else path
            for path in dict.fromkeys(found)
            if path.is_dir()
        )


def find(runtime: str) -> Interpreter | None:
    """The first interpreter on the host that runs and is this version; None where there is none."""
    for executable in _candidates(runtime):
        interpreter = _probe(runtime, executable)
        if interpreter is not None:
            return interpreter
    return None


def _candidates(runtime: str) -> Iterator[Path]:
    version = runtime.removeprefix("python")
    home = Path(os.environ.get("HOME", "/"))
    yield Path(sys.base_prefix) / "bin" / runtime
    for root, pattern in (
        (Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions", f"{version}.*"),
        (
            Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python")),
            f"cpython-{version}.*",
        ),
        (Path("/opt"), "*"),
    ):
        for prefix in sorted(root.glob(pattern), reverse=True):
            yield prefix / "bin" / runtime
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/local/bin", "/usr/bin"):
        if directory:
            yield Path(directory) / runtime


def _probe(runtime: str, executable: Path) -> Interpreter | None:
    if not os.access(executable, os.X_OK):
        return None
    question = "import sys; print('python%d.%d' % sys.version_info[:2]); print(sys.base_prefix)"
    try:
        answer = subprocess.run(
            [executable, "-I", "-S", "-c", question], capture_output=True, text=True, timeout=10, check=True
        ).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return None
    prefix = Path(os.path.realpath(answer[1]))
    real = prefix / "bin" / runtime
    if answer[0] != runtime or not real.exists():
        return None
    return Interpreter(runtime, real, prefix)


def is_python(runtime: str) -> bool:
    return _NAME.fullmatch(runtime) is not None
