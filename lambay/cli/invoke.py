"""`lambay invoke`: call a function and show its answer and its log."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

from lambay.cli.endpoint import CommandError, add_endpoint, client, function_named


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("invoke", help="call a function; its answer on stdout, its log on stderr")
    parser.add_argument(
        "function",
        help="name or ARN, with :QUALIFIER for a version or alias; or STACK/RESOURCE",
    )
    parser.add_argument("event", nargs="?", default="{}", help="JSON, @FILE, or - for stdin (default {})")
    parser.add_argument(
        "--async", dest="event_type", action="store_true", help="hand it to the queue and return"
    )
    parser.add_argument("--quiet", action="store_true", help="do not show the log")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    answer = client(options, "lambda").invoke(
        FunctionName=function_named(options, options.function),
        Payload=_event(options.event),
        InvocationType="Event" if options.event_type else "RequestResponse",
        LogType="None" if options.event_type or options.quiet else "Tail",
    )
    if "LogResult" in answer:
        sys.stderr.write(base64.b64decode(answer["LogResult"]).decode(errors="replace"))
        sys.stderr.flush()
    payload = answer["Payload"].read()
    if payload:
        sys.stdout.buffer.write(payload + b"\n")
    return 1 if answer.get("FunctionError") else 0


def _event(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise CommandError(f"event: {text[1:]}: {error.strerror}") from None
    return text.encode()
