"""Writes docs/coverage.md from the code: which operations of the owned services there are.

.venv/bin/python scripts/write_coverage.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

from lambay.aws import Service
from lambay.deploy import Stacks
from lambay.deploy.types.registry import resource_types
from lambay.deployments import Deployments
from lambay.efs import FileSystems
from lambay.functions import Functions
from lambay.identity import SecurityTokens
from lambay.observe import CloudWatch, Logs

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
SERVICES: tuple[type[Service], ...] = (
    FileSystems,
    Functions,
    Deployments,
    Logs,
    CloudWatch,
    SecurityTokens,
    Stacks,
)

_HEAD = """# Coverage

Made from the code by `scripts/write_coverage.py`; a test keeps it true. An operation of a service of Lambay's own is
complete unless its line says otherwise; one that is absent answers `NotImplementedException` with its name. Every other
service is moto's; see [neighbours.md](neighbours.md).
"""


def page() -> str:
    sections = (line for service in SERVICES for line in _section(service))
    return "\n".join([_HEAD, *sections, *_types()])


def _types() -> Iterator[str]:
    """CloudFormation's resource types, by service."""
    names = sorted(resource_types())
    yield f"## Resource types of CloudFormation: {len(names)}"
    yield ""
    for service in dict.fromkeys(name.rsplit("::", 1)[0] for name in names):
        kinds = [name.rsplit("::", 1)[1] for name in names if name.rsplit("::", 1)[0] == service]
        yield f"- {service}: {', '.join(kinds)}"
    yield ""


def _section(service: type[Service]) -> Iterator[str]:
    model = botocore.session.Session().get_service_model(service.service_name)
    there = {
        name: method for name in model.operation_names if (method := getattr(service, xform_name(name), None))
    }
    absent = [name for name in model.operation_names if name not in there]
    yield f"## {model.metadata['serviceId']}: {len(there)} of {len(model.operation_names)} operations"
    yield ""
    said = {name: text for name in sorted(there) if (text := _said(there[name]))}
    if said:
        yield "| operation | what is said of it |"
        yield "| --- | --- |"
        yield from (f"| {name} | {text} |" for name, text in said.items())
        yield ""
    yield f"{'Also there' if said else 'There'}: {', '.join(sorted(there.keys() - said.keys()))}."
    if absent:
        yield ""
        yield f"Absent: {', '.join(sorted(absent))}."
    yield ""


def _said(method: object) -> str:
    """The first paragraph of the docstring."""
    text = inspect.getdoc(method) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
