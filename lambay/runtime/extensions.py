"""The Lambda Extensions API of one environment, and the life of its extensions.

Follows the Lambda Developer Guide, "Using the Lambda Extensions API to create extensions" (version 2020-01-01).
External extensions are programs in /opt/extensions, started with the environment; internal ones register from
within the runtime's process.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from lambay.runtime import image_root
from lambay.runtime.runtime_api import Door
from lambay.runtime.spec import EnvironmentSpec, Invocation
from lambay.runtime.telemetry import InvalidSubscription, Telemetry

_MOST = 10
_NAME = "lambda-extension-name"
_IDENTIFIER = "lambda-extension-identifier"
_ERROR_TYPE = "lambda-extension-function-error-type"
_EVENTS = ("INVOKE", "SHUTDOWN")


class _Registration(msgspec.Struct):
    events: list[str] = []


@dataclass(eq=False, slots=True)
class _Extension:
    name: str
    external: bool
    events: tuple[str, ...]
    door: Door | None = None
    waiting: deque[bytes] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):
    status: HTTPStatus
    kind: str
    message: str


class Extensions:
    """`changed` is called when one has come to rest, `lost` when one has left for good or failed."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        telemetry: Telemetry,
        changed: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._telemetry = telemetry
        self._spec = spec
        self._changed = changed
        self._lost = lost
        self._expected = frozenset(name for directory in _directories(spec) for name in _programs(directory))
        self._registered: dict[str, _Extension] = {}
        self._registering = True

    @property
    def programs(self) -> bool:
        """Whether there are any to start."""
        return bool(self._expected)

    @property
    def present(self) -> bool:
        return bool(self._expected or self._registered)

    @property
    def at_rest(self) -> bool:
        """Whether every one has registered and waits for its next event."""
        if not self.present:
            return True
        names = {extension.name for extension in self._registered.values()}
        return self._expected <= names and all(each.door is not None for each in self._registered.values())

    @property
    def described(self) -> list[tuple[str, tuple[str, ...]]]:
        """Names and the events that they want."""
        return [(extension.name, extension.events) for extension in self._registered.values()]

    @property
    def expects_shutdown(self) -> bool:
        return any("SHUTDOWN" in extension.events for extension in self._registered.values())

    def end_registration(self) -> None:
        """Init is over: nobody may register any more."""
        self._registering = False

    def invoke(self, invocation: Invocation, deadline_ms: int, trace_id: str) -> None:
        self._tell(
            "INVOKE",
            {
                "eventType": "INVOKE",
                "deadlineMs": deadline_ms,
                "requestId": invocation.request_id,
                "invokedFunctionArn": invocation.invoked_arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": trace_id},
            },
        )

    def shut_down(self, reason: str, deadline_ms: int) -> None:
        """`reason` is spindown, timeout or failure."""
        self._tell("SHUTDOWN", {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms})

    def left(self, door: Door) -> None:
        for extension in self._registered.values():
            if extension.door is door:
                extension.door = None
                self._lost("Extension.Crash")

    def call(self, door: Door, route: str, headers: Mapping[str, str], body: bytes) -> None:
        """Answer one call; `route` is the method and the path below the version."""
        try:
            self._route(door, route, headers, body)
        except _Refusal as refusal:
            answer = {"errorMessage": refusal.message, "errorType": refusal.kind}
            door.answer(refusal.status, msgspec.json.encode(answer))

    def _route(self, door: Door, route: str, headers: Mapping[str, str], body: bytes) -> None:
        match route:
            case "POST register":
                self._register(door, headers, body)
            case "GET event/next":
                self._next(door, self._who(headers))
            case "POST init/error" | "POST exit/error":
                self._who(headers)
                door.answer(HTTPStatus.ACCEPTED, b'{"status":"OK"}\n')
                self._lost(headers.get(_ERROR_TYPE) or "Extension.Unknown")
            case "PUT telemetry" | "PUT logs":
                self._subscribe(door, self._who(headers), route.removeprefix("PUT "), body)
            case _:
                raise _Refusal(HTTPStatus.NOT_FOUND, "UnknownPath", f"no {route} here")

    def _register(self, door: Door, headers: Mapping[str, str], body: bytes) -> None:
        name = headers.get(_NAME, "")
        if not name:
            raise _Refusal(HTTPStatus.FORBIDDEN, "Extension.InvalidExtensionName", f"Empty {_NAME} header")
        external = name in self._expected
        self._check_registration(name)
        try:
            events = tuple(msgspec.json.decode(body or b"{}", type=_Registration).events)
        except msgspec.DecodeError as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "InvalidRequestFormat", str(error)) from error
        for event in events:
            if event not in _EVENTS:
                wrong = f"events: {event!r} is not one of {', '.join(_EVENTS)}"
                raise _Refusal(HTTPStatus.BAD_REQUEST, "Extension.InvalidEventType", wrong)
            if event == "SHUTDOWN" and not external:
                kind = "ShutdownEventNotSupportedForInternalExtension"
                raise _Refusal(HTTPStatus.FORBIDDEN, kind, "internal extensions are not told of the shutdown")
        identifier = str(uuid.uuid4())
        self._registered[identifier] = _Extension(name, external, events)
        spec = self._spec
        answer = {
            "functionName": spec.function_name,
            "functionVersion": spec.version,
            "handler": spec.handler,
        }
        if "accountId" in headers.get("lambda-extension-accept-feature", ""):
            answer["accountId"] = spec.account
        door.answer(HTTPStatus.OK, msgspec.json.encode(answer), {"Lambda-Extension-Identifier": identifier})

    def _check_registration(self, name: str) -> None:
        if not self._registering:
            closed = "Extension registration closed already"
            raise _Refusal(HTTPStatus.FORBIDDEN, "Extension.RegistrationClosed", closed)
        if any(extension.name == name for extension in self._registered.values()):
            raise _Refusal(
                HTTPStatus.FORBIDDEN, "Extension.AlreadyRegistered", f"{name} has registered already"
            )
        if len(self._registered) >= _MOST:
            many = f"at most {_MOST} extensions may register"
            raise _Refusal(HTTPStatus.FORBIDDEN, "Extension.TooManyExtensions", many)

    def _subscribe(self, door: Door, extension: _Extension, api: str, body: bytes) -> None:
        if not self._registering:
            kind = f"{api.capitalize()}.SubscriptionClosed"
            raise _Refusal(
                HTTPStatus.FORBIDDEN, kind, f"{api.capitalize()} API subscription is closed already"
            )
        try:
            self._telemetry.subscribe(extension.name, api, body)
        except InvalidSubscription as invalid:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "ValidationError", str(invalid)) from invalid
        door.answer(HTTPStatus.OK, b'"OK"')

    def _who(self, headers: Mapping[str, str]) -> _Extension:
        identifier = headers.get(_IDENTIFIER, "")
        if not identifier:
            raise _Refusal(
                HTTPStatus.FORBIDDEN, "Extension.MissingExtensionIdentifier", f"Missing {_IDENTIFIER} header"
            )
        extension = self._registered.get(identifier)
        if extension is None:
            raise _Refusal(
                HTTPStatus.FORBIDDEN,
                "Extension.UnknownExtensionIdentifier",
                f"Unknown extension {identifier}",
            )
        return extension

    def _next(self, door: Door, extension: _Extension) -> None:
        if extension.waiting:
            _deliver(door, extension.waiting.popleft())
            return
        extension.door = door
        self._changed()

    def _tell(self, kind: str, event: Mapping[str, Any]) -> None:
        if not self._registered:
            return
        encoded = msgspec.json.encode(event)
        for extension in self._registered.values():
            if kind not in extension.events:
                continue
            door, extension.door = extension.door, None
            if door is None:
                extension.waiting.append(encoded)
            else:
                _deliver(door, encoded)


def _deliver(door: Door, event: bytes) -> None:
    door.answer(HTTPStatus.OK, event, {"Lambda-Extension-Event-Identifier": str(uuid.uuid4())})


def _directories(spec: EnvironmentSpec) -> list[Path]:
    if spec.image is not None:
        return image_root.extensions(spec.image)
    return [layer / "extensions" for layer in spec.layers]


def _programs(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return [entry.name for entry in directory.iterdir() if entry.is_file() and os.access(entry, os.X_OK)]
