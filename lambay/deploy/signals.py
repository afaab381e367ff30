"""Where wait conditions' and custom resources' answers arrive: `PUT /_lambay/signal/TOKEN`.

The token is the permission, as the signature in AWS's presigned URL is.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from lambay.clock import Clock
from lambay.deploy.records import Signal
from lambay.http import Request, Response
from lambay.store import Store

PATH = "/_lambay/signal/"
_TOKEN = re.compile(r"[0-9a-f]{20,64}")
_MOST_BYTES = 64 * 1024


class Signals:
    """`outside` and `inside` are this server's addresses as callers and as functions see them."""

    def __init__(self, store: Store, clock: Clock, outside: str, inside: str) -> None:
        self._store = store
        self._clock = clock
        self._outside = outside
        self._inside = inside
        self._signals = store.collection("deploy.signals", Signal)

    async def open(self, token: str, *, inside: bool = False) -> str:
        if token not in self._signals:
            await self._store.commit(self._signals.put(token, Signal(token=token, account="", region="")))
        return f"{self._inside if inside else self._outside}{PATH}{token}"

    async def close(self, token: str) -> None:
        if token in self._signals:
            await self._store.commit(self._signals.remove(token))

    async def wait(self, token: str, count: int, seconds: float) -> Mapping[str, Mapping[str, Any]] | None:
        deadline = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            while True:
                changed = asyncio.ensure_future(self._store.next_commit())
                await asyncio.sleep(0)
                signal = self._signals.get(token)
                answers = {
                    key: msgspec.json.decode(body) for key, body in (signal.answers if signal else {}).items()
                }
                enough = len(answers) >= count or any(
                    item.get("Status") != "SUCCESS" for item in answers.values()
                )
                if enough:
                    changed.cancel()
                    return answers
                await asyncio.wait({changed, deadline}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if deadline.done():
                    return None
        finally:
            deadline.cancel()

    async def handle(self, request: Request) -> Response:
        """Takes one answer: JSON with Status, and Reason, UniqueId and Data or the custom resource's members."""
        token = request.path.removeprefix(PATH)
        signal = self._signals.get(token) if _TOKEN.fullmatch(token) else None
        if signal is None:
            return _answer(404, "this address takes no answers (any more)")
        if request.method not in ("PUT", "POST"):
            return _answer(405, "an answer is PUT")
        if len(request.body) > _MOST_BYTES:
            return _answer(413, f"an answer has at most {_MOST_BYTES} bytes")
        try:
            body = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return _answer(400, "the answer is not JSON")
        if not isinstance(body, dict) or body.get("Status") not in ("SUCCESS", "FAILED", "FAILURE"):
            return _answer(400, "Status: SUCCESS or FAILED (FAILURE for a wait condition) is needed")
        await self.put(token, body)
        return Response(200)

    async def put(self, token: str, body: Mapping[str, Any]) -> None:
        """An answer: the same unique id twice counts once."""
        signal = self._signals.get(token)
        if signal is not None:
            unique = str(body.get("UniqueId") or body.get("RequestId") or uuid.uuid4())
            answers = {**signal.answers, unique: msgspec.json.encode(body).decode()}
            await self._store.commit(self._signals.put(token, replace(signal, answers=answers)))


def _answer(status: int, message: str) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode({"message": message}))
