"""`lambay deploy`: bring up a template, or bring its stack up to date."""

from __future__ import annotations

import argparse
from pathlib import Path

from lambay.cli.endpoint import add_endpoint


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("deploy", help="bring up a CloudFormation or SAM template, or update its stack")
    parser.add_argument("template", type=Path, help="a template's file, YAML or JSON")
    parser.add_argument("--stack-name", help="default: the name of the template's directory")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a template parameter; repeat it",
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="a stack tag; repeat it"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--confirm", action="store_true", help="ask before anything is changed")
    parser.add_argument(
        "--json", action="store_true", help="the outputs as JSON on stdout, the rest on stderr"
    )
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from lambay.cli.deployment import deploy

    return deploy(options, Console(stderr=options.json))
