"""The browser's libraries: uPlot, Preact, htm and aws4fetch, pinned by this room's package-lock.json.

`python -m lambay.console` installs them with npm into <environment>/lambay-console; nothing needs the
network later. Without them the console says so, and everything else works.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_PINS = ("package.json", "package-lock.json")
_STAMP = ".pins"

# What the browser may have, by the name that it asks for: nothing else of the packages is served.
LIBRARIES = {
    "aws4fetch.js": "aws4fetch/dist/aws4fetch.esm.mjs",
    "htm.js": "htm/dist/htm.module.js",
    "preact.js": "preact/dist/preact.module.js",
    "preact-hooks.js": "preact/hooks/dist/hooks.module.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
}


def directory() -> Path:
    """Where this installation's libraries lie."""
    return Path(sys.prefix) / "lambay-console"


def built() -> bool:
    """The libraries are there, and are the ones that are pinned."""
    try:
        return (directory() / _STAMP).read_text() == _fingerprint()
    except OSError:
        return False


def build() -> None:
    """Install them unless they are there. Raises CalledProcessError, or FileNotFoundError without npm."""
    if built():
        return
    fresh = directory().with_name(f".{directory().name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in _PINS:
        shutil.copy(_HERE / name, fresh / name)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "ci", *quiet], cwd=fresh, check=True, stdout=subprocess.DEVNULL)
    (fresh / _STAMP).write_text(_fingerprint())
    shutil.rmtree(directory(), ignore_errors=True)
    fresh.rename(directory())


def _fingerprint() -> str:
    return hashlib.sha256(b"\n".join((_HERE / name).read_bytes() for name in _PINS)).hexdigest()
