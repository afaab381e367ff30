"""Logs over a throwaway file, called as the gateway calls them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.observe import AlarmActions, Alarms, CloudWatch, Logs, Metrics
from lambay.settings import Settings
from lambay.store import Store

ACCOUNT, REGION = "123456789012", "eu-west-1"
ROOT = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)


def call(account: str = ACCOUNT, region: str = REGION) -> Call:
    return Call("request-1", account, region, ROOT, service="logs")


class Client:
    """`client.create_log_group(logGroupName="/g")` as with boto3."""

    def __init__(self, service: Any, clock: Clock) -> None:
        self.service = service
        self.logs = service
        self.clock = clock

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self.service, operation)

        async def invoke(**input: Any) -> Any:
            return await method(call(), input)

        return invoke

    @property
    def now(self) -> int:
        return int(self.clock.time() * 1000)

    async def write(self, group: str, stream: str, *messages: str, at: int | None = None) -> None:
        begin = self.now if at is None else at
        events = [(begin + number, message) for number, message in enumerate(messages)]
        await self.logs.write(ACCOUNT, REGION, group, stream, events)

    async def refused(self, operation: str, **input: Any) -> AWSError:
        with pytest.raises(AWSError) as caught:
            await getattr(self, operation)(**input)
        return caught.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
async def logs(tmp_path: Path, clock: Clock, settings: Settings) -> AsyncIterator[Logs]:
    logs = Logs(tmp_path / "logs.db", clock, settings)
    await logs.start()
    yield logs
    await logs.close()


@pytest.fixture
def client(logs: Logs, clock: Clock) -> Client:
    return Client(logs, clock)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "lambay.db")
    yield store
    store.close()


@pytest.fixture
async def metrics(tmp_path: Path, clock: Clock) -> AsyncIterator[Metrics]:
    metrics = Metrics(tmp_path / "metrics.db", clock)
    await metrics.start()
    yield metrics
    await metrics.close()


class Outside:
    """SNS, EventBridge and functions, as alarms see them: keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.triggers: list[Any] = []

    async def call(
        self, service: str, operation: str, input: dict[str, Any], *, account: str, region: str
    ) -> dict[str, Any]:
        self.calls.append((service, operation, input))
        return {}

    async def deliver(self, trigger: Any) -> None:
        self.triggers.append(trigger)

    def published(self) -> list[dict[str, Any]]:
        return [json.loads(input["Message"]) for service, _, input in self.calls if service == "sns"]


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
async def alarms(store: Store, metrics: Metrics, clock: Clock, outside: Outside) -> AsyncIterator[Alarms]:
    """Evaluated when the test says so (`evaluate`), or by the clock once they are started."""

    async def caught_up() -> None:
        return

    alarms = Alarms(store, metrics, clock, AlarmActions(outside, outside.deliver), caught_up)
    yield alarms
    await alarms.stop()


@pytest.fixture
def cloudwatch(store: Store, metrics: Metrics, alarms: Alarms, clock: Clock) -> Client:
    return Client(CloudWatch(store, metrics, alarms, clock), clock)


def messages(output: dict[str, Any]) -> list[str]:
    return [event["message"] for event in output["events"]]
