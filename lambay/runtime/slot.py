"""A slot: one sandbox that is started before it is known what for.

The host directory RUN_DIR/slots/N is a mount point with shared propagation; whatever is mounted below it
later (code at var/task, layers at opt, the file system at mnt/NAME, a larger tmp) appears in the sandbox,
which runs already. Claiming a slot is those mounts and one message to the interpreter that waits in it. A
slot serves one execution environment and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import msgspec

from lambay import pidfd
from lambay.runtime import image_root, kernel
from lambay.runtime.cgroups import ControlGroup, ControlGroups
from lambay.runtime.completion import completed
from lambay.runtime.first_process import FirstProcess, Surroundings, start_alone
from lambay.runtime.fork_servers import ForkServers
from lambay.runtime.images import Image
from lambay.runtime.languages import BOOTSTRAPS, RUNTIME_API_PORT, Language
from lambay.runtime.runtime_api import Door, RuntimeCalls
from lambay.runtime.sandbox import Sandbox, Tree
from lambay.runtime.scratch import Scratch
from lambay.runtime.spawner import Spawner
from lambay.runtime.spec import Closer, SandboxFailure
from lambay.runtime.wiring import Lifeline, Link, Mounted, MountTargets, Placement, Wiring

ENDPOINT_PORT = 4566
DEFAULT_SCRATCH_MB = 512
_END_SECONDS = 30.0
# In its own namespace: bubblewrap is 1, its command comes next.
_RUNTIME_PID = "2"

_log = logging.getLogger("lambay.runtime")

ServeEndpoint = Callable[[socket.socket], Awaitable[Closer]]


@dataclass(frozen=True, slots=True)
class Host:
    """What every slot of a fleet is made with."""

    run_dir: Path
    etc: Path
    seccomp: Path
    control_groups: ControlGroups
    scratch: Scratch
    spawner: Spawner
    fork_servers: ForkServers
    forks: bool
    """False: only container images, which have no interpreter for it, are run by copies of a fork server."""
    skeleton: Path
    serve_endpoint: ServeEndpoint
    threads: ThreadPoolExecutor
    """For system calls that take their time: theirs alone, so that no other room's keep them waiting."""
    wiring: Wiring | None = None
    """None: nothing is reached but the slot's own loopback."""

    async def aside(self, work: Callable[..., None], *arguments: object) -> None:
        """Run blocking work in a thread."""
        await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)


