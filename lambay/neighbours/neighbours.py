"""`Neighbours`: the door to the services that are not ours."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.neighbours import boundaries as boundaries
from lambay.neighbours import engine as moto_engine
from lambay.neighbours import invocations, models, operations, queues, requests
from lambay.neighbours import security_groups as security_groups
from lambay.neighbours import vpc_endpoints as vpc_endpoints
from lambay.neighbours.bodies import EMPTY, Content
from lambay.neighbours.durable import DurableMoto, NotDurable
from lambay.neighbours.engine import Answer, Engine, Unsupported
from lambay.neighbours.interfaces import Interfaces
from lambay.neighbours.journal import Entry, Recorded
from lambay.neighbours.moment import Moment
from lambay.neighbours.objects import Carried
from lambay.settings import Settings

log = logging.getLogger(__name__)

R = TypeVar("R")

Answering = Callable[[Call, dict[str, Any]], Awaitable[dict[str, Any]]]

# A body larger than this is kept as a file beside the journal, whatever the service.
_INLINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Status:
    """`entries` counts the journal; a snapshot stands for it up to entry `snapshot`, 0 without one."""

    loaded: bool
    entries: int
    snapshot: int
    moto: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request on its way to moto; `body` is in `content` as well where it is stored."""

    call: Call
    module: str
    request: Recorded
    body: bytes
    content: Content
    changes: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """What a request came to; `touched` are the queues whose messages it changed.

    `invoked` are the events that functions get of it.
    """

    answer: Answer
    reception: queues.Reception | None
    touched: frozenset[str]
    invoked: tuple[invocations.Invocation, ...]


