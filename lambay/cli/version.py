"""`lambay version`: the version of this installation."""

from __future__ import annotations

import argparse
import json
import platform


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("version", help="print the version")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from lambay import __version__

    if options.json:
        print(
            json.dumps(
                {"version": __version__, "python": platform.python_version(), "kernel": platform.release()}
            )
        )
    else:
        print(f"Lambay {__version__}")
    return 0
