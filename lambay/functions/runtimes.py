"""Which runtime identifiers Lambda knows, which of them still make functions, and which this host can run."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Sequence

from lambay.functions.errors import invalid
from lambay.functions.ports import Fleet
from lambay.runtime import Runtime

# "Lambda runtimes" of the Developer Guide and the Runtime enum of the API model.
SUPPORTED = [
    "nodejs26.x",
    "nodejs24.x",
    "nodejs22.x",
    "nodejs20.x",
    "nodejs18.x",
    "nodejs16.x",
    "python3.15",
    "python3.14",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.9",
    "python3.8",
    "java25",
    "java21",
    "java17",
    "java11",
    "java8.al2",
    "dotnet10",
    "dotnet8",
    "dotnet6",
    "ruby4.0",
    "ruby3.4",
    "ruby3.3",
    "ruby3.2",
    "provided.al2023",
    "provided.al2",
]
DEPRECATED = frozenset(
    [
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "python2.7",
        "python3.6",
        "python3.7",
        "java8",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "go1.x",
        "ruby2.5",
        "ruby2.7",
        "provided",
    ]
)


class Runtimes:
    """What this host can run; it is asked again only about what it could not run before."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._available: set[str] = set()

    async def check(self, runtime: str) -> None:
        """Raises InvalidParameterValueException where a function can't be made with this runtime here."""
        _check_known(runtime)
        if runtime in self._available:
            return
        on_host = await asyncio.to_thread(self._fleet.runtimes)
        self._available = {found.name for found in on_host if found.available}
        _check_available(runtime, on_host)


def _check_known(runtime: str) -> None:
    if runtime in DEPRECATED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in SUPPORTED:
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(SUPPORTED)}] or be a valid ARN"
        )


def _check_available(runtime: str, on_host: Sequence[Runtime]) -> None:
    here = next((found for found in on_host if found.name == runtime), None)
    if here is None or not here.available:
        have = ", ".join(found.name for found in on_host if found.available) or "none"
        reason = here.reason if here is not None else "Lambay has no bootstrap for it yet"
        raise invalid(f"Runtime: {runtime} is not available on this host: {reason}. Available here: {have}.")


def check_architecture(architecture: str) -> None:
    """Raises InvalidParameterValueException where this machine's processor is another one."""
    machine = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    if architecture != machine:
        raise invalid(
            f"Architectures: {architecture} functions can't run on this host, whose processor is {machine}. "
            f"Give Architectures [{machine}] or run Lambay on an {architecture} machine."
        )
