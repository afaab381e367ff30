"""`python -m lambay.runtime.packages [--all | python3.X… | nodejs]` builds what runtimes bring along."""

from __future__ import annotations

import argparse
import sys

from lambay.runtime.interpreters import RUNTIMES, find
from lambay.runtime.packages import PackagesUnavailable, build, node_sdk

NODE = "nodejs"


def _node() -> int:
    try:
        print(f"{NODE}: {node_sdk.build()}", flush=True)
    except PackagesUnavailable as error:
        print(f"{NODE}: {error}", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lambay.runtime.packages",
        description="Build what Lambda's runtimes bring along: Python's runtime client and boto3, Node.js's AWS SDK.",
    )
    parser.add_argument(
        "runtimes", nargs="*", metavar="python3.X|nodejs", help="default: this interpreter's own version"
    )
    parser.add_argument(
        "--all", action="store_true", help="every version that this host has an interpreter for"
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.runtimes if name not in (*RUNTIMES, NODE)]
    if unknown:
        parser.error(f"runtimes: {', '.join(unknown)} is not one of {', '.join((*RUNTIMES, NODE))}")
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    wanted = RUNTIMES if given.all else given.runtimes or [own]
    failed = 0
    for runtime in wanted:
        if runtime == NODE:
            failed += _node()
            continue
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
