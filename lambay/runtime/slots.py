"""The supply of slots: some are kept ready for every language in use, others are started when asked for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable

from lambay.runtime.capacity import ENVIRONMENT_DESCRIPTORS, ENVIRONMENT_MB, spare_descriptors, spare_mb
from lambay.runtime.identities import Identities
from lambay.runtime.images import Image
from lambay.runtime.languages import Language
from lambay.runtime.slot import Host, Remainder, Slot
from lambay.runtime.spec import SandboxFailure

_log = logging.getLogger("lambay.runtime")

_REFILL_AFTER = 0.1

# More starts at once only take the processor from each other.
_STARTS_AT_ONCE = 8


class Slots:
    """`spare` is how many are kept ready for each language."""

    def __init__(self, host: Host, identities: Identities, spare: int) -> None:
        self._host = host
        self._identities = identities
        self._spare = spare
        self._ready: dict[Language, deque[Slot]] = {}
        self._started = 0
        self._starting: dict[Language, int] = {}
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._refills: set[asyncio.Task[None]] = set()
        self._due: dict[Language, asyncio.TimerHandle] = {}
        self._stopping = False
        self._alive = 0
        self._none_alive = asyncio.Event()

    @property
    def ready(self) -> int:
        return sum(len(waiting) for waiting in self._ready.values())

    async def take(self, language: Language) -> Slot:
        """A slot, ready if there is one; `refill` is due when there is time for it. Raises SandboxFailure."""
        waiting = self._ready.setdefault(language, deque())
        while waiting:
            # The oldest is the likeliest to have its interpreter up.
            slot = waiting.popleft()
            if not slot.exited.done():
                return slot
            await self.end(slot)
        start = asyncio.create_task(self._start(language), name="slot")
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            # Nobody wants it any more; somebody will.
            keep = asyncio.create_task(self._keep(language, start), name="spare slot")
            self._refills.add(keep)
            keep.add_done_callback(self._refills.discard)
            raise

    async def start(self, language: Language, image: Image) -> Slot:
        """A slot for one container image, which no other could use. Raises SandboxFailure."""
        start = asyncio.create_task(self._start(language, image), name="slot of an image")
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            await asyncio.wait([start])
            if start.exception() is None:
                await self.end(start.result())
            raise

    async def again(self, language: Language, image: Image | None, remainder: Remainder) -> Slot:
        """A slot with the uid and the /tmp of one that was parted with. Raises SandboxFailure."""
        start = asyncio.create_task(
            self._start(language, image, remainder), name="slot of a reset environment"
        )
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            await asyncio.wait([start])
            if start.exception() is None:
                await self.end(start.result())
            raise

    def refill_soon(self, language: Language) -> None:
        """As `refill`, but not while the environment that took the last one wants the processor."""
        if language not in self._due:
            loop = asyncio.get_running_loop()
            self._due[language] = loop.call_later(_REFILL_AFTER, self._refill_due, language)

    def refill(self, language: Language) -> None:
        """Start, in the background, what is missing of the spare ones."""
        waiting = self._ready.setdefault(language, deque())
        missing = self._spare - len(waiting) - self._starting.get(language, 0)
        if self._stopping or spare_mb() < missing * ENVIRONMENT_MB:
            return
        if spare_descriptors() < missing * ENVIRONMENT_DESCRIPTORS:
            return
        for _ in range(missing):
            self._starting[language] = self._starting.get(language, 0) + 1
            task = asyncio.create_task(self._add(language), name="spare slot")
            self._refills.add(task)
            task.add_done_callback(self._refills.discard)

    async def end(self, slot: Slot) -> None:
        try:
            await slot.end()
        finally:
            # Whatever went wrong, a stop does not wait for it.
            self._gone(slot.uid)

    async def part(self, slot: Slot) -> Remainder | None:
        """End a slot whose environment goes on in another one: what that may have of this, if it could be kept."""
        try:
            remainder = await slot.remainder()
        except OSError as error:
            _log.warning("slot %d: its /tmp is lost: %s", slot.number, error)
            await self.end(slot)
            return None
        await slot.end()
        return remainder

    async def discard(self, remainder: Remainder) -> None:
        """Give back what no environment needs any more."""
        # With its last descriptor the file system is unmounted.
        await self._host.aside(os.close, remainder.scratch)
        self._gone(remainder.uid)

    async def settled(self) -> None:
        """Return once all refills, due or under way, are done and their interpreters wait."""
        for language, timer in list(self._due.items()):
            timer.cancel()
            self._refill_due(language)
        while self._refills:
            await asyncio.wait(set(self._refills))
        for waiting in self._ready.values():
            for slot in waiting:
                await slot.ready()

    async def stop(self) -> None:
        self._stopping = True
        for timer in self._due.values():
            timer.cancel()
        if self._refills:
            await asyncio.wait(set(self._refills))
        spare = [slot for waiting in self._ready.values() for slot in waiting]
        self._ready.clear()
        await asyncio.gather(*(self.end(slot) for slot in spare))
        # Those that somebody waited for who is told only now that it was in vain.
        if self._alive:
            await self._none_alive.wait()

    def _refill_due(self, language: Language) -> None:
        del self._due[language]
        self.refill(language)

    async def _start(
        self, language: Language, image: Image | None = None, remainder: Remainder | None = None
    ) -> Slot:
        if remainder is None:
            self._alive += 1
            uid, scratch = self._identities.take(), None
        else:
            uid, scratch = remainder.uid, remainder.scratch
        try:
            async with self._starts:
                if self._stopping:
                    raise SandboxFailure("Lambay is stopping")
                self._started += 1
                return await Slot.start(self._host, self._started, uid, language, image, scratch)
        except BaseException:
            self._gone(uid)
            raise
        finally:
            if scratch is not None:
                await self._host.aside(os.close, scratch)

    def _gone(self, uid: int) -> None:
        self._identities.give_back(uid)
        self._alive -= 1
        if self._stopping and not self._alive:
            self._none_alive.set()

    async def _add(self, language: Language) -> None:
        try:
            await self._keep(language, self._start(language))
        finally:
            self._starting[language] -= 1

    async def _keep(self, language: Language, start: Awaitable[Slot]) -> None:
        try:
            self._ready[language].append(await start)
        except Exception as error:
            _log.warning("no spare sandbox: %s", error)
