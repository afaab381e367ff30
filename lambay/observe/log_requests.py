"""What the operations of `logs` share: how a request names a group, and how lists are continued."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from lambay.aws import Arn, Call, Service
from lambay.observe.log_errors import group_not_found, invalid
from lambay.observe.log_records import GroupKey
from lambay.observe.log_store import LogStore

Input = Mapping[str, Any]
Output = dict[str, Any]

PAGE_ITEMS = 50


class LogsOperations(Service):
    """A part of the service `logs` over one store."""

    service_name = "logs"

    def __init__(self, store: LogStore) -> None:
        self._store = store


def named_group(call: Call, input: Input) -> GroupKey:
    """The group of `logGroupName` or of `logGroupIdentifier` (a name or an ARN); exactly one is needed."""
    name, identifier = input.get("logGroupName"), input.get("logGroupIdentifier")
    if name is not None and identifier is not None:
        raise invalid("LogGroup name and LogGroup identifier are mutually exclusive parameters.")
    if name is not None:
        return GroupKey(call.account, call.region, name)
    if identifier is None:
        raise invalid("Either logGroupName or logGroupIdentifier must be specified.")
    return identified_group(call, identifier)


def identified_group(call: Call, identifier: str) -> GroupKey:
    """The group of a name or an ARN of this account and Region."""
    if not identifier.startswith("arn:"):
        return GroupKey(call.account, call.region, identifier)
    try:
        parsed = Arn.parse(identifier)
    except ValueError:
        raise invalid(f"Invalid log group identifier: {identifier}") from None
    kind, _, name = parsed.resource.partition(":")
    name = name.removesuffix(":*")
    if parsed.service != "logs" or kind != "log-group" or not name:
        raise invalid(f"Invalid log group identifier: {identifier}")
    if (parsed.account, parsed.region) != (call.account, call.region):
        raise group_not_found()
    return GroupKey(call.account, call.region, name)


def continuation(*place: object) -> str:
    """An opaque `nextToken` for a place in a list."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def continued(token: str | None, *kinds: type) -> list[Any] | None:
    """The place of a `nextToken`, None where there is no token; its parts must be of `kinds`."""
    if token is None:
        return None
    try:
        place = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        place = None
    fits = isinstance(place, list) and len(place) == len(kinds)
    if not fits or not all(type(part) is kind for part, kind in zip(place, kinds, strict=True)):
        raise invalid("The specified nextToken is invalid.")
    return list(place)
