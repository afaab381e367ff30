"""The work of `lambay validate`: the checklist and cfn-lint."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lambay.aws import AWSError
from lambay.cli.endpoint import CommandError
from lambay.deploy.checklist import Finding, findings
from lambay.deploy.checklist.finding import Level

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_LEVELS: dict[str, Level] = {"error": "error", "warning": "warning", "informational": "note"}
# The checklist says the same with its fix.
_SAID_BETTER = {"E3004": "LB107", "E3006": "LB304"}


def validate(options: argparse.Namespace) -> int:
    """The exit status: 1 where a finding is an error."""
    console = Console()
    failed = False
    everything = []
    for template in options.template:
        found = check(template, options.region)
        failed |= any(each.level == "error" or (options.strict and each.level == "warning") for each in found)
        if options.json:
            everything += [{"template": str(template), **asdict(each)} for each in found]
        else:
            _show(template, found, console)
    if options.json:
        print(json.dumps(everything, indent=2))
    return 1 if failed else 0


def check(template: Path, region: str) -> list[Finding]:
    """All findings of a template, by line. Raises CommandError where it can't be read."""
    try:
        text = template.read_text()
        own = findings(text)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{template}: {error}") from None
    except AWSError as error:
        return [Finding(1, "LB001", "error", error.message)]
    said = {each.code for each in own}
    return sorted([*own, *_linted(text, region, said)])


def _linted(text: str, region: str, said: set[str]) -> Iterable[Finding]:
    from cfnlint.api import lint
    from cfnlint.config import ManualArgs

    for match in lint(text, config=ManualArgs(regions=[region])):
        if _SAID_BETTER.get(match.rule.id) in said:
            continue
        yield Finding(
            match.linenumber or 1, match.rule.id, _LEVELS.get(match.rule.severity, "warning"), match.message
        )


def _show(template: Path, found: list[Finding], console: Console) -> None:
    for each in found:
        line = Text(f"{template}:{each.line}: ")
        line.append(f"{each.level} {each.code}", _COLOURS[each.level])
        line.append(f"  {each.message}")
        if each.fix:
            line.append(f"\n    {each.fix}", "dim")
        console.print(line, soft_wrap=True)
    counts = {level: sum(each.level == level for each in found) for level in _COLOURS}
    words = ", ".join(
        f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count
    )
    console.print(Text(f"{template}: {words or 'nothing to say against it'}", "bold"), soft_wrap=True)
