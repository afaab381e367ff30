"""`lambay clock`: the server's time, and how to let a month pass in a moment."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from lambay.cli.endpoint import add_endpoint, ask
from lambay.cli.spans import seconds

PAGE = "/_lambay/clock"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("clock", help="show the server's clock, or move it forward")
    actions = parser.add_subparsers(metavar="ACTION")
    advance = actions.add_parser("advance", help="let time pass: 90s, 10m, 6h, 30d")
    advance.add_argument("span", metavar="SPAN", help="a number with s, m, h or d")
    add_endpoint(advance)
    advance.set_defaults(run=_advance)
    add_endpoint(parser)
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    _print(ask(options, "GET", PAGE))
    return 0


def _advance(options: argparse.Namespace) -> int:
    _print(ask(options, "POST", PAGE, {"advance_seconds": seconds("SPAN", options.span)}))
    return 0


def _print(told: dict[str, Any]) -> None:
    ahead = timedelta(seconds=round(told["ahead_seconds"]))
    print(f"{told['now']}  {f'{ahead} ahead of the host' if ahead else 'as the host'}")
