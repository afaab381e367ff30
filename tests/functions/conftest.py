"""A `Functions` on a real store, with the other rooms played by small fakes."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.functions import Functions
from lambay.runtime import (
    CreationInfo,
    EnvironmentSpec,
    FileSystemMount,
    Invocation,
    Outcome,
    PosixUser,
    Runtime,
)
from lambay.settings import Settings
from lambay.store import Store

from .access import FakeAccess

if TYPE_CHECKING:
    from .server import Server

ACCOUNT = "000000000000"
REGION = "us-east-1"
RIGHTS = ["ec2:*", "sqs:*", "sns:*", "kinesis:*", "dynamodb:*"]
ROLE = f"arn:aws:iam::{ACCOUNT}:role/function"
ACCESS_POINT = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0"

Handler = Callable[[EnvironmentSpec, Invocation], Awaitable[Outcome]]


async def echo(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
    tail = b"START\nEND\n" if invocation.tail_log else None
    return Outcome(payload=invocation.event, log_tail=tail)


@dataclass
class FakeFleet:
    """Runs `handler` in place of an environment and remembers what it was asked."""

    handler: Handler = echo
    runs: list[tuple[EnvironmentSpec, Invocation]] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    acquired: list[EnvironmentSpec] = field(default_factory=list)
    permitted: list[tuple[str, FileSystemMount | None]] = field(default_factory=list)
    failure: Exception | None = None
    lent: int = 0

    def runtimes(self) -> Sequence[Runtime]:
        return (
            Runtime("python3.12", True),
            Runtime("python3.11", True),
            Runtime("java21", False, reason="install a Java 21 runtime"),
        )

    async def prepare(self, runtime: str) -> None:
        self.prepared.append(runtime)

    async def acquire(self, spec: EnvironmentSpec) -> EnvironmentSpec:
        if self.failure is not None:
            raise self.failure
        self.lent += 1
        self.acquired.append(spec)
        return spec

    async def invoke(self, environment: EnvironmentSpec, invocation: Invocation) -> Outcome:
        self.runs.append((environment, invocation))
        return await self.handler(environment, invocation)

    def release(self, environment: EnvironmentSpec) -> None:
        self.lent -= 1

    async def drain(self, key_prefix: str) -> None:
        self.drained.append(key_prefix)

    async def permit(self, key_prefix: str, mount: FileSystemMount | None) -> bool:
        self.permitted.append((key_prefix, mount))
        return True


@dataclass
class FakeNeighbours:
    """Answers by (service, operation); keeps the calls."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    trusted: str = "lambda.amazonaws.com"

    async def call(
        self,
        service: str,
        operation: str,
        input: dict[str, Any],
        *,
        account: str,
        region: str,
        derived: bool = False,
    ) -> dict[str, Any]:
        self.calls.append((service, operation, input))
        match operation:
            case "GetRole" if input["RoleName"] != "missing":
                statement = {
                    "Effect": "Allow",
                    "Principal": {"Service": self.trusted},
                    "Action": "sts:AssumeRole",
                }
                arn = f"arn:aws:iam::{account}:role/{input['RoleName']}"
                return {"Role": {"Arn": arn, "AssumeRolePolicyDocument": {"Statement": [statement]}}}
            case "GetRole":
                raise AWSError("NoSuchEntity", "The role with name missing cannot be found.")
            case "GetObject":
                body = self.objects.get((input["Bucket"], input["Key"]))
                if body is None:
                    raise AWSError("NoSuchKey", "The specified key does not exist.")
                return {"Body": body}
            case "GetQueueUrl":
                return {"QueueUrl": f"http://sqs/{input['QueueName']}"}
        return {}

    def sent(self, operation: str) -> list[dict[str, Any]]:
        return [input for _, called, input in self.calls if called == operation]


@dataclass(frozen=True)
class FakeTarget:
    state: str = "available"
    id: str = "fsmt-0123456789abcdef0"
    address: str = "10.0.0.9"


@dataclass(frozen=True)
class FakeSource:
    volume: str = "fs-0123456789abcdef0"
    backing: Path | None = None
    root: str = "/shared"
    create: CreationInfo | None = None
    posix: PosixUser | None = field(default_factory=lambda: PosixUser(1001, 1001))
    read_only: bool = False
    mount_targets: Mapping[str, FakeTarget] = field(
        default_factory=lambda: {zone: FakeTarget() for zone in ("us-east-1a", "us-east-1c")}
    )


@dataclass
class FakeFileSystems:
    source: FakeSource | AWSError = field(default_factory=FakeSource)
    zones: list[str] = field(default_factory=lambda: ["us-east-1a", "us-east-1b"])

    async def mount_source(self, identifier: str, *, account: str, region: str) -> FakeSource:
        if isinstance(self.source, AWSError):
            raise self.source
        return self.source

    async def check_function_zones(
        self, access_point_arn: str, zones: Collection[str], *, account: str, region: str
    ) -> None:
        if not set(zones) <= set(self.zones):
            raise AWSError(
                "InvalidParameterValueException", f"{access_point_arn} does not have mount targets in {zones}"
            )


