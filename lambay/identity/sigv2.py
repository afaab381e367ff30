"""Signature Version 2 of S3, which boto3 still presigns with in the older Regions. Pure.

Follows "Signing and Authenticating REST Requests" of the Amazon S3 User Guide: an HMAC-SHA1 over the method,
a few headers, and the resource with those of its query's parameters that change what it means.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, unquote_plus

from lambay.http import Request
from lambay.identity.sigv4 import Malformed

_BUCKET_HOST = re.compile(r"(?P<bucket>.+?)(?:\.s3[.-].*|\.localhost)", re.IGNORECASE)
_RESOURCE_PARAMETERS = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)


@dataclass(frozen=True, slots=True)
class LegacySignature:
    """What a request says about its signature.

    `expires` is when a presigned request ends, `signed_at` when a header was signed, both in seconds since
    the epoch; the other one is None.
    """

    access_key_id: str
    signature: str
    date: str
    expires: int | None
    signed_at: float | None
    session_token: str | None


def read(request: Request) -> LegacySignature | None:
    """The signature that `request` carries, None where it carries none of this kind. Raises Malformed."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS "):
        key, _, signature = authorization[4:].strip().rpartition(":")
        # With x-amz-date, the Date header is not signed.
        date = "" if "x-amz-date" in request.headers else request.headers.get("date", "")
        signed_at = _seconds(request.headers.get("x-amz-date") or date)
        if not key or signed_at is None:
            raise Malformed("AWS authentication requires a valid Date or x-amz-date header")
        token = request.headers.get("x-amz-security-token")
        return LegacySignature(key, signature, date, None, signed_at, token)
    if authorization or "Signature=" not in request.query or "AWSAccessKeyId=" not in request.query:
        return None
    given = _parameters(request.query)
    expires = given.get("Expires", "")
    if not (expires.isascii() and expires.isdigit()):
        raise Malformed(
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
        )
    return LegacySignature(
        given.get("AWSAccessKeyId", ""),
        given.get("Signature", ""),
        expires,
        int(expires),
        None,
        given.get("x-amz-security-token"),
    )


def holds(signature: LegacySignature, request: Request, secret: str) -> bool:
    """Whether `secret` signed `request`."""
    text = string_to_sign(signature, request).encode("latin-1", "backslashreplace")
    digest = hmac.digest(secret.encode(), text, "sha1")
    return hmac.compare_digest(base64.b64encode(digest), signature.signature.encode())


def string_to_sign(signature: LegacySignature, request: Request) -> str:
    """The text that was signed."""
    amazon = {name: value for name, value in request.headers.items() if name.startswith("x-amz-")}
    query = _parameters(request.query)
    if signature.expires is not None:
        # What a signer moves from headers into the query it has signed as headers.
        amazon |= {name.lower(): value for name, value in query.items() if name.lower().startswith("x-amz-")}
    lines = [
        request.method,
        request.headers.get("content-md5") or query.get("content-md5", ""),
        request.headers.get("content-type") or query.get("content-type", ""),
        signature.date,
        *(f"{name}:{' '.join(amazon[name].split())}" for name in sorted(amazon)),
    ]
    return "\n".join([*lines, _resource(request)])


def _resource(request: Request) -> str:
    host = _BUCKET_HOST.fullmatch(request.headers.get("host", "").partition(":")[0])
    inside = host is not None and host["bucket"].lower() != "s3"
    path = f"/{host['bucket']}{request.path}" if host is not None and inside else request.path
    parts = []
    for pair in sorted(request.query.split("&")):
        name, equals, value = pair.partition("=")
        if name in _RESOURCE_PARAMETERS:
            parts.append(name + equals + unquote(value))
    return path + ("?" + "&".join(parts) if parts else "")


def _parameters(query: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
