"""SQS's long poll, taken out of moto.

There it would hold moto's only thread, and frozen time would never end it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from lambay.neighbours.adapt import adapter


@dataclass(frozen=True, slots=True)
class Reception:
    """What one ReceiveMessage did without waiting.

    `wait` is how long the caller is willing to wait, in seconds; `due` when a hidden or delayed message of
    the queue is next due, in seconds since the epoch, or None. `changed`: messages were delivered or moved to
    a dead-letter queue.
    """

    wait: float
    delivered: int
    changed: bool
    due: float | None


_local = threading.local()


def take() -> Reception | None:
    """The reception of the request this thread ran last, once."""
    reception: Reception | None = getattr(_local, "reception", None)
    _local.reception = None
    return reception


@adapter("moto.sqs.models")
def _without_waiting(module: Any) -> None:
    receive = module.SQSBackend.receive_message

    def receive_at_once(
        self: Any, queue_name: str, count: int, wait_seconds_timeout: int, *args: Any, **kwargs: Any
    ) -> Any:
        queue = self.get_queue(queue_name)
        held = len(queue._messages)
        messages = receive(self, queue_name, count, 0, *args, **kwargs)
        now = module.unix_time_millis()
        hours = (max(message.visible_at, message.delayed_until) for message in queue._messages)
        due = min((hour for hour in hours if hour > now), default=None)
        _local.reception = Reception(
            float(wait_seconds_timeout or 0),
            len(messages),
            bool(messages) or len(queue._messages) != held,
            None if due is None else due / 1000,
        )
        return messages

    module.SQSBackend.receive_message = receive_at_once


def messages() -> bytes:
    """All messages of all queues, for `restore` by any version of moto."""
    kept = [
        (
            account,
            region,
            name,
            [(vars(message), message in queue.pending_messages) for message in queue._messages],
        )
        for account, region, backend in _backends()
        for name, queue in backend.queues.items()
        if queue._messages
    ]
    return msgspec.msgpack.encode(kept)


def _backends() -> Iterator[tuple[str, str, Any]]:
    from moto.sqs.models import sqs_backends

    yield from sqs_backends.iter_backends()


def restore(octets: bytes) -> None:
    """Make `messages` the messages of the queues, in place of all they hold.

    Queues that are gone are passed over.
    """
    from moto.sqs.models import Message, sqs_backends

    for _account, _region, backend in _backends():
        for queue in backend.queues.values():
            queue._messages = []
            queue._pending_messages = set()
    for account, region, name, kept in msgspec.msgpack.decode(octets):
        queue = sqs_backends[account][region].queues.get(name)
        if queue is None:
            continue
        for attributes, pending in kept:
            message = Message(attributes["id"], attributes["body"])
            vars(message).update({key: value for key, value in attributes.items() if key in vars(message)})
            queue._messages.append(message)
            if pending:
                queue._pending_messages.add(message)
