"""Bodies signed chunk by chunk (`aws-chunked`): every chunk's signature continues the one before it. Pure.

Follows "Signature calculations for the authorization header: transferring payload in multiple chunks" of the
Amazon S3 API Reference.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from hashlib import sha256

from lambay.identity.sigv4 import EMPTY_SHA256, Signature

SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_AND_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"

_CHUNK_SIGNATURE = b"chunk-signature="
_TRAILER_SIGNATURE = b"x-amz-trailer-signature:"


class BrokenChunks(Exception):
    """The body ends too early or is not framed as chunks."""


def are_signed(key: bytes, signature: Signature, body: bytes, *, trailer: bool) -> bool:
    """Whether every chunk of `body`, and its trailing headers if there are any, carry the right signature.

    `key` is the request's signing key, `signature` its own. Raises BrokenChunks.
    """
    previous = signature.signature
    behind = 0
    for chunk, given, end in _chunks(body):
        behind = end
        previous = _sign(key, signature, "PAYLOAD", previous, f"{EMPTY_SHA256}\n{sha256(chunk).hexdigest()}")
        if not hmac.compare_digest(previous.encode(), given):
            return False
    if not trailer:
        return True
    names, given = _trailer(body[behind:])
    return hmac.compare_digest(
        _sign(key, signature, "TRAILER", previous, sha256(names).hexdigest()).encode(), given
    )


def _sign(key: bytes, signature: Signature, kind: str, previous: str, hashed: str) -> str:
    text = f"AWS4-HMAC-SHA256-{kind}\n{signature.timestamp}\n{signature.scope}\n{previous}\n{hashed}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def _chunks(body: bytes) -> Iterator[tuple[memoryview, bytes, int]]:
    """Each chunk's content, its signature, and where the next one begins; the last one is empty."""
    view = memoryview(body)
    at = 0
    while True:
        line_end = body.find(b"\r\n", at, at + 256)
        if line_end < 0:
            raise BrokenChunks("a chunk's head is missing")
        digits, _, extension = body[at:line_end].partition(b";")
        try:
            size = int(digits, 16)
        except ValueError:
            raise BrokenChunks("a chunk's size is not a hexadecimal number") from None
        if size < 0 or not extension.startswith(_CHUNK_SIGNATURE):
            raise BrokenChunks("a chunk has no signature")
        begin = line_end + 2
        at = begin + size
        if at > len(body) or (size and body[at : at + 2] != b"\r\n"):
            raise BrokenChunks("a chunk is shorter than it says")
        at += 2 if size else 0
        yield view[begin : begin + size], extension[len(_CHUNK_SIGNATURE) :], at
        if not size:
            return


def _trailer(text: bytes) -> tuple[bytes, bytes]:
    """The trailing headers as they are signed, and their signature."""
    lines = [line.strip() for line in text.split(b"\n") if line.strip()]
    signatures = [line for line in lines if line.startswith(_TRAILER_SIGNATURE)]
    if len(signatures) != 1:
        raise BrokenChunks("the trailing headers have no signature")
    headers = b"".join(line + b"\n" for line in lines if line is not signatures[0])
    return headers, signatures[0][len(_TRAILER_SIGNATURE) :].strip()
