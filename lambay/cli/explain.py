"""`lambay explain`: why a function cannot use its file system, and the one thing to change."""

from __future__ import annotations

import argparse
import json
from urllib.parse import urlencode

from lambay.cli.endpoint import add_endpoint, ask, function_named

_MARKS = {"ok": "✓", "failed": "✗", "note": "!", "unknown": "?"}


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("explain", help="say why a function cannot use its file system")
    parser.add_argument(
        "subject",
        metavar="FUNCTION|ARN",
        help="a function (also STACK/RESOURCE), or the id or ARN of an access point or file system",
    )
    parser.add_argument("--json", action="store_true", help="the explanation as one JSON object")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where nothing is in the way, 1 otherwise."""
    subject = function_named(options, options.subject)
    query = urlencode({"arn": subject, "region": options.region})
    told = ask(options, "GET", f"/_lambay/explain?{query}")
    if options.json:
        print(json.dumps(told, indent=2))
    else:
        print(told["subject"])
        for step in told["steps"]:
            print(f"  {_MARKS[step['outcome']]} {step['check']}: {step['sentence']}")
        print(told["cause"] or "Nothing is in the way.")
    return 0 if told["ok"] else 1
