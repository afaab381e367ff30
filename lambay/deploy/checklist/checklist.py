"""All checks, in the order of the template's lines."""

from __future__ import annotations

from lambay.deploy.checklist import network, permissions, storage, types
from lambay.deploy.checklist.finding import Finding
from lambay.deploy.checklist.stack import Stack
from lambay.deploy.template.reading import read

_CHECKS = (network.check, storage.check, permissions.check, types.check)


def findings(text: str) -> list[Finding]:
    """What is wrong or could be better in a template. Raises AWSError where `text` is none."""
    stack = Stack(read(text))
    return sorted({finding for check in _CHECKS for finding in check(stack)})
