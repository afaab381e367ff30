"""The AWS SDK for JavaScript v3 for Node.js functions, which AWS's runtimes bring along.

All of its clients would be some hundred MB; these are those that functions of such file systems use. They are
installed on demand, `python -m lambay.runtime.packages nodejs`, with npm, and seen at /var/node_modules, where both
`require` and `import` look.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from lambay.runtime.packages import PackagesUnavailable, directory

CLIENTS = {
    "client-cloudwatch": "3.1162.0",
    "client-cloudwatch-logs": "3.1169.0",
    "client-dynamodb": "3.1162.0",
    "client-ec2": "3.1169.0",
    "client-efs": "3.1141.0",
    "client-eventbridge": "3.1169.0",
    "client-kms": "3.1162.0",
    "client-lambda": "3.1162.0",
    "client-s3": "3.1169.0",
    "client-secrets-manager": "3.1162.0",
    "client-sns": "3.1169.0",
    "client-sqs": "3.1169.0",
    "client-ssm": "3.1169.0",
    "client-sts": "3.1169.0",
    "lib-dynamodb": "3.1162.0",
    "lib-storage": "3.1169.0",
    "s3-request-presigner": "3.1162.0",
}
_STAMP = ".pins"


def built() -> Path | None:
    """The directory of modules, or None where it was not installed or for other pins."""
    try:
        return _target() / "node_modules" if (_target() / _STAMP).read_text() == _fingerprint() else None
    except OSError:
        return None


def build() -> Path:
    """Install what is pinned unless it is there; npm needs the network. Raises PackagesUnavailable."""
    ready = built()
    if ready is not None:
        return ready
    npm = shutil.which("npm")
    if npm is None:
        raise PackagesUnavailable("npm is missing; install Node.js with npm")
    fresh = directory() / ".nodejs.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    command = [npm, "install", "--prefix", str(fresh), "--save-exact", "--omit=dev", "--ignore-scripts"]
    command += ["--no-audit", "--no-fund", "--loglevel=error", *_pins()]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode != 0:
        words = installed.stderr.strip().splitlines() or [f"npm ended with status {installed.returncode}"]
        raise PackagesUnavailable(f"the AWS SDK for JavaScript cannot be installed: {words[-1]}")
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    (fresh / _STAMP).write_text(_fingerprint())
    shutil.rmtree(_target(), ignore_errors=True)
    fresh.rename(_target())
    return _target() / "node_modules"


def _pins() -> list[str]:
    return [f"@aws-sdk/{client}@{version}" for client, version in CLIENTS.items()]


def _target() -> Path:
    return directory() / "nodejs"


def _fingerprint() -> str:
    return hashlib.sha256("\n".join(_pins()).encode()).hexdigest()
