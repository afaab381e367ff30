"""Lambda and the real neighbours behind the gateway, on a port of this process, for boto3."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambay.api import Gateway, Listener
from lambay.aws import Principal
from lambay.clock import Clock
from lambay.deployments import Deployments
from lambay.functions import Functions
from lambay.http import Request, Response
from lambay.identity import Identity, ServiceAccess
from lambay.neighbours import Neighbours
from lambay.neighbours.access_keys import IamRecords
from lambay.neighbours.image_manifests import ImageManifests
from lambay.network import Network
from lambay.registry import Registry
from lambay.settings import Settings
from lambay.store import Store

from .conftest import REGION, ROLE, FakeFileSystems, FakeFleet, zipped

TRUST = {
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
}


class FakeAlarms:
    """Alarms by name; `set` tells whoever listens."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.listeners: list[Callable[[Any], None]] = []

    def states(self, account: str, region: str, names: Sequence[str]) -> dict[str, str]:
        return {name: self.known[name] for name in names if name in self.known}

    def on_change(self, callback: Callable[[Any], None]) -> None:
        self.listeners.append(callback)

    def set(self, name: str, state: str) -> None:
        self.known[name] = state
        for listener in self.listeners:
            listener(name)


class Server:
    """Lambda, CodeDeploy and the neighbours on a port of this process."""

    def __init__(self, data_dir: Path) -> None:
        settings = Settings(data_dir=data_dir)
        self.enforcing = settings.iam == "enforce"
        self.clock = clock = Clock()
        self.fleet = FakeFleet()
        self.store = Store(data_dir / "lambay.db")
        self.neighbours = Neighbours(data_dir / "neighbours", settings, clock)
        self.registry = Registry(
            data_dir / "images",
            self.neighbours,
            ImageManifests(self.neighbours.run),
            self.ask,
            clock,
            "http://localhost",
        )
        iam = IamRecords(self.neighbours.ready)
        identity = Identity(self.store, iam, settings, clock)
        self.functions = Functions(
            self.store,
            self.fleet,
            FakeFileSystems(),
            Network(self.neighbours),
            self.neighbours,
            settings,
            clock,
            ServiceAccess(identity, iam),
            images=self.registry,
        )
        self.neighbours.on_change("ecr", self.registry.changed)
        self.neighbours.answer_instead("ecr", "GetAuthorizationToken", self.registry.authorization_token)
        self.neighbours.on_invocation(self.functions.deliver)
        self.neighbours.on_change("events", self.functions.rules_changed)
        for streaming in ("kinesis", "dynamodb"):
            self.neighbours.on_change(streaming, self.functions.stream_changed)
        scaling, service = self.functions.scaling, "application-autoscaling"
        self.neighbours.on_change(service, scaling.targets_changed)
        self.neighbours.answer_instead(service, "DescribeScalingActivities", scaling.activities)
        self.alarms = FakeAlarms()
        self.deployments = Deployments(self.store, self.ask, clock, ServiceAccess(identity, iam), self.alarms)
        services = (self.functions, self.deployments)
        self.gateway = Gateway(services, identity, self.neighbours, settings, clock)
        self.listener = Listener(self.handle, streams=Registry.streams)
        self.clients: dict[str, Any] = {}

    async def handle(self, request: Request) -> Response:
        if request.path.startswith("/_lambay/code/"):
            return await self.functions.handle_code(request)
        if Registry.serves(request):
            return await self.registry.handle(request)
        return await self.gateway.handle(request)

    async def ask(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]:
        return await self.gateway.call(principal, service, operation, input, account=account, region=region)

    async def start(self) -> None:
        self.registry.start()
        await self.functions.start()
        await self.deployments.start()
        endpoint = await self.listener.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{endpoint.port}"

    async def stop(self) -> None:
        await self.listener.stop(0)
        await self.deployments.stop()
        await self.functions.stop()
        await self.registry.stop()
        await self.neighbours.close()
        self.store.close()

    async def __call__(self, service: str, method: str, **input: Any) -> dict[str, Any]:
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}, parameter_validation=False),
            )
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.clients[service], method), **input)
        answer.pop("ResponseMetadata")
        return answer

    async def refused(self, service: str, method: str, **input: Any) -> dict[str, Any]:
        """The error's response."""
        with pytest.raises(ClientError) as caught:
            await self(service, method, **input)
        response: dict[str, Any] = caught.value.response
        return response

    async def create(self, name: str, **input: Any) -> dict[str, Any]:
        given = {
            "Role": ROLE,
            "Runtime": "python3.12",
            "Handler": "index.handler",
            "Code": {"ZipFile": zipped()},
        }
        made = await self("lambda", "create_function", FunctionName=name, **{**given, **input})
        waiter = self.clients["lambda"].get_waiter("function_active_v2")
        await asyncio.to_thread(waiter.wait, FunctionName=name, WaiterConfig={"Delay": 0.05})
        return made
