"""`Neighbours`: the door to the services that are not ours."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import UnknownServiceError

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.neighbours import engine as moto_engine
from lambay.neighbours import history, models, operations, queues, requests, snapshot
from lambay.neighbours.bodies import EMPTY, Bodies, Content
from lambay.neighbours.engine import Answer, Engine, Unsupported
from lambay.neighbours.interfaces import Interfaces
from lambay.neighbours.journal import Entry, Journal, Recorded, SnapshotMark
from lambay.neighbours.moment import Moment
from lambay.neighbours.objects import Carried
from lambay.neighbours.snapshot import Unpicklable
from lambay.settings import Settings

log = logging.getLogger(__name__)

R = TypeVar("R")

# A snapshot is taken after so many changes, and at the end where there are enough to be worth one.
_CHANGES_PER_SNAPSHOT = 1000
_CHANGES_WORTH_A_SNAPSHOT = 100

# A body larger than this is kept as a file beside the journal, whatever the service.
_INLINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Status:
    """`entries` counts the journal.

    `snapshot` is the entry up to which a snapshot stands for it, 0 without one.
    """

    loaded: bool
    entries: int
    snapshot: int
    moto: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request on its way to moto."""

    call: Call
    module: str
    request: Recorded
    body: bytes
    content: Content
    changes: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """What a request came to; `entry` is what the journal needs of it."""

    answer: Answer
    entry: Entry | None
    reception: queues.Reception | None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot that is not written yet; `digests` are of the bodies it refers to."""

    seq: int
    state: bytes
    messages: bytes
    digests: set[str]


class Neighbours:
    """Every service that Lambay does not own, by moto in this process, kept in `directory`.

    moto is imported, and its state brought back, when the first request comes. One thread runs it: moto's
    state is not made for two, and the journal's order has to be the order in which things happened. Bodies
    are hashed and stored, and commits awaited, beside that thread.
    """

    def __init__(self, directory: Path, settings: Settings, clock: Clock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._journal = Journal(directory / "journal.db")
        self._bodies = Bodies(directory / "objects")
        self._thread = ThreadPoolExecutor(1, "neighbours")
        self._engine: Engine | None = None
        self._seq = 0
        self._covered = 0
        self._compacted = 0
        self._length = self._journal.length()
        self._loading: asyncio.Lock = asyncio.Lock()
        self._snapshotting = asyncio.Lock()
        self._commits: set[asyncio.Future[None]] = set()
        self._at_work: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self.interfaces = Interfaces(self.on_engine)

    # -- the doors -----------------------------------------------------------------------------------------

    async def handle(self, call: Call, request: Request) -> Response:
        """moto's answer to a client's authenticated request.

        The answer is given once what it changed is durable. Raises AWSError NotImplemented (501) for what
        moto lacks and InternalFailure (500) for a defect of moto; its own errors come as answers.
        """
        answer = await self._answer(call, request)
        return Response(answer.status, dict(answer.headers), answer.body)

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
        """The output of `operation` (`DescribeSubnets`) of botocore's `service` (`ec2`), parsed as boto3
        would.

        A `derived` call is not journaled: its caller does it again after a restart. Raises AWSError with the
        service's code, message and status.
        """
        model = models.service_model(service).operation_model(operation)
        request = models.serialize(model, input, f"{self._settings.host}:{self._settings.port}")
        root = Principal("root", account, f"arn:aws:iam::{account}:root", account)
        call = Call("", account, region, root, service, operation)
        answer = await self._answer(call, request, derived=derived)
        return models.parse(model, answer.status, answer.headers, answer.body)

    async def on_engine(self, work: Callable[[Engine], R]) -> R:
        """What `work` returns, run on moto's thread once moto is loaded; for the parts of this room."""
        await self._load()
        return await self._whole(self._on_engine(work))

    async def reset(self) -> None:
        """Empty every service, durably."""
        await self._whole(self._reset())

    async def snapshot(self) -> None:
        """Write moto's state down, so that the next start need not replay what led to it.

        Where a service holds what cannot be written, there is no snapshot: its journal is kept and replayed.
        """
        await self._load()
        await self._whole(self._snapshot())

    async def close(self) -> None:
        """Finish what is under way and close the journal."""
        if self._at_work:
            await asyncio.gather(*self._at_work, return_exceptions=True)
        if self._engine is not None and self._seq - self._covered >= _CHANGES_WORTH_A_SNAPSHOT:
            await self._snapshot()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._unload)
        self._thread.shutdown()
        self._journal.close()

    async def ready(self) -> None:
        """Returns once moto is loaded and its state is back."""
        await self._load()

    def status(self) -> Status:
        mark = self._journal.snapshot()
        return Status(
            self._engine is not None, self._length, mark.seq if mark else 0, moto_engine.moto_version()
        )

    # -- one request ---------------------------------------------------------------------------------------

    async def _answer(self, call: Call, request: Request, *, derived: bool = False) -> Answer:
        await self._load()
        try:
            prepared = await self._prepare(call, request)
            if prepared.module == "sqs" and call.operation == "ReceiveMessage":
                return await self._receive(prepared)
            return (await self._whole(self._perform(prepared, derived))).answer
        except Unsupported as lacking:
            raise AWSError("NotImplemented", str(lacking), status=501) from None

    async def _prepare(self, call: Call, request: Request) -> _Prepared:
        try:
            model = models.service_model(call.service)
        except UnknownServiceError:
            raise Unsupported(f"The service {call.service} is not implemented.") from None
        module = moto_engine.module_of(call.service)
        prefix = str(model.endpoint_prefix)
        engine = self._engine
        assert engine is not None
        host = engine.host(module, prefix, call.account, call.region)
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
            content = await asyncio.to_thread(self._bodies.keep, body)
        recorded = Recorded(
            request.method,
            host,
            f"{address}?{query}" if query else address,
            requests.headers_for(call, given, str(model.signing_name)),
            b"" if content.pieces else body,
            content.pieces,
        )
        return _Prepared(call, module, recorded, body, content, changes)

    async def _perform(self, prepared: _Prepared, derived: bool = False) -> _Done:
        done = await self._on_engine(lambda engine: self._execute(engine, prepared, derived))
        await self._commit(prepared, done.entry)
        return done

    def _execute(self, engine: Engine, prepared: _Prepared, derived: bool) -> _Done:
        """On moto's thread: the answer, and the entry to be made durable where something changed."""
        call = prepared.call
        at = None
        if prepared.changes:
            at = Moment(self._clock.time(), secrets.token_bytes(32))
            if prepared.content.pieces:
                at.body = Carried(prepared.content, prepared.body)
        queues.take()
        try:
            answer = engine.run(prepared.module, prepared.request, at, prepared.body)
        except Unsupported as lacking:
            text = f"{call.service}:{call.operation or prepared.request.method}: {lacking}"
            raise Unsupported(text) from None
        except Exception:
            log.exception("moto failed at %s:%s (%s)", call.service, call.operation, call.request_id)
            raise AWSError("InternalFailure", "The request processing has failed.", status=500) from None
        reception = queues.take()
        if (
            at is None
            or derived
            or not answer.successful
            or (reception is not None and not reception.changed)
        ):
            return _Done(answer, None, reception)
        self._seq += 1
        subject = _upload_id(answer.body) if call.operation == "CreateMultipartUpload" else ""
        entry = Entry(
            self._seq,
            at.time,
            at.seed,
            call.account,
            call.region,
            prepared.module,
            call.operation,
            prepared.request,
            at.tape,
            subject,
        )
        return _Done(answer, entry, reception)

    async def _commit(self, prepared: _Prepared, entry: Entry | None) -> None:
        births = self._engine.births.take_fresh() if self._engine is not None else []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commits.add(ended)
        try:
            if entry is not None or births:
                await self._journal.append(entry, births)
        except Exception:
            # moto is ahead of the journal now. What it knows beyond is forgotten: the next request loads
            # anew.
            log.exception("the journal could not be written; the neighbours go back to what it holds")
            await asyncio.get_running_loop().run_in_executor(self._thread, self._unload)
            raise AWSError("InternalFailure", "The change could not be made durable.", status=500) from None
        finally:
            self._bodies.settle(prepared.content)
            self._commits.discard(ended)
            ended.set_result(None)
        if entry is not None:
            self._length += 1
            if entry.seq % _CHANGES_PER_SNAPSHOT == 0:
                self._begin(self._snapshot())
            self._changed.set()
            self._changed = asyncio.Event()

    async def _receive(self, prepared: _Prepared) -> Answer:
        """ReceiveMessage with its long poll: waits here, for a change or the hour of a hidden message."""
        start = self._clock.time()
        while True:
            changed = self._changed
            done = await self._whole(self._perform(prepared))
            if done.reception is None or done.reception.delivered:
                return done.answer
            now = self._clock.time()
            deadline = start + done.reception.wait
            if now >= deadline:
                return done.answer
            await self._either(changed, min(deadline, done.reception.due or deadline) - now)

    async def _either(self, changed: asyncio.Event, seconds: float) -> None:
        waits = {asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # -- loading and forgetting ----------------------------------------------------------------------------

    async def _load(self) -> None:
        if self._engine is not None:
            return
        async with self._loading:
            if self._engine is None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._start)

    def _start(self) -> None:
        """On moto's thread: import moto and bring its state back."""
        self._bodies.tidy()
        engine = Engine(self._bodies, self._journal.origin(), self._journal.births(), self._clock.time)
        try:
            mark = self._journal.snapshot()
            self._covered = mark.seq if mark is not None else 0
            if mark is not None and not self._restore(mark):
                for entry in self._journal.entries(0, mark.seq):
                    self._replay(engine, entry)
                queues.restore(snapshot.read(self._directory, mark.messages, mark.messages_sha256))
            for entry in self._journal.entries(self._covered):
                self._replay(engine, entry)
        except BaseException:
            engine.close()
            raise
        self._seq = self._journal.last()
        self._engine = engine

    def _restore(self, mark: SnapshotMark) -> bool:
        """Whether the snapshot could be read; if not, moto is empty after."""
        if mark.version != snapshot.version():
            log.warning("the snapshot is of %s: replaying the whole journal instead", mark.version)
            return False
        try:
            snapshot.load(snapshot.read(self._directory, mark.state, mark.state_sha256))
        except Exception:
            log.exception("the snapshot could not be read: replaying the whole journal instead")
            moto_engine.forget()
            return False
        return True

    def _replay(self, engine: Engine, entry: Entry) -> None:
        try:
            answer = engine.replay(entry)
        except Exception:
            log.exception(
                "journal entry %d (%s %s) could not be replayed", entry.seq, entry.module, entry.operation
            )
            return
        if not answer.successful:
            log.error(
                "journal entry %d (%s %s) was answered %d when replayed: %.200s",
                entry.seq,
                entry.module,
                entry.operation,
                answer.status,
                answer.body.decode(errors="replace"),
            )

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    async def _reset(self) -> None:
        def forget() -> None:
            self._unload()
            self._journal.clear()
            self._bodies.clear()
            self._seq = self._length = 0

        await asyncio.get_running_loop().run_in_executor(self._thread, forget)

    # -- snapshots -----------------------------------------------------------------------------------------

    async def _snapshot(self) -> None:
        """Ordered so that a crash at any point leaves either the old snapshot or the new one with all it
        needs.
        """
        async with self._snapshotting:
            self._bodies.begin_sweep()
            engine = self._engine
            try:
                taken = await self._on_engine(self._take)
            except Unpicklable as reason:
                log.warning("no snapshot was taken, the journal stays whole: %s", reason)
                return
            # Everything the state holds has begun its commit by now; one that fails unloads the engine.
            if self._commits:
                await asyncio.wait(set(self._commits))
            if self._engine is not engine:
                return
            await asyncio.to_thread(self._keep, taken)

    def _take(self, engine: Engine) -> _Taken:
        state, digests = snapshot.dump()
        return _Taken(self._seq, state, queues.messages(), digests)

    def _keep(self, taken: _Taken) -> None:
        state, messages = f"state-{taken.seq}.pickle", f"messages-{taken.seq}.msgpack"
        mark = SnapshotMark(
            taken.seq,
            state,
            snapshot.write(self._directory, state, taken.state),
            messages,
            snapshot.write(self._directory, messages, taken.messages),
            snapshot.version(),
        )
        self._journal.mark(mark, history.MESSAGE_OPERATIONS)
        self._covered = taken.seq
        if taken.seq - self._compacted >= max(_CHANGES_WORTH_A_SNAPSHOT, self._journal.length() // 4):
            self._journal.drop(list(history.superseded(self._journal.entries(0, taken.seq))))
            self._compacted = taken.seq
        self._length = self._journal.length()
        self._bodies.sweep(self._journal.referenced() | taken.digests)
        for path in [*self._directory.glob("state-*"), *self._directory.glob("messages-*")]:
            if path.name not in (state, messages):
                path.unlink(missing_ok=True)

    # -- running to the end --------------------------------------------------------------------------------

    async def _on_engine(self, work: Callable[[Engine], R]) -> R:
        def run() -> R:
            if self._engine is None:
                self._start()
            assert self._engine is not None
            return work(self._engine)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def _whole(self, work: Coroutine[Any, Any, R]) -> R:
        """`work` to its end, even when the caller goes away: what moto did has to reach the journal."""
        return await asyncio.shield(self._begin(work))

    def _begin(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task


def _upload_id(body: bytes) -> str:
    found = re.search(rb"<UploadId>([^<]+)</UploadId>", body)
    return found[1].decode() if found else ""