class Neighbours:
    """Every service that Lambay does not own, by moto in this process, kept in `directory`.

    moto is imported, and its state brought back, when the first request comes. `interfaces` are the derived
    network interfaces.
    """

    def __init__(self, directory: Path, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._moto = DurableMoto(directory, clock)
        self._pollers = queues.Pollers()
        self.interfaces = Interfaces(self._moto.run)
        self._listeners: dict[str, list[Callable[[str, str], None]]] = {}
        self._instead: dict[tuple[str, str], Answering] = {}
        self._deliver: Callable[[invocations.Invocation], Awaitable[None]] = _undelivered

    def on_change(self, service: str, listener: Callable[[str, str], None]) -> None:
        """Call `listener` with account and Region after each change of `service` that is durable."""
        self._listeners.setdefault(service, []).append(listener)

    def on_invocation(self, deliver: Callable[[invocations.Invocation], Awaitable[None]]) -> None:
        """Give what the neighbours would invoke functions with to `deliver`, once its cause is durable."""
        self._deliver = deliver

    def answer_instead(self, service: str, operation: str, answer: Answering) -> None:
        """Have an operation of a JSON service answered by another room, from its call and parsed input."""
        self._instead[service, operation] = answer

    async def handle(self, call: Call, request: Request) -> Response:
        """moto's answer to a client's authenticated request.

        The answer is given once what it changed is durable. Raises AWSError NotImplemented (501) for what
        moto lacks and InternalFailure (500) for a defect of moto; its own errors come as answers.
        """
        instead = self._instead.get((call.service, call.operation))
        if instead is not None:
            output = await instead(call, msgspec.json.decode(request.body or b"{}"))
            return Response(200, {"content-type": "application/x-amz-json-1.1"}, msgspec.json.encode(output))
        answer = await self._answer(call, request)
        return Response(answer.status, dict(answer.headers), await _read(answer))

    async def call(
        self,
        service: str,
        operation: str,
        input: dict[str, Any],
        *,
        account: str,
        region: str,
        derived: bool = False,
    ) -> dict[str, Any]:
        """The output of `operation` (`DescribeSubnets`) of botocore's `service` (`ec2`), as boto3 gives it.

        A `derived` call is not journaled: its caller does it again after a restart. Raises AWSError with the
        service's code, message and status.
        """
        model = (await asyncio.to_thread(models.service_model, service)).operation_model(operation)
        request = models.serialize(model, input, f"{self._settings.host}:{self._settings.port}")
        root = Principal("root", account, f"arn:aws:iam::{account}:root", account)
        call = Call("", account, region, root, service, operation)
        answer = await self._answer(call, request, derived=derived)
        return models.parse(model, answer.status, answer.headers, await _read(answer))

    async def ready(self) -> None:
        """Returns once moto is loaded and its state is back."""
        await self._moto.ready()

    async def run(self, work: Callable[[Engine], R]) -> R:
        """What `work` returns, run on moto's thread; for the parts of this room that read moto's objects."""
        return await self._moto.run(work)

    async def snapshot(self) -> None:
        """Write moto's state down now; it is done by itself every few hundred changes and at the end."""
        await self._moto.snapshot()

    async def reset(self) -> None:
        """Empty every service, durably."""
        await self._moto.reset()

    async def close(self) -> None:
        """Finish what is under way and close the journal."""
        await self._moto.close()

    def status(self) -> Status:
        moto = self._moto
        return Status(moto.loaded, moto.entries, moto.covered, moto_engine.moto_version())

    # -- one request ---------------------------------------------------------------------------------------

    async def _answer(self, call: Call, request: Request, *, derived: bool = False) -> Answer:
        engine = await self._moto.ready()
        try:
            prepared = await self._prepare(engine, call, request)
            if prepared.module == "sqs" and call.operation == "ReceiveMessage":
                return await self._receive(prepared)
            return (await self._perform(prepared, derived)).answer
        except Unsupported as lacking:
            raise AWSError("NotImplemented", str(lacking), status=501) from None
        except NotDurable:
            raise AWSError("InternalFailure", "The change could not be made durable.", status=500) from None

    async def _prepare(self, engine: Engine, call: Call, request: Request) -> _Prepared:
        where = (call.service, call.account, call.region)
        place = engine.known_place(*where)
        if place is None:
            place = await self._moto.run(lambda engine: engine.place(*where))
        module, host = place.module, place.host
        body, given, path = request.body, dict(request.headers), request.path
        if module == "s3":
            path = requests.path_style(request)
            body, given = requests.plain_body(request)
        seen = request.headers.get("host") or host
        address = f"{request.scheme}://{seen if module == 'sqs' else host}{path or '/'}"
        query = requests.unsigned(request.query)
        changes = operations.changes(call.service, call.operation, request.method)
        content = EMPTY
        if changes and (len(body) > _INLINE_BYTES or (module == "s3" and request.method == "PUT")):
            content = await asyncio.to_thread(self._moto.bodies.keep, body)
        recorded = Recorded(
            request.method,
            host,
            f"{address}?{query}" if query else address,
            requests.headers_for(call, given, place.signing_name),
            b"" if content.pieces else body,
            content.pieces,
        )
        return _Prepared(call, module, recorded, body, content, changes)

    async def _perform(self, prepared: _Prepared, derived: bool = False) -> _Done:
        """To its end even where the client goes away: others wait for what a change sets off."""
        return await self._moto.whole(self._perform_whole(prepared, derived))

    async def _perform_whole(self, prepared: _Prepared, derived: bool) -> _Done:
        done = await self._moto.perform(
            lambda engine: self._execute(engine, prepared, derived), prepared.content
        )
        self._pollers.touched(done.touched)
        for invocation in done.invoked:
            await self._deliver(invocation)
        if prepared.changes and done.answer.successful:
            for listener in self._listeners.get(prepared.call.service, ()):
                listener(prepared.call.account, prepared.call.region)
        return done

    def _execute(self, engine: Engine, prepared: _Prepared, derived: bool) -> tuple[_Done, Entry | None]:
        """On moto's thread: the answer, and the entry to be made durable where something changed."""
        call = prepared.call
        at = None
        if prepared.changes:
            at = Moment(self._clock.time(), secrets.token_bytes(32))
            if prepared.content.pieces:
                at.body = Carried(prepared.content, prepared.body)
        queues.take()
        invocations.take()
        try:
            answer = engine.run(prepared.module, prepared.request, at, prepared.body)
        except Unsupported as lacking:
            text = f"{call.service}:{call.operation or prepared.request.method}: {lacking}"
            raise Unsupported(text) from None
        except Exception:
            log.exception("moto failed at %s:%s (%s)", call.service, call.operation, call.request_id)
            raise AWSError("InternalFailure", "The request processing has failed.", status=500) from None
        reception = queues.take()
        done = _Done(answer, reception, queues.take_touched(), invocations.take())
        without_effect = not answer.successful or (reception is not None and not reception.changed)
        if at is None or derived or without_effect:
            return done, None
        entry = Entry(
            0,
            at.time,
            at.seed,
            call.account,
            call.region,
            prepared.module,
            call.operation,
            prepared.request,
            at.tape,
            _upload_id(bytes(answer.body)) if call.operation == "CreateMultipartUpload" else "",
        )
        return done, entry

    async def _receive(self, prepared: _Prepared) -> Answer:
        """ReceiveMessage with its long poll: waits here, for a change or the hour of a hidden message."""
        start = self._clock.time()
        while True:
            stamp = self._pollers.stamp
            done = await self._perform(prepared)
            if done.reception is None or done.reception.delivered:
                return done.answer
            now = self._clock.time()
            deadline = start + done.reception.wait
            if now >= deadline:
                return done.answer
            due = min(deadline, done.reception.due or deadline) - now
            await self._pollers.wait(done.reception.queue, stamp, functools.partial(self._clock.sleep, due))


async def _undelivered(invocation: invocations.Invocation) -> None:
    log.warning("no functions here: an event for %s is dropped", invocation.function_arn)


async def _read(answer: Answer) -> bytes:
    body = answer.body
    return body if isinstance(body, bytes) else await asyncio.to_thread(bytes, body)


def _upload_id(body: bytes) -> str:
    found = re.search(rb"<UploadId>([^<]+)</UploadId>", body)
    return found[1].decode() if found else ""