@dataclass(frozen=True)
class FakeSubnet:
    id: str
    vpc: str
    zone: str


@dataclass(frozen=True)
class FakeInterface:
    id: str
    subnet: str
    address: str
    description: str


@dataclass
class FakeNetwork:
    """Knows a few subnets of two VPCs and one security group; `full` subnets have no address left."""

    interfaces: dict[str, FakeInterface] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)

    async def subnet(self, subnet: str, *, account: str, region: str) -> FakeSubnet:
        subnets = {
            "subnet-a": FakeSubnet("subnet-a", "vpc-1", "us-east-1a"),
            "subnet-c": FakeSubnet("subnet-c", "vpc-1", "us-east-1c"),
            "subnet-z": FakeSubnet("subnet-z", "vpc-2", "us-east-1a"),
        }
        if subnet not in subnets:
            raise AWSError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
        return subnets[subnet]

    async def check_security_groups(
        self, groups: Sequence[str], vpc: str, *, account: str, region: str
    ) -> None:
        for group in groups:
            if group != "sg-1":
                raise AWSError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")

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
    ) -> FakeInterface:
        if subnet in self.full:
            raise AWSError("InsufficientFreeAddressesInSubnet", f"{subnet} is full")
        number = len(self.interfaces)
        made = FakeInterface(f"eni-{number}", subnet, f"10.0.0.{number + 4}", description)
        self.interfaces[made.id] = made
        return made

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
    ) -> None:
        self.interfaces[interface] = FakeInterface(interface, subnet, address, description)

    async def delete_interface(self, interface: str, *, account: str, region: str) -> None:
        del self.interfaces[interface]


class World:
    """The service with its surroundings, called as the gateway calls it."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.settings = Settings(data_dir=data_dir, **{"drain_seconds": 0, **settings})
        self.clock = Clock()
        self.fleet = FakeFleet()
        self.neighbours = FakeNeighbours()
        self.file_systems = FakeFileSystems()
        self.network = FakeNetwork()
        self.open()

    def open(self) -> None:
        self.store = Store(self.settings.data_dir / "lambay.db")
        self.access = FakeAccess(self.neighbours)
        self.functions = Functions(
            self.store,
            self.fleet,
            self.file_systems,
            self.network,
            self.neighbours,
            self.settings,
            self.clock,
            self.access,
        )

    async def restart(self) -> None:
        """Stop as a kill would have it, and start again on the same data."""
        await self.close()
        self.open()
        await self.functions.start()

    async def close(self) -> None:
        await self.functions.stop()
        self.store.close()

    async def __call__(self, operation: str, **input: Any) -> dict[str, Any]:
        principal = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
        call = Call(
            "11111111-2222-3333-4444-555555555555",
            ACCOUNT,
            REGION,
            principal,
            "lambda",
            operation,
            headers={"host": "localhost:4566"},
        )
        name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in operation).lstrip(
            "_"
        )
        answer: dict[str, Any] = await getattr(self.functions, name)(call, input)
        return answer

    async def create(self, name: str = "f", **input: Any) -> dict[str, Any]:
        """A created and settled function's configuration."""
        await self("CreateFunction", **minimal(name, **input))
        await self.settle()
        return await self("GetFunctionConfiguration", FunctionName=name)

    async def settle(self) -> None:
        await self.functions._room.lifecycle.idle()

    async def until(self, condition: Callable[[], bool]) -> None:
        """When `condition` holds; looks each time the event loop has gone round."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - a test's condition has no event of its own
                await asyncio.sleep(0)


def minimal(name: str = "f", **input: Any) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Role": ROLE,
        "Runtime": "python3.12",
        "Handler": "index.handler",
        "Code": {"ZipFile": zipped()},
        **input,
    }


def zipped(files: Mapping[str, str] | None = None) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in (files or {"index.py": "def handler(event, context): return event"}).items():
            package.writestr(zipfile.ZipInfo(name), text)
    return archive.getvalue()


def failing(message: str = "boom") -> Handler:
    async def handler(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        payload = json.dumps({"errorType": "Exception", "errorMessage": message}).encode()
        return Outcome(payload=payload, error="Unhandled", error_type="Exception")

    return handler


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.functions.start()
    yield world
    await world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """With a role that functions may have."""
    from .server import TRUST, Server

    server = Server(tmp_path_factory.mktemp("boto3"))
    await server.start()
    await server("iam", "create_role", RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))
    rights = {"Effect": "Allow", "Action": RIGHTS, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": rights})
    await server("iam", "put_role_policy", RoleName="function", PolicyName="rights", PolicyDocument=document)
    yield server
    await server.stop()
