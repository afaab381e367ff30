"""Who connects to a file system: the signature in the certificate of EFS's mount helper.

It is Signature Version 4 over `GET /?Action=Connect` with the certificate's key in the query, as a presigned URL has
it, but for the empty line between headers and their names, which the mount helper leaves out.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote_plus

from lambay.identity.sigv4 import ALGORITHM, EMPTY_SHA256, Signature

SERVICE = "elasticfilesystem"
LASTS_SECONDS = 86_400


class ConnectionSignature(Protocol):
    """What a client says of itself. `signed_at` is in UTC; `signature` is in hexadecimal digits.

    `public_key_sha1` is the key's identifier by RFC 5280, section 4.2.1.2, method 1; `host` is the file system's id.
    """

    @property
    def access_key_id(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def signed_at(self) -> datetime: ...
    @property
    def session_token(self) -> str | None: ...
    @property
    def public_key_sha1(self) -> str: ...
    @property
    def host(self) -> str: ...


def in_region(connection: ConnectionSignature, region: str) -> Signature:
    """The signature as of a presigned URL of EFS in that Region."""
    timestamp = connection.signed_at.strftime("%Y%m%dT%H%M%SZ")
    return Signature(
        "query",
        connection.access_key_id,
        timestamp[:8],
        region,
        SERVICE,
        ("host",),
        connection.signature,
        timestamp,
        connection.signed_at.timestamp(),
        connection.session_token,
        LASTS_SECONDS,
    )


def canonical_request(connection: ConnectionSignature, signature: Signature) -> str:
    """What is hashed and signed."""
    query = {
        "Action": "Connect",
        "PublicKeyHash": connection.public_key_sha1,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{signature.access_key_id}/{signature.scope}",
        "X-Amz-Date": signature.timestamp,
        "X-Amz-Expires": str(LASTS_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if connection.session_token:
        query["X-Amz-Security-Token"] = connection.session_token
    pairs = "&".join(f"{name}={quote_plus(value)}" for name, value in sorted(query.items()))
    return "\n".join(("GET", "/", pairs, f"host:{connection.host}", "host", EMPTY_SHA256))


def holds(connection: ConnectionSignature, signature: Signature, signing_key: bytes) -> bool:
    """Whether the key made it."""
    digest = sha256(canonical_request(connection, signature).encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{signature.timestamp}\n{signature.scope}\n{digest}"
    given = connection.signature.encode()
    return hmac.compare_digest(hmac.digest(signing_key, to_sign.encode(), "sha256").hex().encode(), given)
