"""An HTTP request and response as the rooms pass them on: plain values, no server's or library's types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """A request, which nobody changes once it is complete.

    `path` is still percent-encoded; `headers` are lower-cased, repeated ones joined by a comma.

    Where a listener streams it, `body` is empty and `chunks` gives it once; ConnectionResetError where the client
    goes away before its end.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    source_ip: str = "127.0.0.1"
    scheme: str = "http"
    chunks: AsyncIterator[bytes] | None = None


@dataclass(slots=True)
class Response:
    """`body` is bytes, or an iterator of chunks for a streamed answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""
