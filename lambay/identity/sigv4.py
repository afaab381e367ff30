"""Signature Version 4, checked: header signatures and presigned queries. Pure: values in, verdict out.

Follows "AWS Signature Version 4 for API requests" (IAM User Guide) and "Authenticating Requests" (Amazon S3
API Reference). S3 takes the path as it is sent and may leave the payload unsigned; every other service signs
the path encoded a second time and always the payload's SHA-256.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Literal
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from lambay.http import Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_PREFIX = "STREAMING-"
EMPTY_SHA256 = sha256(b"").hexdigest()

S3_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})
# Operations that botocore's models mark `v4-unsigned-body` belong to these besides S3.
_UNSIGNED_PAYLOAD_SERVICES = S3_SERVICES | {"mediastore", "lex", "transcribe", "vpc-lattice-svcs"}

_SIGNING_KEYS_KEPT = 4096
# Of longer texts nothing is remembered: nobody is to fill the memory with them.
_REMEMBERED = 512
_CANONICAL_PATH = re.compile(r"(?:[A-Za-z0-9\-._~/]|%[0-9A-F]{2})*")
_CANONICAL_QUERY = re.compile(r"(?:[A-Za-z0-9\-._~=&]|%[0-9A-F]{2})*")
_CREDENTIAL = re.compile(r"(.+)/([^/]*)/([^/]*)/([^/]*)/([^/]*)")


class Malformed(Exception):
    """The signature's own fields cannot be read: `missing` names those that are not there."""

    def __init__(self, message: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.missing = missing


class Mismatch(Exception):
    """The signature is not the one that the secret gives. Carries what S3 shows to the caller."""

    def __init__(self, signature: Signature, string_to_sign: str, canonical_request: str) -> None:
        super().__init__("signature does not match")
        self.signature = signature
        self.string_to_sign = string_to_sign
        self.canonical_request = canonical_request


class Signature(msgspec.Struct, frozen=True):
    """What a request says about its own signature.

    `timestamp` is `YYYYMMDD'T'HHMMSS'Z'` and `signed_at` the same in seconds since the epoch. `expires` is
    the presigned lifetime in seconds, None for header signatures and for queries that name none.
    """

    kind: Literal["header", "query"]
    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    signed_at: float
    session_token: str | None
    expires: int | None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read(request: Request) -> Signature | None:
    """The signature that `request` carries, None where it carries none. Raises Malformed."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if authorization.startswith(ALGORITHM):
            return _from_header(authorization, request.headers)
        return None
    if "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query:
        return _from_query(request.query)
    return None


def _from_header(authorization: str, headers: Mapping[str, str]) -> Signature:
    fields: dict[str, str] = {}
    for part in authorization[len(ALGORITHM) :].split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    timestamp = headers.get("x-amz-date") or _iso_date(headers.get("date", ""))
    missing = tuple(name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name))
    if missing or not timestamp:
        complaints = [f"Authorization header requires '{name}' parameter." for name in missing]
        if not timestamp:
            complaints.append(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            )
        raise Malformed(" ".join(complaints) + f" Authorization={authorization.split(' ')[0]}", missing)
    return _signature("header", fields, timestamp, headers.get("x-amz-security-token"), None)


def _from_query(query: str) -> Signature:
    given = {name: value for name, value in _decoded_pairs(query) if name.startswith("X-Amz-")}
    if given.get("X-Amz-Algorithm") != ALGORITHM:
        raise Malformed(f'X-Amz-Algorithm only supports "{ALGORITHM}"', ("X-Amz-Algorithm",))
    required = ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
    missing = tuple(name for name in required if not given.get(name))
    if missing:
        raise Malformed(
            " ".join(f"AWS query-string parameters must include '{name}'." for name in missing)
            + " Re-examine the query-string parameters.",
            missing,
        )
    fields = {name: given[f"X-Amz-{name}"] for name in ("Credential", "Signature", "SignedHeaders")}
    expires = given.get("X-Amz-Expires")
    if expires is not None and not (expires.isascii() and expires.isdigit()):
        raise Malformed("X-Amz-Expires should be a number", ("X-Amz-Expires",))
    token = given.get("X-Amz-Security-Token")
    return _signature("query", fields, given["X-Amz-Date"], token, None if expires is None else int(expires))


def _signature(
    kind: Literal["header", "query"],
    fields: Mapping[str, str],
    timestamp: str,
    token: str | None,
    expires: int | None,
) -> Signature:
    given = fields["Credential"]
    credential = (_credential_again if len(given) <= _REMEMBERED else _credential)(given)
    if credential is None:
        raise Malformed(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{fields['Credential']}'"
        )
    key, date, region, service, terminator = credential
    if terminator != "aws4_request":
        raise Malformed(
            f"Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'."
        )
    signed_at = _seconds(timestamp)
    if signed_at is None:
        raise Malformed(
            f"Date must be in ISO-8601 'basic format'. Got '{timestamp}'. See "
            "http://en.wikipedia.org/wiki/ISO_8601"
        )
    if not timestamp.startswith(date) or len(date) != 8:
        raise Malformed(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date}' != '{timestamp[:8]}', from '{timestamp}'."
        )
    names = fields["SignedHeaders"]
    signed_headers = (_header_names_again if len(names) <= _REMEMBERED else _header_names)(names)
    return Signature(
        kind,
        key,
        date,
        region,
        service,
        signed_headers,
        fields["Signature"],
        timestamp,
        signed_at,
        token,
        expires,
    )


def _credential(text: str) -> tuple[str, ...] | None:
    """Access key, date, Region, service and terminator."""
    found = _CREDENTIAL.fullmatch(text)
    return found.groups() if found is not None else None


def _header_names(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split(";"))


_credential_again = lru_cache(1024)(_credential)
_header_names_again = lru_cache(1024)(_header_names)


@lru_cache(64)
def _seconds(timestamp: str) -> float | None:
    digits = timestamp[:8] + timestamp[9:15]
    if len(timestamp) != 16 or timestamp[8] != "T" or timestamp[15] != "Z" or not digits.isdigit():
        return None
    try:
        moment = datetime(
            int(timestamp[:4]),
            int(timestamp[4:6]),
            int(timestamp[6:8]),
            int(timestamp[9:11]),
            int(timestamp[11:13]),
            int(timestamp[13:15]),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp()


def _iso_date(text: str) -> str:
    """The `Date` header as an ISO 8601 basic timestamp; some signers send only that. Empty if unreadable."""
    if _seconds(text) is not None:
        return text
    try:
        return parsedate_to_datetime(text).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return ""


def unsigned_headers(signature: Signature, headers: Mapping[str, str]) -> list[str]:
    """The headers that had to be signed and were not: `host`, `x-amz-target`, for S3 every `x-amz-*`."""
    signed = signature.signed_headers
    unsigned = [name for name in ("host", "x-amz-target") if name in headers and name not in signed]
    if signature.service in S3_SERVICES:
        unsigned += [
            name
            for name in headers
            if name.startswith("x-amz-") and name not in signed and name not in unsigned
        ]
    return unsigned


def payload_in_words(signature: Signature, headers: Mapping[str, str]) -> str | None:
    """What stands in the canonical request instead of the body's SHA-256 (`UNSIGNED-PAYLOAD`, `STREAMING-…`).

    None where the body itself is signed.
    """
    declared = headers.get("x-amz-content-sha256")
    if declared is None:
        return UNSIGNED_PAYLOAD if signature.kind == "query" and signature.service in S3_SERVICES else None
    return declared if signature.service in _UNSIGNED_PAYLOAD_SERVICES and not _is_digest(declared) else None


def declared_digest(signature: Signature, headers: Mapping[str, str]) -> str | None:
    """The SHA-256 that S3's caller promises for the body, None where the payload is unsigned or in chunks."""
    declared = headers.get("x-amz-content-sha256")
    if declared is None or signature.service not in S3_SERVICES or not _is_digest(declared):
        return None
    return declared


def _is_digest(text: str) -> bool:
    return text != UNSIGNED_PAYLOAD and not text.startswith(STREAMING_PREFIX)


class Verifier:
    """Checks signatures; keeps the signing keys it has derived, the newest `_SIGNING_KEYS_KEPT` of them."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str, str, str], bytes] = {}

    def signing_key(self, secret: str, signature: Signature) -> bytes:
        """The key of one secret, day, Region and service (four HMACs, done once)."""
        slot = (secret, signature.date, signature.region, signature.service)
        key = self._keys.get(slot)
        if key is None:
            key = hmac.digest(b"AWS4" + secret.encode(), signature.date.encode(), "sha256")
            for part in (signature.region, signature.service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._keys) >= _SIGNING_KEYS_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[slot] = key
        return key

    def verify(self, signature: Signature, request: Request, secret: str, payload: str) -> None:
        """Raises Mismatch unless `secret` signed `request` with `payload` as its payload hash."""
        key = self.signing_key(secret, signature)
        first: tuple[str, str] | None = None
        given = signature.signature.encode()
        for path, query in _canonical_forms(signature, request):
            canonical = canonical_request(signature, request, path, query, payload)
            # Header values came as bytes and were decoded one to one.
            hashed = sha256(canonical.encode("latin-1", "backslashreplace")).hexdigest()
            to_sign = f"{ALGORITHM}\n{signature.timestamp}\n{signature.scope}\n{hashed}"
            if hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex().encode(), given):
                return
            first = first or (to_sign, canonical)
        assert first is not None
        raise Mismatch(signature, *first)


def canonical_request(signature: Signature, request: Request, path: str, query: str, payload: str) -> str:
    """The canonical request over an already canonical `path` and `query`."""
    headers = request.headers
    lines = [f"{name}:{_header_value(headers.get(name, ''))}" for name in signature.signed_headers]
    names = ";".join(signature.signed_headers)
    return "\n".join((request.method, path, query, *lines, "", names, payload))


def _header_value(value: str) -> str:
    return " ".join(value.split()) if "  " in value or value != value.strip() else value


def _canonical_forms(signature: Signature, request: Request) -> Iterator[tuple[str, str]]:
    """The canonical path and query, first from the text as sent, then from its decoded meaning.

    Signers encode what they are given, and HTTP libraries between them and here may respell it (`~` and
    `%7E`, `+` in a path): both spellings name the same resource, so both are tried.
    """
    path, query = request.path or "/", request.query
    pairs = [pair.partition("=")[::2] for pair in query.split("&")] if query else []
    if signature.kind == "query":
        pairs = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
    sent = _canonical_path(signature, path), _canonical_query(pairs)
    yield sent
    if _CANONICAL_PATH.fullmatch(path) and _CANONICAL_QUERY.fullmatch(query):
        return
    respelled_path = quote(unquote_to_bytes(path), safe="/-_.~")
    respelled_pairs = [(_respell(name), _respell(value)) for name, value in pairs]
    for candidate in (
        (_canonical_path(signature, respelled_path), _canonical_query(respelled_pairs)),
        (sent[0], _canonical_query(respelled_pairs)),
        (_canonical_path(signature, respelled_path), sent[1]),
    ):
        if candidate != sent:
            yield candidate


def _canonical_path(signature: Signature, path: str) -> str:
    if signature.service in S3_SERVICES:
        return path
    return (_encoded_again if len(path) <= _REMEMBERED else _encoded)(path)


def _encoded(path: str) -> str:
    """A path without dot segments, encoded a second time."""
    if "//" in path or "/." in path:
        path = _without_dot_segments(path)
    return quote(path, safe="/-_.~")


_encoded_again = lru_cache(1024)(_encoded)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4, and repeated slashes as one."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment and segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _canonical_query(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _respell(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _decoded_pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        yield unquote(name), unquote(value)
