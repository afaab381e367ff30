"""What the room needs from the others, each as narrow as its use here, as constructor arguments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from lambay.mount_source import MountSource
from lambay.runtime import EnvironmentSpec, FileSystemMount, Invocation, Outcome, Runtime


class Fleet(Protocol):
    """Execution environments. Failures that are not the function's own are `runtime.EnvironmentFailure`s."""

    def runtimes(self) -> Sequence[Runtime]:
        """The runtimes that Lambay knows how to start. It may block."""
        ...

    async def prepare(self, runtime: str) -> None:
        """Be ready to make environments of a runtime soon. Raises RuntimeUnavailable."""
        ...

    async def acquire(self, spec: EnvironmentSpec) -> Any:
        """An environment of `spec`, idle or made for it, the caller's until `release`."""
        ...

    async def invoke(self, environment: Any, invocation: Invocation) -> Outcome: ...

    def release(self, environment: Any) -> None: ...

    async def drain(self, key_prefix: str) -> None:
        """End the environments whose spec's key begins so, each once its invocation is over."""
        ...

    async def permit(self, key_prefix: str, mount: FileSystemMount | None) -> bool:
        """Living environments' mounts may do what `mount` may from now on; with None they are ended at once.

        Whether there was one.
        """
        ...


class NamedFunction(Protocol):
    """A function as a caller named it; `qualifier` is a version, an alias or None."""

    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def qualifier(self) -> str | None: ...


class Activity(Protocol):
    """Who counts what functions do. Called in the event loop on every invocation: in microseconds, never raising."""

    def began(self, name: NamedFunction, *, unreserved: bool) -> None:
        """An invocation was admitted; `unreserved`: in the part of the concurrency that functions share."""
        ...

    def ended(
        self,
        name: NamedFunction,
        spec: EnvironmentSpec,
        outcome: Outcome | None,
        *,
        unreserved: bool,
        provisioned: int,
        spilled: bool,
    ) -> None:
        """What `began` is over; no outcome: the function was not run.

        `provisioned` is the size of the pool that it ran in, 0 for none; `spilled`: its pool was busy.
        """
        ...

    def throttled(self, name: NamedFunction, version: str) -> None: ...

    def event_received(self, name: NamedFunction) -> None:
        """An asynchronous event was queued."""
        ...

    def event_aged(self, name: NamedFunction, seconds: float) -> None:
        """How long ago an event was queued that is invoked with now."""
        ...

    def event_dropped(self, name: NamedFunction) -> None:
        """An event was given up without a successful invocation."""
        ...

    def undelivered(self, name: NamedFunction, *, dead_letter: bool) -> None:
        """A dead-letter queue or, else, a destination refused what it was sent."""
        ...


class Uncounted:
    """The `Activity` of a room that nobody watches."""

    def began(self, name: NamedFunction, *, unreserved: bool) -> None:
        return

    def ended(
        self,
        name: NamedFunction,
        spec: EnvironmentSpec,
        outcome: Outcome | None,
        *,
        unreserved: bool,
        provisioned: int,
        spilled: bool,
    ) -> None:
        return

    def throttled(self, name: NamedFunction, version: str) -> None:
        return

    def event_received(self, name: NamedFunction) -> None:
        return

    def event_aged(self, name: NamedFunction, seconds: float) -> None:
        return

    def event_dropped(self, name: NamedFunction) -> None:
        return

    def undelivered(self, name: NamedFunction, *, dead_letter: bool) -> None:
        return


class Access(Protocol):
    """What Lambda asks of IAM: of a function's role, and of its policy."""

    async def assumable(self, role_arn: str, *, source_arn: str, region: str) -> bool:
        """Whether it is there and lets Lambda assume it for that function."""
        ...

    async def lacking(self, role_arn: str, action: str, resource: str | None = None, *, region: str) -> str:
        """Why the role may not do that, empty where it may; without `resource`: to some resource."""
        ...

    def service_may(
        self, service: str, action: str, resource: str, document: str | None, keys: Mapping[str, str]
    ) -> bool:
        """Whether the policy `document` of the resource lets a service do that; `keys` say for whose sake."""
        ...

    def anybody_may(self, action: str, resource: str, document: str | None, keys: Mapping[str, str]) -> bool:
        """Whether the policy lets callers without credentials do that."""
        ...


class MountPermit(Protocol):
    """What a mount may do; with a `refusal`, the reason, there is none."""

    @property
    def read_only(self) -> bool: ...
    @property
    def root_squash(self) -> bool: ...
    @property
    def refusal(self) -> str: ...


class MountPermits(Protocol):
    """Decides what a version's role may do with a file system, by the policies of the moment."""

    async def permit(self, role_arn: str, session_name: str, source: Any, vpc: str) -> MountPermit:
        """For a session of the role from that VPC. `source` is what the file systems' `mount_source` gave."""
        ...


class FileSystems(Protocol):
    """Amazon EFS, as far as functions mount it."""

    async def mount_source(self, identifier: str, *, account: str, region: str) -> MountSource:
        """Where the access point leads. Raises AWSError where it or its file system is gone or refuses."""
        ...

    async def check_function_zones(
        self, access_point_arn: str, zones: Collection[str], *, account: str, region: str
    ) -> None:
        """Raises AWSError unless a mount target is available in each of these Availability Zones."""
        ...


class Subnet(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def vpc(self) -> str: ...
    @property
    def zone(self) -> str: ...


class Interface(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def address(self) -> str: ...


class Network(Protocol):
    """VPCs. Errors are AWSErrors with EC2's codes (`InvalidSubnetID.NotFound`, …)."""

    async def subnet(self, subnet: str, *, account: str, region: str) -> Subnet: ...

    async def check_security_groups(
        self, groups: Sequence[str], vpc: str, *, account: str, region: str
    ) -> None: ...

    async def create_interface(
        self,
        subnet: str,
        security_groups: Sequence[str],
        *,
        account: str,
        region: str,
        description: str,
        kind: str,
        requester: str,
    ) -> Interface: ...

    async def ensure_interface(
        self,
        interface: str,
        subnet: str,
        security_groups: Sequence[str],
        address: str,
        *,
        account: str,
        region: str,
        description: str,
        kind: str,
        requester: str,
    ) -> None: ...

    async def delete_interface(self, interface: str, *, account: str, region: str) -> None: ...


class Trigger(Protocol):
    """An event that another service sends to a function by its ARN."""

    @property
    def function_arn(self) -> str: ...
    @property
    def event(self) -> Any: ...
    @property
    def principal(self) -> str: ...
    @property
    def source_arn(self) -> str: ...
    @property
    def source_account(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
