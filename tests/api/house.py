"""A gateway behind a real socket, with services that remember what they were called with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import boto3
from botocore.config import Config

from lambay.api import Endpoint, Gateway, Listener
from lambay.aws import AWSError, Call, Principal, Service
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.settings import Settings

ACCOUNT = "000000000000"
ROOT = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, "test")


class EveryoneIsRoot:
    """Remembers the actions that were asked for."""

    def __init__(self) -> None:
        self.actions: list[str] = []
        self.denied: set[str] = set()

    async def authenticate(self, request: Request, service: str, operation: str = "") -> Principal:
        if request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential=wrong/"):
            raise AWSError("UnrecognizedClientException", "The security token is invalid.", status=403)
        return ROOT

    async def authorize(self, call: Call, action: str, resources: object = (), keys: object = None) -> None:
        self.actions.append(action)
        if action in self.denied:
            raise AWSError("AccessDeniedException", f"not authorized to perform: {action}", status=403)


class Echo:
    """Every neighbour: answers with what was routed to it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Request]] = []

    async def handle(self, call: Call, request: Request) -> Response:
        self.calls.append((call, request))
        if call.operation == "DescribeVpcs":
            raise AWSError("InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist", status=400)
        return Response(200, {"Content-Type": "text/plain"}, f"{call.service}:{call.operation}".encode())


class Recorded(Service):
    """An owned service whose answers a test sets. An answer may be an exception."""

    answers: Mapping[str, Any]

    def __init__(self, service_name: str, answers: Mapping[str, Any]) -> None:
        self.service_name = service_name  # type: ignore[misc]
        self.answers = dict(answers)
        self.inputs: list[dict[str, Any]] = []
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        async def operation(call: Call, input: dict[str, Any]) -> Any:
            self.calls.append(call)
            self.inputs.append(input)
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(input) if callable(answer) else answer

        return operation


class House:
    """A running gateway; `client` gives boto3 clients for it."""

    def __init__(self, endpoint: Endpoint, services: Mapping[str, Recorded]) -> None:
        self.endpoint = endpoint
        self.services = services
        self.identity = EveryoneIsRoot()
        self.neighbours = Echo()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.endpoint.port}"

    def client(self, service: str, **given: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="eu-west-1",
            **{"aws_access_key_id": "test", "aws_secret_access_key": "test", **given},
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    async def call(self, service: str, operation: str, **given: Any) -> Any:
        """A boto3 call in a thread, so that the loop is free to answer it."""
        client = self.client(service)
        return await asyncio.to_thread(lambda: getattr(client, operation)(**given))

    async def raw(self, request: bytes, *, times: int = 1) -> bytes:
        """What the server sends back for these very bytes, until it closes or has answered `times`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.endpoint.port)
        try:
            writer.write(request)
            answer = b""
            while answer.count(b"HTTP/1.1 ") < times or not _complete(answer):
                chunk = await asyncio.wait_for(reader.read(65536), 10)
                if not chunk:
                    break
                answer += chunk
            return answer
        finally:
            writer.close()


@asynccontextmanager
async def house(*services: Recorded) -> AsyncIterator[House]:
    identity, neighbours = EveryoneIsRoot(), Echo()
    gateway = Gateway(services, identity, neighbours, Settings(), Clock())
    listener = Listener(gateway.handle, max_body=64 << 20)
    endpoint = await listener.start("127.0.0.1", 0)
    built = House(endpoint, {service.service_name: service for service in services})
    built.identity, built.neighbours = identity, neighbours
    try:
        yield built
    finally:
        await listener.stop(1)


def _complete(answer: bytes) -> bool:
    """Whether the last response's announced body is all there."""
    head, found, body = answer[answer.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
        if line.startswith(b"transfer-encoding: chunked"):
            return body.endswith(b"0\r\n\r\n")
    return not head.startswith(b"HTTP/1.1 100")
