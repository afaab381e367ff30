"""moto on a thread of its own, with a journal of what it did and snapshots of what it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lambay.clock import Clock
from lambay.neighbours import engine as moto_engine
from lambay.neighbours import history, queues, snapshot
from lambay.neighbours.bodies import EMPTY, Bodies, Content
from lambay.neighbours.engine import Engine
from lambay.neighbours.journal import Birth, Entry, Journal, SnapshotMark
from lambay.neighbours.snapshot import Unpicklable

log = logging.getLogger(__name__)

R = TypeVar("R")

# A snapshot is taken after so many changes, and at the end where there are enough to be worth one.
_CHANGES_PER_SNAPSHOT = 500
_CHANGES_WORTH_A_SNAPSHOT = 100


class NotDurable(Exception):
    """The journal could not be written. moto is back at what the journal holds."""


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a piece of work on `engine` came to, and what has to be durable before anybody hears of it."""

    engine: Engine
    result: Any
    entry: Entry | None
    births: list[Birth]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot that is not written yet; `digests` are of the bodies it refers to."""

    seq: int
    state: bytes
    messages: bytes
    digests: set[str]


class DurableMoto:
    """One thread runs moto: its state is not made for two, and the journal's order has to be the order in
    which things happened. Commits are awaited beside that thread.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # The journal's seeds are the keys of KMS.
        directory.chmod(0o700)
        self._directory = directory
        self._clock = clock
        self._journal = Journal(directory / "journal.db")
        self._thread = ThreadPoolExecutor(1, "moto")
        self._engine: Engine | None = None
        self._seq = 0
        self._covered = 0
        self._compacted = 0
        self._loading = asyncio.Lock()
        self._snapshotting = asyncio.Lock()
        self._commits: set[asyncio.Future[None]] = set()
        self._at_work: set[asyncio.Task[Any]] = set()
        self.bodies = Bodies(directory / "objects")
        self.entries = self._journal.length()

    @property
    def loaded(self) -> bool:
        return self._engine is not None

    @property
    def covered(self) -> int:
        """The entry up to which a snapshot stands for the journal, 0 without one."""
        mark = self._journal.snapshot()
        return mark.seq if mark is not None else 0

    async def ready(self) -> Engine:
        """moto, imported and with its state back."""
        while (engine := self._engine) is None:
            async with self._loading:
                await self._on_thread(self._start)
        return engine

    async def perform(self, work: Callable[[Engine], tuple[R, Entry | None]], content: Content = EMPTY) -> R:
        """The result of `work`, run on moto's thread, once the entry it gives is durable.

        `content` is the stored body that the entry refers to. The work is done to its end even where the
        caller goes away: what moto did has to reach the journal. Raises NotDurable, or what `work` raises.
        """
        await self.ready()
        return await self.whole(self._perform(work, content))

    async def run(self, work: Callable[[Engine], R]) -> R:
        """The result of `work`, which changes nothing that has to last."""
        return await self.perform(lambda engine: (work(engine), None))

    async def whole(self, work: Coroutine[Any, Any, R]) -> R:
        """The result of `work`, which goes on to its end even where the caller goes away."""
        return await asyncio.shield(self._begin(work))

    async def snapshot(self) -> None:
        """Write moto's state down, so that the next start need not replay what led to it.

        Where a service holds what cannot be written, there is no snapshot: its journal is kept and replayed.
        """
        await self.ready()
        await self.whole(self._snapshot())

    async def reset(self) -> None:
        """Forget everything, durably."""
        await self.whole(self._on_thread(self._clear))

    async def close(self) -> None:
        """Finish what is under way and close the journal."""
        if self._at_work:
            await asyncio.gather(*self._at_work, return_exceptions=True)
        if self._engine is not None and self._seq - self._covered >= _CHANGES_WORTH_A_SNAPSHOT:
            await self._snapshot_if_possible()
        await self._on_thread(lambda: self._unload(self._engine))
        self._thread.shutdown()
        self._journal.close()

    # -- one piece of work ---------------------------------------------------------------------------------

    async def _perform(self, work: Callable[[Engine], tuple[R, Entry | None]], content: Content) -> R:
        try:
            ran = await self._on_thread(lambda: self._run(work))
            if ran.entry is not None or ran.births:
                await self._commit(ran)
        finally:
            self.bodies.settle(content)
        result: R = ran.result
        return result

    def _run(self, work: Callable[[Engine], tuple[Any, Entry | None]]) -> _Ran:
        if self._engine is None:
            self._start()
        engine = self._engine
        assert engine is not None
        result, entry = work(engine)
        if entry is not None:
            self._seq += 1
            entry = msgspec.structs.replace(entry, seq=self._seq)
        return _Ran(engine, result, entry, engine.births.take_fresh())

    async def _commit(self, ran: _Ran) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commits.add(ended)
        try:
            await self._journal.append(ran.entry, ran.births)
        except Exception as error:
            # moto is ahead of the journal now. What it knows beyond is forgotten: the next request loads
            # anew.
            log.exception("the journal could not be written; the neighbours go back to what it holds")
            await self._on_thread(lambda: self._unload(self._engine))
            raise NotDurable(str(error)) from error
        finally:
            self._commits.discard(ended)
            ended.set_result(None)
        if ran.entry is not None:
            self.entries += 1
            if ran.entry.seq % _CHANGES_PER_SNAPSHOT == 0:
                self._begin(self._snapshot_if_possible())

    # -- loading and forgetting ----------------------------------------------------------------------------

    def _start(self) -> None:
        if self._engine is not None:
            return
        self.bodies.tidy()
        engine = Engine(self.bodies, self._journal.origin(), self._journal.births(), self._clock.time)
        try:
            mark = self._journal.snapshot()
            self._covered = mark.seq if mark is not None else 0
            restored = mark is None or self._restore(mark)
            engine.make_default_keys()
            if mark is not None and not restored:
                for entry in self._journal.entries(0, mark.seq):
                    _replay(engine, entry)
                self._restore_messages(mark)
            for entry in self._journal.entries(self._covered):
                _replay(engine, entry)
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

    def _restore_messages(self, mark: SnapshotMark) -> None:
        try:
            queues.restore(snapshot.read(self._directory, mark.messages, mark.messages_sha256))
        except Exception:
            log.exception(
                "the messages of the queues could not be read; the queues keep what the journal has"
            )

    def _unload(self, engine: Engine | None) -> None:
        """Let go of `engine`, unless another has taken its place."""
        if engine is not None and engine is self._engine:
            engine.close()
            self._engine = None

    def _clear(self) -> None:
        self._unload(self._engine)
        self._journal.clear()
        self.bodies.clear()
        for path in self._snapshots():
            path.unlink(missing_ok=True)
        self._seq = self._covered = self._compacted = self.entries = 0

    # -- snapshots -----------------------------------------------------------------------------------------

    async def _snapshot(self) -> None:
        """Ordered so that a crash at any point leaves either the old snapshot or the new one with all it
        needs.
        """
        async with self._snapshotting:
            self.bodies.begin_sweep()
            engine = self._engine
            try:
                taken = await self._on_thread(self._take)
            except Unpicklable as reason:
                log.warning("no snapshot was taken, the journal stays whole: %s", reason)
                return
            # Everything the state holds has begun its commit by now; one that fails unloads the engine.
            if self._commits:
                await asyncio.wait(set(self._commits))
            if taken is not None and self._engine is engine:
                await asyncio.to_thread(self._keep, taken)

    async def _snapshot_if_possible(self) -> None:
        """Nobody waits for this one: the journal holds everything all the same."""
        try:
            await self._snapshot()
        except Exception:
            log.exception("no snapshot could be written; the next start replays the journal")

    def _take(self) -> _Taken | None:
        if self._engine is None:
            return None
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
        self.entries = self._journal.length()
        self.bodies.sweep(self._journal.referenced() | taken.digests)
        for path in self._snapshots():
            if path.name not in (state, messages):
                path.unlink(missing_ok=True)

    def _snapshots(self) -> list[Path]:
        return [*self._directory.glob("state-*"), *self._directory.glob("messages-*")]

    # -- threads and tasks ---------------------------------------------------------------------------------

    async def _on_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _begin(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task


def _replay(engine: Engine, entry: Entry) -> None:
    """Errors are logged and passed over: one entry that fails must not keep all the others away."""
    try:
        answer = engine.replay(entry)
    except Exception:
        log.exception(
            "journal entry %d (%s %s) could not be replayed", entry.seq, entry.module, entry.operation
        )
        return
    if not answer.successful:
        text = bytes(answer.body).decode(errors="replace")
        log.error(
            "journal entry %d (%s %s) was answered %d when replayed: %.200s",
            entry.seq,
            entry.module,
            entry.operation,
            answer.status,
            text,
        )
