"""The packages that a Python runtime brings along: Lambda's runtime client, boto3 and what they need.

One directory for each Python version, DIR/python3.X with DIR = <environment>/lambay-runtimes, which sandboxes
see at /var/runtime. `python -m lambay.runtime.packages` builds them for every interpreter that the host has,
or for those named; pip needs the network then, nothing does later.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from lambay.runtime.interpreters import Interpreter

_CURRENT = (
    "awslambdaric==4.2.2",
    "boto3==1.44.5",
    "botocore==1.44.5",
    "jmespath==1.1.0",
    "python-dateutil==2.9.0.post0",
    "s3transfer==0.19.3",
    "simplejson==3.20.2",
    "six==1.17.0",
    "snapshot-restore-py==1.0.0",
    "urllib3==2.8.0",
)
# The last releases that serve these versions.
_PINS = {
    "python3.8": (
        "awslambdaric==2.2.1",
        "boto3==1.37.38",
        "botocore==1.37.38",
        "jmespath==1.0.1",
        "python-dateutil==2.9.0.post0",
        "s3transfer==0.11.5",
        "simplejson==3.20.2",
        "six==1.17.0",
        "urllib3==1.26.20",
    ),
    "python3.9": (
        "awslambdaric==4.0.0",
        "boto3==1.42.97",
        "botocore==1.42.97",
        "jmespath==1.1.0",
        "python-dateutil==2.9.0.post0",
        "s3transfer==0.16.1",
        "simplejson==3.20.2",
        "six==1.17.0",
        "snapshot-restore-py==1.0.0",
        "urllib3==1.26.20",
    ),
}
_STAMP = ".pins"


class PackagesUnavailable(Exception):
    """pip could not get the packages; the text is its last word."""


def directory() -> Path:
    """Where the built runtimes of this installation lie."""
    return Path(sys.prefix) / "lambay-runtimes"


def pins(runtime: str) -> tuple[str, ...]:
    return _PINS.get(runtime, _CURRENT)


def built(runtime: str) -> Path | None:
    """The packages of `runtime`, or None where they were not built or for other pins."""
    target = directory() / runtime
    try:
        return target if (target / _STAMP).read_text() == _fingerprint(runtime) else None
    except OSError:
        return None


def build(interpreter: Interpreter) -> Path:
    """Install the pinned packages unless they are there. Raises PackagesUnavailable."""
    runtime = interpreter.runtime
    ready = built(runtime)
    if ready is not None:
        return ready
    target = directory() / runtime
    fresh = directory() / f".{runtime}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", runtime.removeprefix("python"), "--no-compile"]
    command += ["--implementation", "cp", "--target", str(fresh), "--root-user-action=ignore", *pins(runtime)]
    installed = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if installed.returncode != 0:
        words = installed.stderr.strip().splitlines() or [f"pip ended with status {installed.returncode}"]
        raise PackagesUnavailable(f"the packages of {runtime} cannot be installed: {words[-1]}")
    # A sandbox sees them read-only at /var/runtime: compile for that path, here and now.
    compile_all: list[str | Path] = [interpreter.executable, "-I", "-m", "compileall", "-q", "-j0"]
    compile_all += ["--invalidation-mode", "unchecked-hash", "-d", "/var/runtime", fresh]
    subprocess.run(compile_all, check=True)
    (fresh / _STAMP).write_text(_fingerprint(runtime))
    for path in (fresh, *fresh.rglob("*")):
        os.chmod(path, path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target


def _fingerprint(runtime: str) -> str:
    return hashlib.sha256("\n".join((platform.machine(), *pins(runtime))).encode()).hexdigest()
