"""A fleet on a throwaway data directory, functions written as text, and a file server made of bind mounts."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import textwrap
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from lambay.clock import Clock
from lambay.fsd import FsdError, Mount, Mounted
from lambay.runtime import Credentials, EnvironmentSpec, Invocation, LocalFleet, Outcome
from lambay.settings import Settings

_numbers = itertools.count(1)


class BindMounts:
    """Stands in for fsd where a test is about environments: each mount is a bind mount of the volume."""

    def __init__(self) -> None:
        self.mounts: dict[str, Mount] = {}
        self.volumes: dict[str, Path] = {}
        self.refusal: FsdError | None = None
        self._listeners: list[Callable[[Sequence[str]], None]] = []

    def on_death(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._listeners.append(listener)

    async def open_volume(self, volume: str, backing: Path) -> None:
        self.volumes[volume] = backing

    async def mount(self, mount: Mount) -> Mounted:
        if self.refusal is not None:
            raise self.refusal
        backing = self.volumes[mount.volume]
        await asyncio.to_thread(_run, "mount", "--bind", str(backing), mount.mountpoint)
        self.mounts[mount.mount] = mount
        return Mounted(mount.mount, "0:0", 0)

    async def unmount(self, mount: str) -> None:
        gone = self.mounts.pop(mount, None)
        if gone is not None:
            await asyncio.to_thread(_run, "umount", "-l", gone.mountpoint)

    def die(self) -> None:
        lost = list(self.mounts)
        for mount in lost:
            _run("umount", "-l", self.mounts.pop(mount).mountpoint)
        for listener in self._listeners:
            listener(lost)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@dataclass
class Bench:
    """A running fleet and what came out of it."""

    fleet: LocalFleet
    clock: Clock
    settings: Settings
    file_server: BindMounts
    directory: Path
    logs: dict[str, list[str]] = field(default_factory=dict)

    def function(self, source: str, **changes: Any) -> EnvironmentSpec:
        """A function whose module `app` is `source`; its handler is `app.handler`."""
        number = next(_numbers)
        code = self.directory / f"code-{number}"
        code.mkdir()
        (code / "app.py").write_text(textwrap.dedent(source))
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:f{number}"
        spec = EnvironmentSpec(
            key=f"{arn}:$LATEST#1",
            account="000000000000",
            region="us-east-1",
            function_name=f"f{number}",
            version="$LATEST",
            function_arn=arn,
            handler="app.handler",
            runtime="python3.11",
            memory_mb=512,
            timeout_s=5,
            code=code,
            role_arn="arn:aws:iam::000000000000:role/r",
        )
        return replace(spec, **changes)

    async def invoke(self, spec: EnvironmentSpec, event: Any = None, **fields: Any) -> Outcome:
        environment = await self.fleet.acquire(spec)
        try:
            return await self.fleet.invoke(environment, invocation(spec, event, **fields))
        finally:
            self.fleet.release(environment)

    async def answer(self, spec: EnvironmentSpec, event: Any = None) -> Any:
        """What the function returns; fails the test where it fails."""
        outcome = await self.invoke(spec, event)
        assert outcome.error is None, (outcome.payload, await self.log(spec))
        return json.loads(outcome.payload)

    async def log(self, spec: EnvironmentSpec) -> str:
        await self.fleet.flush_logs()
        return "".join(self.logs.get(spec.group, []))


def invocation(spec: EnvironmentSpec, event: Any = None, **fields: Any) -> Invocation:
    return Invocation(
        request_id=str(uuid.uuid4()),
        event=json.dumps(event).encode(),
        invoked_arn=spec.function_arn,
        **fields,
    )


class NoEndpoint(asyncio.Protocol):
    """Answers every connection of a sandbox to Lambay's endpoint with one line."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlambay")
        stream.close()


async def build(directory: Path, *, file_server: Any = None, **knobs: Any) -> Bench:
    settings = Settings(data_dir=directory / "data", **{"warm_slots": 1, **knobs})
    settings.data_dir.mkdir(exist_ok=True)
    clock = Clock()
    file_server = file_server or BindMounts()
    bench: Bench

    async def credentials(spec: EnvironmentSpec) -> Credentials:
        return Credentials("ASIA0", "secret", "token")

    async def write_log(
        account: str, region: str, group: str, stream: str, events: Sequence[tuple[int, str]]
    ) -> None:
        bench.logs.setdefault(group, []).extend(text for _, text in events)

    async def serve(sock: Any) -> Any:
        return await asyncio.get_running_loop().create_server(NoEndpoint, sock=sock)

    fleet = LocalFleet(settings, clock, file_server, credentials, write_log, serve)
    bench = Bench(fleet, clock, settings, file_server, directory)
    await fleet.start()
    return bench
