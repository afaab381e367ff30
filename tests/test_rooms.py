"""The arrows of the house go downwards: which room may import which is said here once, and held."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lambay"

# The words that every room shares, and the store and clock beneath them all.
LEAVES = {
    "aws",
    "causes",
    "clock",
    "host",
    "http",
    "journal",
    "mount_source",
    "pages",
    "pidfd",
    "settings",
    "spans",
    "store",
    "tls",
}
ROOMS = {
    "fsd": LEAVES,
    "runtime": LEAVES | {"fsd"},
    "neighbours": LEAVES,
    "identity": LEAVES,
    "network": LEAVES | {"neighbours", "runtime"},
    "efs": LEAVES | {"fsd"},
    "functions": LEAVES | {"fsd", "runtime"},
    "deployments": LEAVES,
    "observe": LEAVES | {"fsd", "runtime"},
    "deploy": LEAVES,
    "registry": LEAVES,
    "nfs": LEAVES | {"fsd"},
    "explain": LEAVES,
    "console": LEAVES | {"efs", "fsd"},
    "api": LEAVES,
    # What a command line needs beside the API: how to start a server, how a template is read, and an image.
    "cli": LEAVES | {"server", "deploy", "runtime"},
}


def imports(room: str) -> Iterator[tuple[str, str]]:
    """Each module of a room with each other room that it imports, also where only types are meant."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = (
                    [f"lambay.{each.name}" for each in node.names]
                    if node.module == "lambay"
                    else [node.module]
                )
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            else:
                continue
            for name in names:
                parts = name.split(".")
                if parts[0] == "lambay" and len(parts) > 1 and parts[1] != room and parts[1] != "__version__":
                    yield str(path.relative_to(PACKAGE)), parts[1]


def test_every_room_is_known_here() -> None:
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert found == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    upwards = [f"{module} imports {other}" for module, other in imports(room) if other not in ROOMS[room]]

    assert upwards == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_says_what_lives_there(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))

    assert docstring
