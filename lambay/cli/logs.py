"""`lambay logs`: the log of a function or of any log group, and `-f` to follow it."""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from lambay.cli.endpoint import add_endpoint, client, lines
from lambay.cli.spans import seconds


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("logs", help="show or follow a log group")
    parser.add_argument("group", help="function name, or a log group's name with its slashes")
    parser.add_argument("-f", "--follow", action="store_true", help="keep showing what arrives")
    parser.add_argument("--since", default="1h", help="how far back: 90s, 10m, 6h, 2d (default %(default)s)")
    parser.add_argument("--filter", default="", help="a CloudWatch Logs filter pattern")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    group = options.group if "/" in options.group else f"/aws/lambda/{options.group}"
    since = int((time.time() - seconds("--since", options.since)) * 1000)
    if options.follow:
        query = urlencode(
            {"group": group, "since": since, "filter": options.filter, "region": options.region}
        )
        for event in lines(options, f"/_lambay/logs/tail?{query}"):
            _print(event, options.json)
        return 0
    pages = (
        client(options, "logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, startTime=since, filterPattern=options.filter)
    )
    for page in pages:
        for event in page["events"]:
            _print(event, options.json)
    return 0


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    when = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    print(f"{when}Z {event['message'].rstrip()}", flush=True)
