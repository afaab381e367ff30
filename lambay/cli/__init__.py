"""The command line: one module a verb."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lambay.cli import (
    clock,
    costs,
    deploy,
    destroy,
    explain,
    fs,
    image,
    invoke,
    logs,
    status,
    top,
    up,
    validate,
    version,
    zone,
)
from lambay.cli.endpoint import CommandError, failure

_VERBS = (
    up,
    status,
    top,
    costs,
    invoke,
    logs,
    explain,
    fs,
    image,
    deploy,
    destroy,
    validate,
    clock,
    zone,
    version,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a failure and 2 for unusable arguments."""
    parser = argparse.ArgumentParser(
        prog="lambay",
        description="AWS Lambda functions on shared Amazon EFS file systems, on your own machines.",
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for verb in _VERBS:
        verb.add_to(verbs)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except CommandError as error:
        print(f"lambay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        said = failure(options, error)
        if said is None:
            raise
        print(f"lambay: {said}", file=sys.stderr)
        return 1
