"""What an execution environment is made from, what it is asked, and what comes of it: plain frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from lambay.fsd import Mount, Mounted, Permissions, Stats, Turned
from lambay.runtime.images import Image
from lambay.runtime.streaming import ResponseStream
from lambay.runtime.wiring import MountTargets, Placement


@dataclass(frozen=True, slots=True)
class Credentials:
    """A role's session as the function finds it in its environment variables.

    An environment whose credentials are about to end is replaced rather than refreshed, as Lambda does.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime | None = None


@dataclass(frozen=True, slots=True)
class PosixUser:
    """The identity that an access point gives to every request; see EFS "Enforcing a user identity"."""

    uid: int
    gid: int
    gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CreationInfo:
    """Owner and mode (an octal number such as 0o755) of a root directory made at its first mount."""

    uid: int
    gid: int
    mode: int


EVERYTHING = Permissions()


@dataclass(frozen=True, slots=True)
class FileSystemMount:
    """One file system connection of an environment, as fsd takes it.

    `root` is the directory in the volume that becomes `mount_path` (`/mnt/NAME`). Without `posix` every
    request acts as `anonymous`, so that no owner of the host's own reaches the disk. `permissions` is what IAM
    leaves of it, which may change while the mount stands.
    """

    volume: str
    mount_path: str
    root: str = "/"
    create: CreationInfo | None = None
    posix: PosixUser | None = None
    anonymous: PosixUser = PosixUser(65534, 65534)
    read_only: bool = False
    permissions: Permissions = EVERYTHING
    backing: Path | None = None
    """The volume's directory, where the volume may not be open in fsd yet."""
    targets: MountTargets | None = None
    """Where it is reached by network; None: it is there without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """Everything that an execution environment is made from.

    Environments are shared between invocations whose specs have the same `key`: the function version's ARN
    and its configuration revision. `code` and `layers` are unpacked, immutable directories; of two layers
    with the same file the later one wins, as in Lambda. `variables` are the user's own, `kms_key` the ARN of
    their key, empty for Lambda's own.
    """

    key: str
    account: str
    region: str
    function_name: str
    version: str
    function_arn: str
    handler: str
    runtime: str
    memory_mb: int
    timeout_s: int
    code: Path = Path("/nonexistent")
    role_arn: str
    ephemeral_mb: int = 512
    variables: Mapping[str, str] = field(default_factory=dict)
    kms_key: str = ""
    layers: tuple[Path, ...] = ()
    image: Image | None = None
    """A container image in place of a runtime, its code and layers; its `runtime` and `handler` are empty."""
    file_system: FileSystemMount | None = None
    network: Placement | None = None
    """In a VPC; None: on the internet."""
    log_group: str = ""
    log_format: Literal["Text", "JSON"] = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None
    tracing: Literal["PassThrough", "Active"] = "PassThrough"
    initialization_type: Literal["on-demand", "provisioned-concurrency"] = "on-demand"

    @property
    def group(self) -> str:
        """The log group's name; the default is `/aws/lambda/NAME`."""
        return self.log_group or f"/aws/lambda/{self.function_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One event for a function. `client_context` and `cognito_identity` are JSON text, already decoded."""

    request_id: str
    event: bytes
    invoked_arn: str
    client_context: str | None = None
    cognito_identity: str | None = None
    trace_id: str | None = None
    tail_log: bool = False
    stream: ResponseStream | None = None
    """Where the response goes as it comes, if the function streams it."""

    def traced(self, trace_id: str) -> Invocation:
        """The same with another trace header."""
        # dataclasses.replace takes several times as long, and every invocation comes through here.
        return Invocation(
            request_id=self.request_id,
            event=self.event,
            invoked_arn=self.invoked_arn,
            client_context=self.client_context,
            cognito_identity=self.cognito_identity,
            trace_id=trace_id,
            tail_log=self.tail_log,
            stream=self.stream,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an invocation came to.

    `payload` is the function's answer (empty where it was `streamed`) or, where `error` is set (it is then
    the value of the header `X-Amz-Function-Error`), Lambda's error object. `error_type` is the REPORT line's
    "Error Type" or `Function.…`/`Runtime.…`/`Sandbox.Timedout`, for whoever counts. `init_ms` is set by the invocation
    that an Init phase preceded. `log_tail` holds at most the last 4 KiB of the invocation's log.
    """

    payload: bytes
    streamed: bool = False
    error: Literal["Unhandled"] | None = None
    error_type: str | None = None
    log_tail: bytes | None = None
    duration_ms: float = 0.0
    billed_ms: int = 0
    init_ms: float | None = None
    max_memory_mb: int = 0
    environment_id: str = ""
    log_stream: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime as this host has it; where it is not `available`, `reason` says how to get it."""

    name: str
    available: bool
    interpreter: Path | None = None
    reason: str = ""


class Closer(Protocol):
    """What serves a socket until closed; `asyncio.Server` is one."""

    def close(self) -> None: ...


class FileServer(Protocol):
    """What environments need of `lambay.fsd.Fsd`."""

    def on_death(self, listener: Callable[[Sequence[str]], None]) -> None: ...

    async def open_volume(self, volume: str, backing: Path) -> None: ...

    async def mount(self, mount: Mount) -> Mounted: ...

    async def unmount(self, mount: str) -> None: ...

    async def stall(self, mount: str) -> object: ...

    async def resume(self, mount: str) -> object: ...

    async def fail(self, mount: str) -> object: ...

    async def permit(self, mount: str, permissions: Permissions) -> Turned: ...

    async def stats(self) -> Stats: ...


class EnvironmentFailure(Exception):
    """An environment could not be had, or was lost for a reason that is not the function's own."""


class RuntimeUnavailable(EnvironmentFailure):
    """The host lacks the runtime; the text says which and how to get it."""

    def __init__(self, runtime: str, reason: str) -> None:
        super().__init__(f"runtime {runtime}: {reason}")
        self.runtime = runtime
        self.reason = reason


class SandboxFailure(EnvironmentFailure):
    """The host could not build the sandbox: a namespace, control group, mount or process failed."""


class CapacityExceeded(EnvironmentFailure):
    """The host has no memory for another environment, and none is idle that could make room."""


class ScalingLimitExceeded(EnvironmentFailure):
    """The function would gain environments faster than Lambda lets it."""


class MountFailure(EnvironmentFailure):
    """The file system refused the mount: permission or configuration (EFSMountFailureException)."""


class MountConnectivityFailure(MountFailure):
    """No connection to the file system could be made (EFSMountConnectivityException)."""


class MountTimeout(MountFailure):
    """The file system was connected to, but the mount did not finish in time (EFSMountTimeoutException)."""


class FileSystemLost(EnvironmentFailure):
    """The connection to a mounted file system ended during the invocation (EFSIOException)."""
