"""Download links of deployment packages: `/_lambay/code/DIGEST?expires=…&signature=…`, good for ten minutes.

They stand for the presigned S3 URLs of GetFunction's `Code.Location` and of layers' `Content.Location`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

from lambay.aws import Call
from lambay.clock import Clock
from lambay.functions.code import CodeStore
from lambay.functions.records import Code
from lambay.http import Request, Response

PREFIX = "/_lambay/code/"
_LIFETIME_S = 600
_CHUNK = 1 << 18
_PATH = re.compile(re.escape(PREFIX) + r"([0-9a-f]{64})")


class Locations:
    """Signs links and answers them. The key is this run's own: a restart ends the links given before."""

    def __init__(self, code: CodeStore, clock: Clock, endpoint: str) -> None:
        self._code = code
        self._clock = clock
        self._endpoint = endpoint
        self._key = secrets.token_bytes(32)

    def of(self, code: Code, call: Call) -> str:
        """The link, at the address that the caller reached us by."""
        expires = int(self._clock.time()) + _LIFETIME_S
        host = call.headers.get("host")
        scheme = call.headers.get("x-forwarded-proto", "http")
        base = f"{scheme}://{host}" if host else self._endpoint
        return (
            f"{base}{PREFIX}{code.digest}?expires={expires}&signature={self._signature(code.digest, expires)}"
        )

    async def handle(self, request: Request) -> Response:
        """The zip; 403 for a link that is not ours or has expired, 404 for code that is gone."""
        path = _PATH.fullmatch(request.path)
        query = urllib.parse.parse_qs(request.query)
        expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
        if path is None or not expires.isdecimal():
            return _refusal(403, "This is not a code location that GetFunction or GetLayerVersion returned.")
        if not hmac.compare_digest(signature, self._signature(path[1], int(expires))):
            return _refusal(403, "The signature of this code location does not match.")
        if int(expires) < self._clock.time():
            return _refusal(403, "This code location has expired. Call GetFunction again.")
        archive = self._code.archive(path[1])
        if not archive.exists():
            return _refusal(404, "This code was deleted.")
        headers = {"content-type": "application/zip", "content-length": str(archive.stat().st_size)}
        if request.method == "HEAD":
            return Response(200, headers)
        return Response(200, headers, _chunks(archive))

    def _signature(self, digest: str, expires: int) -> str:
        return hmac.new(self._key, f"{digest}/{expires}".encode(), hashlib.sha256).hexdigest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _refusal(status: int, message: str) -> Response:
    return Response(status, {"content-type": "text/plain; charset=utf-8"}, f"{message}\n".encode())
