"""`lambay destroy`: delete a stack and all that is in it, beyond what the template retains."""

from __future__ import annotations

import argparse
from pathlib import Path

from lambay.cli.endpoint import CommandError, add_endpoint, client


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("destroy", help="delete a stack and what it made")
    parser.add_argument("stack", help="the stack's name, or the template's file that it was deployed from")
    parser.add_argument(
        "--retain", action="append", default=[], metavar="RESOURCE", help="leave it; repeat it"
    )
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from lambay.cli.deployment import stack_name
    from lambay.cli.progress import Progress

    name = stack_name(Path(options.stack), None) if Path(options.stack).is_file() else options.stack
    cloudformation = client(options, "cloudformation")
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
    progress = Progress(cloudformation, stack, name)
    cloudformation.delete_stack(StackName=stack, RetainResources=options.retain)
    status = progress.follow(Console())
    if status != "DELETE_COMPLETE":
        reasons = "".join(f"\n  {resource}: {reason}" for resource, reason in progress.failures)
        raise CommandError(f"{name} ended in {status}{reasons}")
    return 0
