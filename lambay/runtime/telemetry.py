"""The Telemetry API of one environment, and its elder, the Logs API: events in batches to extensions.

Follows the Lambda Developer Guide, "Accessing real-time telemetry data for extensions using the Telemetry API"
and "Lambda Telemetry API Event schema reference" (version 2022-07-01). An extension subscribes during Init; events
from before are kept for it. Batches are sent while the environment runs: a frozen one could not take them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lambay.clock import Clock
from lambay.runtime.telemetry_delivery import Delivery, Destination, Post

Record = Mapping[str, Any] | str

TYPES = ("platform", "function", "extension")
_SCHEMAS = {"telemetry": ("2022-07-01", "2022-12-13", "2025-01-29"), "logs": ("2020-08-15", "2021-03-18")}
_LIMITS = {"maxItems": (1_000, 10_000), "maxBytes": (262_144, 1_048_576), "timeoutMs": (25, 30_000)}
_DEFAULTS = {"maxItems": 1_000, "maxBytes": 262_144, "timeoutMs": 1_000}
_MOST_EARLY = 1_000
# What the Logs API knows of the platform.
_OF_LOGS = frozenset(
    f"platform.{name}"
    for name in ("start", "end", "report", "runtimeDone", "extension", "logsSubscription", "logsDropped")
)


class _Subscription(msgspec.Struct):
    schemaVersion: str = ""
    types: list[str] = []
    destination: dict[str, Any] = {}
    buffering: dict[str, Any] = {}


class InvalidSubscription(Exception):
    """The text names every field that is wrong."""


class Telemetry:
    """`open_connection` connects to a port of the sandbox's own loopback."""

    def __init__(self, clock: Clock, open_connection: Callable[[int], Awaitable[Post]]) -> None:
        self._clock = clock
        self._open_connection = open_connection
        self._subscribed: dict[str, tuple[frozenset[str], str, Delivery]] = {}
        self._early: list[tuple[str, bytes]] | None = []

    @property
    def wanted(self) -> bool:
        """Whether anybody takes events, or may come to."""
        return self._early is not None or bool(self._subscribed)

    def emit(self, kind: str, record: Record) -> None:
        """`kind` is the event's type: `platform.…`, `function` or `extension`."""
        if not self.wanted:
            return
        now = self._clock.now().astimezone(UTC)
        event = msgspec.json.encode({"time": stamp(now), "type": kind, "record": record})
        if self._early is not None and len(self._early) < _MOST_EARLY:
            self._early.append((kind, event))
        for types, api, delivery in self._subscribed.values():
            if _wants(types, api, kind):
                delivery.put(event)

    def subscribe(self, name: str, api: str, body: bytes) -> None:
        """Of the extension `name`, by the API `telemetry` or `logs`. Raises InvalidSubscription."""
        asked, destination = _checked(api, body)
        former = self._subscribed.get(name)
        if former is not None:
            former[2].stop()
        buffering = {**_DEFAULTS, **asked.buffering}
        delivery = Delivery(
            destination,
            self._open_connection,
            most_items=buffering["maxItems"],
            most_bytes=buffering["maxBytes"],
            seconds=buffering["timeoutMs"] / 1000,
            dropped=self._dropped,
        )
        types = frozenset(asked.types)
        self._subscribed[name] = (types, api, delivery)
        for kind, event in self._early or ():
            if _wants(types, api, kind):
                delivery.put(event)
        self.emit(
            "platform.telemetrySubscription" if api == "telemetry" else "platform.logsSubscription",
            {"name": name, "state": "Subscribed", "types": asked.types},
        )

    def end_subscriptions(self) -> None:
        """Init is over: what is not wanted yet never will be."""
        self._early = None

    def hold(self, held: bool) -> None:
        """Send nothing while `held`."""
        for _, _, delivery in self._subscribed.values():
            delivery.hold(held)

    async def flush(self) -> None:
        """Return once what waits was sent, or could not be."""
        await asyncio.gather(*(delivery.flush() for _, _, delivery in self._subscribed.values()))

    def stop(self) -> None:
        for _, _, delivery in self._subscribed.values():
            delivery.stop()
        self._subscribed = {}
        self._early = None

    def _dropped(self, records: int, size: int) -> bytes:
        record = {
            "droppedBytes": size,
            "droppedRecords": records,
            "reason": "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
        }
        now = self._clock.now().astimezone(UTC)
        return msgspec.json.encode({"time": stamp(now), "type": "platform.logsDropped", "record": record})


def _wants(types: frozenset[str], api: str, kind: str) -> bool:
    if kind.partition(".")[0] not in types:
        return False
    return (
        kind != "platform.end" if api == "telemetry" else not kind.startswith("platform.") or kind in _OF_LOGS
    )


def _checked(api: str, body: bytes) -> tuple[_Subscription, Destination]:
    wrong: list[str] = []
    try:
        asked = msgspec.json.decode(body, type=_Subscription)
    except msgspec.DecodeError as error:
        raise InvalidSubscription(str(error)) from error
    if asked.schemaVersion not in (*_SCHEMAS[api], *(("",) if api == "logs" else ())):
        wrong.append(f"schemaVersion: {asked.schemaVersion!r} is not one of {', '.join(_SCHEMAS[api])}")
    if not asked.types:
        wrong.append("types should not be empty")
    wrong += [
        f"types: {each!r} is not one of {', '.join(TYPES)}" for each in asked.types if each not in TYPES
    ]
    for name, (least, most) in _LIMITS.items():
        value = asked.buffering.get(name, least)
        if not isinstance(value, int) or not least <= value <= most:
            wrong.append(f"buffering.{name}: {value!r} is not within {least} and {most}")
    protocol = asked.destination.get("protocol")
    if protocol not in ("HTTP", "TCP"):
        wrong.append(f"destination.protocol: {protocol!r} is not HTTP or TCP")
    destination = None
    try:
        destination = _destination(asked.destination, str(protocol))
    except ValueError as error:
        wrong.append(str(error))
    if wrong or destination is None:
        raise InvalidSubscription("; ".join(wrong))
    return asked, destination


def _destination(given: Mapping[str, Any], protocol: str) -> Destination:
    if protocol == "TCP":
        port = given.get("port")
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"destination.port: {port!r} is not within 1 and 65535")
        return Destination("TCP", "sandbox.localdomain", port, "")
    uri = urlsplit(str(given.get("URI", "")))
    if uri.scheme != "http" or uri.hostname not in (
        "sandbox.localdomain",
        "sandbox",
        "localhost",
        "127.0.0.1",
    ):
        raise ValueError("destination.URI should be http://sandbox.localdomain:PORT/…")
    if uri.port is None:
        raise ValueError("URI port is not provided")
    path = uri.path or "/"
    return Destination("HTTP", uri.netloc, uri.port, f"{path}?{uri.query}" if uri.query else path)


def stamp(now: datetime) -> str:
    """As events bear the time, to the millisecond."""
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
