"""Which Node.js versions this host has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lambay.runtime.interpreters import Interpreter

# Lambda's identifiers: Lambda Developer Guide, "Lambda runtimes".
RUNTIMES = tuple(f"nodejs{version}.x" for version in (18, 20, 22, 24))


def major(runtime: str) -> str:
    return runtime.removeprefix("nodejs").removesuffix(".x")


def find(runtime: str) -> Interpreter | None:
    """The first `node` on the host that is this major version; None where there is none."""
    for executable in _candidates(major(runtime)):
        if os.access(executable, os.X_OK) and _version(executable) == major(runtime):
            real = Path(os.path.realpath(executable))
            return Interpreter(runtime, real, real.parent.parent)
    return None


def _candidates(version: str) -> Iterator[Path]:
    home = Path(os.environ.get("HOME", "/"))
    for root, pattern in (
        (Path(os.environ.get("NVM_DIR", home / ".nvm")) / "versions/node", f"v{version}.*"),
        (Path("/opt"), "*"),
    ):
        for prefix in sorted(root.glob(pattern), reverse=True):
            yield prefix / "bin/node"
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/local/bin", "/usr/bin"):
        if directory:
            yield Path(directory) / "node"


def _version(executable: Path) -> str:
    try:
        answer = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.removeprefix("v").partition(".")[0]
