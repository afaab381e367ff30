"""`lambay validate`: what is wrong with a template, before anything is made of it. Needs no server."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "validate", help="check a template: its form, and what would stop its functions"
    )
    parser.add_argument("template", type=Path, nargs="+", help="a template's file, YAML or JSON")
    parser.add_argument(
        "--region", default="us-east-1", help="Region whose types count (default %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="fail for warnings too")
    parser.add_argument("--json", action="store_true", help="findings as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from lambay.cli.validation import validate

    return validate(options)