class _Unclaimed:
    """Who answers the Runtime API of a slot before it has a function: nobody has any business there."""

    def next(self, door: Door) -> bool:
        return False

    def respond(self, request_id: str, payload: bytes) -> bool:
        return False

    def respond_too_large(self, request_id: str, size: int) -> bool:
        return False

    def fail(self, request_id: str, payload: bytes, error_type: str) -> bool:
        return False

    def fail_init(self, payload: bytes, error_type: str) -> bool:
        return False

    def stream(self, request_id: str, content_type: str, door: Door) -> None:
        return None

    def truncated(self) -> None:
        return None

    def running(self) -> str | None:
        return None

    def left(self, door: Door) -> None:
        return None

    def call_extensions(self, door: Door, route: str, headers: Mapping[str, str], body: bytes) -> None:
        door.answer(HTTPStatus.FORBIDDEN, b"{}")


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of a slot for the next one of its environment: its uid, and its /tmp by a descriptor."""

    uid: int
    scratch: int


@dataclass(eq=False, slots=True)
class Slot:
    """Made by `Slot.start`; every method belongs to the event loop's thread."""

    number: int
    uid: int
    language: Language
    tree: Tree
    group: ControlGroup
    _host: Host
    image: Image | None = None
    calls: RuntimeCalls = field(default_factory=_Unclaimed)
    output: int = -1
    warm: bool = False
    network: int = -1
    """A descriptor of its network namespace, until it ends."""
    _first: FirstProcess | None = None
    _views: dict[str, int] = field(default_factory=dict)
    _channel: socket.socket | None = None
    _servers: list[Closer] = field(default_factory=list)
    _exited: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: bool = False
    _ended: bool = False
    _link: asyncio.Task[Link] | None = None
    _scratch: int | None = None

    @classmethod
    async def start(
        cls,
        host: Host,
        number: int,
        uid: int,
        language: Language,
        image: Image | None = None,
        scratch: int | None = None,
    ) -> Slot:
        """A running sandbox whose interpreter is on its way; its /tmp is `scratch` or empty. Raises SandboxFailure."""
        tree = Tree(host.run_dir / "slots" / str(number))
        try:
            group = host.control_groups.make(f"slot-{number}")
        except OSError as error:
            raise SandboxFailure(f"control group of slot {number}: {error}") from error
        slot = cls(number, uid, language, tree, group, host, image, _scratch=scratch)
        try:
            await host.aside(slot._prepare)
            await slot._launch()
        except BaseException as error:
            await slot.end()
            if isinstance(error, OSError):
                raise SandboxFailure(f"slot {number}: {error}") from error
            raise
        return slot

    @property
    def exited(self) -> asyncio.Future[int]:
        """Resolves to the exit status of the sandbox's first process: 128 and the number, if by a signal."""
        return self._exited

    async def ready(self) -> None:
        """Return once the interpreter waits for its function, or has ended."""
        await self._ready.wait()

    def mount_code(self, code: Path, layers: Sequence[Path]) -> None:
        """Raises OSError."""
        kernel.bind_read_only(code, self.tree.task)
        if len(layers) == 1:
            kernel.bind_read_only(layers[0], self.tree.opt)
        elif layers:
            kernel.mount_overlay(tuple(layers), self.tree.opt)

    async def resize_scratch(self, megabytes: int) -> None:
        """Give /tmp the environment's size; a former sandbox's has it."""
        if self._scratch is None and megabytes != DEFAULT_SCRATCH_MB:
            mount = self._host.scratch.mount
            await completed(self._host.aside(mount, self.tree.tmp, megabytes, self.uid, self.uid))

    async def join(self, placement: Placement | None) -> None:
        """Be part of a VPC, or of the internet. Raises SandboxFailure."""
        if self._link is None:
            return
        try:
            link = await asyncio.shield(self._link)
        except OSError as error:
            raise SandboxFailure(f"slot {self.number}: network: {error}") from error
        await link.join(placement)

    async def settle(self) -> None:
        """Return once the network is as the API has acknowledged it."""
        if self._link is not None and self._link.done():
            await self._link.result().settle()

    async def open_lifeline(self, targets: MountTargets, mounted: Mounted, seconds: float) -> Lifeline | None:
        """Raises MountTimeout, MountConnectivityFailure."""
        if self._link is None:
            return None
        return await (await self._link).open_lifeline(targets, mounted, seconds)

    def run(self, environment: Mapping[str, str], extensions_output: int | None = None) -> None:
        """Give the waiting interpreter its function; it may call the Runtime API from now on.

        `extensions_output` is a pipe for what external extensions write, if not into the function's own.
        """
        if self._channel is None:
            return
        message = msgspec.json.encode({"environment": environment, **self._executed(environment)})
        # At most 4 KiB of user variables and some of Lambda's: always within the socket's buffer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            descriptors = [] if extensions_output is None else [extensions_output]
            sent = socket.send_fds(self._channel, [message], descriptors)
            self._channel.sendall(message[sent:])
            self._channel.shutdown(socket.SHUT_WR)
        # An interpreter still on its way will find it there, but must find somebody to greet as well.
        self._sent = True
        if self._ready.is_set():
            self._hang_up()

    def _executed(self, environment: Mapping[str, str]) -> dict[str, object]:
        image = self.image
        if image is None:
            return {"commands": self.language.executes(environment), "directory": "/var/task"}
        command = [*image.entry_point, *image.command]
        return {"commands": [command] if command else [], "directory": image.working_directory or "/"}

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of the sandbox's loopback. Raises OSError."""
        made = await self._host.spawner.socket(self.network)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=made)
        except BaseException:
            made.close()
            raise

    def kill_runtime(self) -> None:
        """SIGKILL to the function's own process and its children; extensions outlive it."""
        family = self._family()
        doomed = {pid for pid, (_, inside) in family.items() if inside == _RUNTIME_PID}
        while more := {pid for pid, (parent, _) in family.items() if parent in doomed} - doomed:
            doomed |= more
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def beside_the_runtime(self) -> list[int]:
        """The host's pids of what the sandbox's process 1 has as children beside the runtime: extensions."""
        first = self._first.pid if self._first is not None else -1
        family = self._family().items()
        return [pid for pid, (parent, inside) in family if parent == first and inside != _RUNTIME_PID]

    def _family(self) -> dict[int, tuple[int, str]]:
        """By the host's pid of each process: its parent's, and its own within the sandbox."""
        found = {}
        for pid in self.group.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                fields = dict(line.partition(":\t")[::2] for line in status.splitlines())
                found[pid] = int(fields["PPid"]), fields["NSpid"].split()[-1]
        return found

    async def ended(self, pids: Sequence[int], seconds: float) -> None:
        """Return once these processes have ended, or after that time."""
        loop = asyncio.get_running_loop()
        ends: list[asyncio.Future[None]] = []
        watched: list[int] = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                watched.append(os.pidfd_open(pid))
                ends.append(loop.create_future())
                loop.add_reader(watched[-1], _resolve, ends[-1])
        if ends:
            await asyncio.wait(ends, timeout=seconds)
        for descriptor in watched:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def kill(self) -> None:
        """SIGKILL to all that runs here."""
        try:
            self.group.kill()
        except OSError as error:
            # The server has no descriptor left for it, say. With process 1 its whole namespace ends.
            _log.warning("slot %d: its control group cannot be killed: %s", self.number, error)
        if self._first is not None and not self._exited.done():
            self._first.kill()

    async def remainder(self) -> Remainder:
        """What a next slot may have of this one, which is about to end. Raises OSError."""
        loop = asyncio.get_running_loop()
        return Remainder(self.uid, await loop.run_in_executor(self._host.threads, kernel.hold, self.tree.tmp))

    async def end(self) -> None:
        """Kill what runs and give everything back. Safe to call twice."""
        if self._ended:
            return
        self._ended = True
        loop = asyncio.get_running_loop()
        for server in self._servers:
            server.close()
        self._hang_up()
        self._ready.set()
        self.kill()
        if self._first is not None:
            await self._first.exited
        if self.output >= 0:
            loop.remove_reader(self.output)
            os.close(self.output)
            self.output = -1
        if self._link is not None:
            with contextlib.suppress(OSError):
                await (await self._link).close()
        if self.network >= 0:
            os.close(self.network)
            self.network = -1
        await self._host.aside(self._clear)

    def _prepare(self) -> None:
        self.tree.make(self.uid)
        kernel.make_mount_point(self.tree.root, shared=True)
        if self._scratch is None:
            self._host.scratch.mount(self.tree.tmp, DEFAULT_SCRATCH_MB, self.uid, self.uid)
        else:
            kernel.attach(self._scratch, self.tree.tmp)
        if self._forked:
            for place, source in self._places():
                self._views[place] = kernel.detached_mount(source, read_only=place != "/tmp")

    def _places(self) -> Iterable[tuple[str, Path]]:
        if self.image is None:
            return self.tree.places.items()
        host = self._host
        return image_root.places(self.image, self.tree, host.skeleton, host.etc, self.uid)

    @property
    def _forked(self) -> bool:
        return self.image is not None or bool(self._host.forks and self.language.forks)

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self.output, written = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        ours, theirs = socket.socketpair()
        self._channel = ours
        try:
            loopback = await completed(self._host.spawner.loopback((RUNTIME_API_PORT, ENDPOINT_PORT)))
            self.network = loopback.network
            if self._host.wiring is not None:
                self._link = asyncio.create_task(_plugged(self._host.wiring, self.network), name="link")
            await self._serve(loopback.listeners)
            given = Surroundings(self.network, theirs.fileno(), written, self.group, self._host.seccomp)
            self._first = first = await self._start_process(given)
        except SandboxFailure as failure:
            text = "; ".join([str(failure), *(line.strip() for line in self._said())])
            raise SandboxFailure(f"slot {self.number}: {text}") from failure
        finally:
            theirs.close()
            os.close(written)
        first.exited.add_done_callback(self._ended_with)
        ours.setblocking(False)
        loop.add_reader(ours, self._heard)

    async def _start_process(self, given: Surroundings) -> FirstProcess:
        host = self._host
        if not self._forked:
            return await start_alone(self._sandbox(), host.spawner, given)
        server = await host.fork_servers.of(self.language)
        try:
            return await server.copy(given, self._views, self.uid)
        finally:
            for view in self._views.values():
                os.close(view)
            self._views = {}

    def _ended_with(self, exited: asyncio.Future[int]) -> None:
        if not self._exited.done():
            self._exited.set_result(exited.result())

    def _sandbox(self) -> Sandbox:
        return Sandbox(
            tree=self.tree,
            etc=self._host.etc,
            uid=self.uid,
            command=self.language.waiting,
            mounts={**dict(self.language.mounts), "/var/rapid": BOOTSTRAPS},
            masked=self.language.masked,
            environment=dict(self.language.variables),
        )

    async def _serve(self, listeners: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        runtime_api, endpoint = listeners
        doors: set[Door] = set()
        self._servers.append(await loop.create_server(lambda: Door(self.calls, doors), sock=runtime_api))
        self._servers.append(await self._host.serve_endpoint(endpoint))

    def _said(self) -> list[str]:
        with contextlib.suppress(OSError):
            return os.read(self.output, 65536).decode(errors="replace").splitlines()
        return []

    def _heard(self) -> None:
        """The interpreter's byte has come, or its end."""
        if self._channel is None:
            return
        asyncio.get_running_loop().remove_reader(self._channel)
        with contextlib.suppress(OSError):
            self.warm = bool(self._channel.recv(16))
        self._ready.set()
        if self._sent:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None

    def _clear(self) -> None:
        for view in self._views.values():
            os.close(view)
        self._views = {}
        if self._first is not None:
            # With process 1 its whole namespace has ended.
            ended = pidfd.ended(self._first.pidfd, _END_SECONDS)
            os.close(self._first.pidfd)
            if not ended:
                _log.error("slot %d: its processes do not end; the next start clears it", self.number)
                return
        try:
            self.tree.remove()
            self.group.remove()
        except OSError as error:
            _log.warning("slot %d: %s", self.number, error)


async def _plugged(wiring: Wiring, network: int) -> Link:
    return await wiring.plug(network)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
