"""What stands before a body on the wire: status lines and header fields, written so that nobody can add to them."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from lambay.http import Response

# Framing is the connection's: a handler that passes on somebody's answer passes on their framing as well.
_FRAMING = frozenset({"content-length", "transfer-encoding", "date"})
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def answer_head(response: Response, keep_alive: bool, *, bodiless: bool) -> tuple[str, bool]:
    """The status line and the headers but for the body's framing, and whether the connection goes on.

    A `bodiless` answer, to HEAD, may announce the length of what it does not send. Raises ValueError for what is
    no header: it could be taken for the end of this answer.
    """
    lines = [_status_line(response.status), "date: ", date.now(), "\r\n"]
    closed = False
    for name, value in response.headers.items():
        lowered = _field_name(name)
        if lowered in _FRAMING and not (bodiless and lowered == "content-length"):
            continue
        if not value.isprintable() and _CONTROL.search(value):
            raise ValueError(f"the value of the header {name} has control characters")
        if lowered == "connection":
            closed = "close" in value.lower()
        lines += (lowered, ": ", value, "\r\n")
    if not (keep_alive or closed):
        lines.append("connection: close\r\n")
    return "".join(lines), keep_alive and not closed


@functools.lru_cache(1024)
def _field_name(name: str) -> str:
    """Raises ValueError for what is no token (RFC 9110, section 5.1)."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no header's name")
    return name.lower()


@functools.cache
def _status_line(status: int) -> str:
    try:
        return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    except ValueError:
        return f"HTTP/1.1 {status} \r\n"


class _Date:
    """The Date header, formatted once a second.

    It is the machine's time: SDKs correct their own clocks by it.
    """

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


date = _Date()


def without_offer(method: bytes, url: bytes, headers: Mapping[str, str]) -> bytes:
    """The head of a request that offered another protocol (RFC 9110, section 7.8), as if it had not."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method, url)]
    for name, value in headers.items():
        if name == "connection":
            kept = [token for token in value.split(",") if token.strip().lower() != "upgrade"]
            value = ",".join(kept)
        if name != "upgrade":
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    return b"".join((*lines, b"\r\n"))
