"""SQS's long poll, taken out of moto.

There it would hold moto's only thread, and frozen time would never end it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from lambay.neighbours.adapt import adapter


@dataclass(frozen=True, slots=True)
class Reception:
    """What one ReceiveMessage on `queue` (an ARN) did without waiting.

    `wait` is how long the caller is willing to wait, in seconds; `due` when a hidden or delayed message of
    the queue is next due, in seconds since the epoch, or None. `changed`: messages were delivered or moved to
    a dead-letter queue.
    """

    queue: str
    wait: float
    delivered: int
    changed: bool
    due: float | None


_local = threading.local()


def take_touched() -> frozenset[str]:
    """The ARNs of the queues of which this thread has, since the last call, changed what can be received."""
    touched = frozenset(getattr(_local, "touched", ()))
    _local.touched = set()
    return touched


def _touch(queue: Any) -> None:
    if not hasattr(_local, "touched"):
        _local.touched = set()
    _local.touched.add(queue.queue_arn)


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
        due = min((hour for hour in hours if hour >= now), default=None)
        _local.reception = Reception(
            queue.queue_arn,
            float(wait_seconds_timeout or 0),
            len(messages),
            bool(messages) or len(queue._messages) != held,
            None if due is None else due / 1000,
        )
        return messages

    module.SQSBackend.receive_message = receive_at_once


@adapter("moto.sqs.models")
def _telling_who_waits(module: Any) -> None:
    add, delete = module.Queue.add_message, module.Queue.delete_message
    change = module.SQSBackend.change_message_visibility

    def add_message(self: Any, message: Any) -> None:
        _touch(self)
        add(self, message)

    def delete_message(self: Any, receipt_handle: str) -> None:
        # The next message of a FIFO queue's group may be free now.
        _touch(self)
        delete(self, receipt_handle)

    def change_message_visibility(self: Any, queue_name: str, *args: Any, **kwargs: Any) -> None:
        _touch(self.get_queue(queue_name))
        change(self, queue_name, *args, **kwargs)

    module.Queue.add_message, module.Queue.delete_message = add_message, delete_message
    module.SQSBackend.change_message_visibility = change_message_visibility


class Pollers:
    """Who waits for messages, on the event loop; `touched` is told after each request that touched queues.

    The order of a poll: `stamp`, then the receive, then `wait` with that stamp. So no message is missed that
    came in between.
    """

    def __init__(self) -> None:
        self._stamp = 0
        self._touched: dict[str, int] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def stamp(self) -> int:
        return self._stamp

    def touched(self, queues: Iterable[str]) -> None:
        for queue in queues:
            self._stamp += 1
            self._touched[queue] = self._stamp
            for waiting in self._waiting.pop(queue, ()):
                if not waiting.done():
                    waiting.set_result(None)

    async def wait(self, queue: str, stamp: int, until: Callable[[], Awaitable[None]]) -> None:
        """Until `queue` has been touched since `stamp`, or until `until`, which is called to wait, is done."""
        if self._touched.get(queue, 0) > stamp:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(queue, set()).add(waiting)
        ends = asyncio.ensure_future(until())
        try:
            await asyncio.wait({waiting, ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ends.cancel()
            waiting.cancel()
            others = self._waiting.get(queue, set())
            others.discard(waiting)
            if not others:
                self._waiting.pop(queue, None)


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
