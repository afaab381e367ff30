"""Lambda and the real neighbours behind the gateway, on a port of this process, for boto3."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambay.api import Gateway, Listener
from lambay.clock import Clock
from lambay.functions import Functions
from lambay.http import Request, Response
from lambay.identity import Identity
from lambay.neighbours import Neighbours
from lambay.neighbours.access_keys import IamRecords
from lambay.network import Network
from lambay.settings import Settings
from lambay.store import Store

from .conftest import REGION, ROLE, FakeFileSystems, FakeFleet, zipped

TRUST = {
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
}


class Server:
    """Lambda, IAM, EC2, S3 and SQS on a port of this process."""

    def __init__(self, data_dir: Path) -> None:
        settings = Settings(data_dir=data_dir)
        self.clock = clock = Clock()
        self.fleet = FakeFleet()
        self.store = Store(data_dir / "lambay.db")
        self.neighbours = Neighbours(data_dir / "neighbours", settings, clock)
        identity = Identity(self.store, IamRecords(self.neighbours.ready), settings, clock)
        self.functions = Functions(
            self.store,
            self.fleet,
            FakeFileSystems(),
            Network(self.neighbours),
            self.neighbours,
            settings,
            clock,
        )
        self.neighbours.on_invocation(self.functions.deliver)
        self.neighbours.on_change("events", self.functions.rules_changed)
        self.gateway = Gateway((self.functions,), identity, self.neighbours, settings, clock)
        self.listener = Listener(self.handle)
        self.clients: dict[str, Any] = {}

    async def handle(self, request: Request) -> Response:
        if request.path.startswith("/_lambay/code/"):
            return await self.functions.handle_code(request)
        return await self.gateway.handle(request)

    async def start(self) -> None:
        await self.functions.start()
        endpoint = await self.listener.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{endpoint.port}"

    async def stop(self) -> None:
        await self.listener.stop(0)
        await self.functions.stop()
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
