"""Which blobs are kept: those of images that a repository has or a function was made of, and those just pushed.

A client pushes an image's parts before its manifest and does not push what it was told is there already: whatever
was asked for or came within the last hour is kept as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path

import msgspec

from lambay.clock import Clock
from lambay.registry.blobs import Blobs

PUSH_SECONDS = 3600.0
"""How long a blob is kept that nothing refers to."""

_log = logging.getLogger(__name__)

Manifests = Callable[[], Awaitable[Collection[str]]]


class Retention:
    """`manifests` tells the documents of every image in a repository; `layouts` holds a directory for each image
    that was run, by its digest."""

    def __init__(self, blobs: Blobs, layouts: Path, manifests: Manifests, clock: Clock) -> None:
        self.functions: Callable[[], Collection[str]] = tuple
        """The digests (hex) of the images that functions are made of."""
        self._blobs = blobs
        self._layouts = layouts
        self._manifests = manifests
        self._clock = clock
        # What lay there before may be part of a push that goes on.
        self._began = clock.time()
        self._touched: dict[str, float] = {}
        self._touching = threading.Lock()
        self._collecting = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="registry: unused blobs")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def touch(self, digests: Iterable[str]) -> None:
        """Keep them for another hour. From any thread, before it is told that they are there."""
        now = self._clock.time()
        with self._touching:
            self._touched.update(dict.fromkeys(digests, now))

    def changed(self) -> None:
        """An image may have gone."""
        self._wanted.set()

    async def collect(self) -> float | None:
        """Remove what is not kept; the seconds until that is worth another try, None where it is not."""
        async with self._collecting:
            return await self._collect()

    async def _collect(self) -> float | None:
        manifests = await self._manifests()
        kept = set[str]()
        for manifest in manifests:
            kept.add(f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}")
            kept.update(_parts(manifest.encode()))
        found, of_functions = await asyncio.to_thread(self._look)
        kept.update(of_functions)
        waiting: list[float] = []
        gone: list[Path] = []
        for digest in found:
            if digest in kept:
                continue
            with self._touching:
                last = self._touched.get(digest, self._began)
                if last + PUSH_SECONDS > self._clock.time():
                    waiting.append(last)
                    continue
                self._touched.pop(digest, None)
                gone.append(self._blobs.put_aside(digest))
        if gone:
            await asyncio.to_thread(self._remove, gone)
            _log.info("%d blobs of images that are no more were removed", len(gone))
        return min(waiting) + PUSH_SECONDS - self._clock.time() if waiting else None

    async def _run(self) -> None:
        again: float | None = None
        while True:
            await self._due(again)
            self._wanted.clear()
            try:
                again = await self.collect()
            except Exception:
                _log.exception("unused blobs of images were not removed")
                again = None

    async def _due(self, seconds: float | None) -> None:
        """Return when an image may have gone, or after that time."""
        due: list[asyncio.Task[object]] = [asyncio.create_task(self._wanted.wait())]
        if seconds is not None:
            due.append(asyncio.create_task(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(due, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in due:
                task.cancel()
            await asyncio.gather(*due, return_exceptions=True)

    def _look(self) -> tuple[list[str], set[str]]:
        """All blobs, and those of functions' images."""
        kept = set[str]()
        for image in self.functions():
            kept.add(f"sha256:{image}")
            with contextlib.suppress(FileNotFoundError):
                kept.update(_parts(self._blobs.path(f"sha256:{image}").read_bytes()))
        return self._blobs.digests(), kept

    def _remove(self, gone: Collection[Path]) -> None:
        for path in gone:
            path.unlink(missing_ok=True)
        for layout in self._layouts.iterdir():
            if not self._blobs.has(f"sha256:{layout.name}"):
                shutil.rmtree(layout, ignore_errors=True)


def _parts(manifest: bytes) -> list[str]:
    """The digests that a manifest or an index refers to; none where it is neither: functions of zips have no images."""
    try:
        whole = msgspec.json.decode(manifest)
        parts = whole.get("manifests")
        if parts is None:
            parts = [whole["config"], *whole["layers"]]
        return [str(part["digest"]) for part in parts]
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        return []
