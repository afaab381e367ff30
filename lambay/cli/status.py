"""`lambay status`: what runs, what is stored, and what is not enforced yet."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lambay.cli.endpoint import add_endpoint, ask


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("status", help="what runs and what is stored")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    status = ask(options, "GET", "/_lambay/status")
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        _show(status, "")
    return 0


def _show(value: dict[str, Any], indent: str) -> None:
    """Names on the left, values on the right, nested values indented below their name."""
    width = max((len(_words(name)) for name in value), default=0)
    for name, item in value.items():
        if isinstance(item, dict) and item:
            print(f"{indent}{_words(name)}")
            _show(item, indent + "  ")
        elif isinstance(item, list) and item:
            print(f"{indent}{_words(name)}")
            for entry in item:
                text = (
                    ", ".join(f"{_words(k)} {v}" for k, v in entry.items())
                    if isinstance(entry, dict)
                    else entry
                )
                print(f"{indent}  - {text}")
        else:
            print(f"{indent}{_words(name):<{width}}  {_plain(item)}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plain(item: object) -> str:
    if item is None or item in ([], {}):
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return str(item)
