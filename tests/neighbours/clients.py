"""boto3 clients whose requests go to `Neighbours.handle` instead of a socket, and a server in another
process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.http import Request
from lambay.neighbours import Neighbours
from lambay.settings import Settings

ACCOUNT = "111122223333"
REGION = "eu-west-1"

_numbers = itertools.count(1)


class Client:
    """A boto3 client; its methods are coroutines."""

    def __init__(self, client: Any) -> None:
        self.boto = client

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self.boto, name)

        async def call(**given: Any) -> Any:
            answer = await asyncio.to_thread(method, **given)
            answer.pop("ResponseMetadata", None)
            return answer

        return call


class _Raw(BytesIO):
    def stream(self, amt: int = 1 << 16, decode_content: bool = False) -> Any:
        while block := self.read(amt):
            yield block


def connect(
    neighbours: Neighbours,
    service: str,
    *,
    account: str = ACCOUNT,
    region: str = REGION,
    endpoint: str = "http://localhost:4566",
    **config: Any,
) -> Client:
    """A client of `service` as `account`, talking to `neighbours`."""
    loop = asyncio.get_running_loop()
    client = boto3.client(
        service,
        region_name=region,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        endpoint_url=endpoint,
        config=Config(retries={"max_attempts": 0}, **config),
    )

    def send(request: Any, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        arrived = received(request)
        call = Call(
            f"request-{next(_numbers)}",
            account,
            region,
            Principal("root", account, f"arn:aws:iam::{account}:root", account, "AKIAIOSFODNN7EXAMPLE"),
            service,
            operation,
        )
        answer = asyncio.run_coroutine_threadsafe(neighbours.handle(call, arrived), loop).result(300)
        assert isinstance(answer.body, bytes)
        return AWSResponse(request.url, answer.status, answer.headers, _Raw(answer.body))

    client.meta.events.register("before-send", send)
    return Client(client)


def received(request: Any) -> Request:
    """botocore's prepared request as a server would have received it."""
    url = urlsplit(request.url)
    headers = {
        str(name).lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    headers.setdefault("host", url.netloc)
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    return Request(request.method, url.path or "/", url.query, headers, bytes(body))


@asynccontextmanager
async def opened(directory: Path, clock: Clock | None = None) -> AsyncIterator[Neighbours]:
    neighbours = Neighbours(directory, Settings(region=REGION, account=ACCOUNT), clock or Clock())
    try:
        yield neighbours
    finally:
        await neighbours.close()


async def refused(work: Coroutine[Any, Any, Any]) -> AWSError:
    """The error that `work` raises; fails when it raises none."""
    try:
        await work
    except AWSError as error:
        return error
    raise AssertionError("no AWSError was raised")
