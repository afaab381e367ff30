"""The manual and the code say the same."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from lambay import cli
from lambay.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below `heading`, without its own head."""
    text = (DOCS / page).read_text()
    below = text[text.index(heading) :]
    rows = [line.strip("| \n").split(" | ") for line in below.splitlines() if line.startswith("|")]
    end = next((n for n, line in enumerate(below.splitlines()[1:]) if line.startswith("## ")), None)
    if end is not None:
        rows = [
            line.strip("| \n").split(" | ") for line in below.splitlines()[: end + 1] if line.startswith("|")
        ]
    return rows[2:]


def test_every_setting_is_in_the_manual_with_its_variable_and_default() -> None:
    def shown(default: object) -> str:
        return (
            {True: "yes", False: "no"}.get(default, str(default))
            if isinstance(default, bool)
            else str(default)
        )

    in_code = {
        (knob.name, f"`{knob.metadata['env']}`", f"`{shown(knob.default)}`") for knob in fields(Settings)
    }
    in_manual = {(row[0], row[1], row[2]) for row in table("server.md", "## Settings")}

    assert in_manual == in_code


def test_every_verb_of_the_command_line_is_in_the_manual() -> None:
    in_code = {verb.__name__.rsplit(".", 1)[1] for verb in cli._VERBS}
    in_manual = set(re.findall(r"^\| `lambay (\w+)", (DOCS / "command-line.md").read_text(), re.MULTILINE))

    assert in_manual == in_code


def test_the_coverage_page_is_what_the_code_says() -> None:
    writer = script("write_coverage")

    assert (DOCS / "coverage.md").read_text() == writer.page()


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text())

    assert [link for link in links if not (DOCS / link).exists()] == []


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
