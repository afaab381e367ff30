"""What a resource waits for: DependsOn and everything it refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lambay.deploy.template.errors import invalid
from lambay.deploy.template.functions import substitutes


def references(value: Any) -> Iterator[tuple[str, str | None]]:
    """Each name that `value` refers to: with the attribute for Fn::GetAtt, with None for Ref."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
        return
    if not isinstance(value, dict):
        return
    if len(value) == 1:
        ((function, given),) = value.items()
        if function == "Ref" and isinstance(given, str):
            yield given, None
            return
        if function == "Fn::GetAtt":
            parts = list(given.partition(".")[::2]) if isinstance(given, str) else given
            if isinstance(parts, list) and len(parts) >= 2 and isinstance(parts[0], str):
                whole = all(isinstance(part, str) for part in parts[1:])
                yield parts[0], ".".join(parts[1:]) if whole else ""
                yield from references(parts[1:])
                return
        if function == "Fn::Sub":
            yield from _of_sub(given)
            return
    for item in value.values():
        yield from references(item)


def _of_sub(given: Any) -> Iterator[tuple[str, str | None]]:
    template, variables = given if isinstance(given, list) and len(given) == 2 else (given, {})
    if not isinstance(template, str) or not isinstance(variables, dict):
        return
    yield from references(list(variables.values()))
    for name in substitutes(template):
        if name in variables:
            continue
        resource, dot, attribute = name.partition(".")
        yield resource, attribute if dot else None


def order(dependencies: Mapping[str, frozenset[str]]) -> list[str]:
    """The names so that each comes after what it depends on; otherwise as given.

    Raises AWSError ValidationError with every name that is in a circle, as CloudFormation words it.
    """
    done: dict[str, None] = {}
    waiting = dict(dependencies)
    while waiting:
        ready = [
            name
            for name, needs in waiting.items()
            if all(need in done or need not in dependencies for need in needs)
        ]
        if not ready:
            raise invalid(f"Circular dependency between resources: [{', '.join(circle(waiting))}]")
        for name in ready:
            done[name] = None
            del waiting[name]
    return list(done)


def circle(dependencies: Mapping[str, frozenset[str]]) -> list[str]:
    """The names that cannot be ordered: in a circle or waiting for one, without those that only wait."""
    remaining = {
        name: {need for need in needs if need in dependencies} for name, needs in dependencies.items()
    }
    while True:
        needed = set().union(*remaining.values()) if remaining else set()
        idle = [name for name in remaining if name not in needed or not remaining[name]]
        if not idle:
            return sorted(remaining)
        for name in idle:
            del remaining[name]
        remaining = {name: {need for need in needs if need in remaining} for name, needs in remaining.items()}
