"""`lambay zone`: take an Availability Zone's mount targets down, as an outage would, and up again."""

from __future__ import annotations

import argparse

from lambay.cli.endpoint import add_endpoint, ask


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "zone", help="take an Availability Zone's mount targets down or up", description=__doc__
    )
    parser.add_argument("state", choices=("down", "up"))
    parser.add_argument("zone", help="the zone's name, such as us-east-1a")
    add_endpoint(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    ask(options, "POST", f"/_lambay/zones/{options.zone}", {"state": options.state})
    print(f"{options.zone} is {options.state}")
    return 0
