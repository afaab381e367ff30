"""`python -m lambay.runtime.packages [--all | python3.X…]` builds the packages of Python runtimes."""

from __future__ import annotations

import argparse
import sys

from lambay.runtime.interpreters import RUNTIMES, find
from lambay.runtime.packages import PackagesUnavailable, build


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lambay.runtime.packages",
        description="Build what Lambda's Python runtimes bring along: the runtime client and boto3.",
    )
    parser.add_argument(
        "runtimes", nargs="*", metavar="python3.X", help="default: this interpreter's own version"
    )
    parser.add_argument(
        "--all", action="store_true", help="every version that this host has an interpreter for"
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.runtimes if name not in RUNTIMES]
    if unknown:
        parser.error(f"runtimes: {', '.join(unknown)} is not one of {', '.join(RUNTIMES)}")
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    wanted = RUNTIMES if given.all else given.runtimes or [own]
    failed = 0
    for runtime in wanted:
        interpreter = find(runtime)
        if interpreter is None:
            failed += not given.all
            print(f"{runtime}: no interpreter on this host")
            continue
        try:
            print(f"{runtime}: {build(interpreter)}, run by {interpreter.executable}", flush=True)
        except PackagesUnavailable as error:
            failed += 1
            print(f"{runtime}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
