"""From a client's request to the one that moto sees and the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from lambay.aws import AWSError, Call
from lambay.http import Request

_DROPPED = frozenset(
    {
        "accept-encoding",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "user-agent",
        "x-amz-date",
        "x-amz-security-token",
        "x-moto-account-id",
    }
)
_SIGNATURE = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)


def headers_for(call: Call, headers: Mapping[str, str], signing_name: str) -> dict[str, str]:
    """`headers` without what belongs to the connection or the signature, and with who calls and where.

    moto reads the Region and the access key from the credential scope, the account from a header of its own.
    An anonymous request stays unsigned: S3 decides by the object's ACL.
    """
    kept = {name: value for name, value in headers.items() if name not in _DROPPED}
    kept["x-moto-account-id"] = call.account
    if call.principal.kind != "anonymous":
        kept["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={call.principal.access_key_id or 'LAMBAY'}/20000101/{call.region}/"
            f"{signing_name}/aws4_request, SignedHeaders=host, Signature=0"
        )
    return kept


def unsigned(query: str) -> str:
    """`query` without a presigned URL's parameters, which have been checked."""
    if "x-amz-" not in query.lower():
        return query
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode(
        [(name, value) for name, value in pairs if name.lower() not in _SIGNATURE], quote_via=quote
    )


def bucket_in_host(host: str) -> str | None:
    """The bucket that a virtual-hosted-style `Host` header names, or None for path style.

    Recognised are `BUCKET.s3.…`, `BUCKET.s3-…` and `BUCKET.localhost`, with or without a port.
    See the Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
    """
    name = host.partition(":")[0].lower()
    for separator in (".s3.", ".s3-"):
        bucket, found, _ = name.partition(separator)
        if found and bucket:
            return bucket
    bucket, found, rest = name.rpartition(".localhost")
    return bucket if found and not rest and bucket and bucket != "s3" else None


def path_style(request: Request) -> str:
    """The request's path with the bucket as its first part."""
    bucket = bucket_in_host(request.headers.get("host", ""))
    if bucket is None:
        return request.path
    return f"/{bucket}{request.path if request.path.startswith('/') else '/' + request.path}"


def plain_body(request: Request) -> tuple[bytes, dict[str, str]]:
    """The body and headers of an upload, with `aws-chunked` framing and its trailer undone.

    See the Amazon S3 API Reference, "Signature Calculations: Transferring Payload in Multiple Chunks".
    Raises AWSError IncompleteBody where the framing is broken.
    """
    headers = dict(request.headers)
    if not headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return request.body, headers
    body, trailer = _unframe(request.body)
    declared = headers.get("x-amz-decoded-content-length")
    if declared is not None and declared.isdigit() and int(declared) != len(body):
        raise AWSError(
            "IncompleteBody",
            f"x-amz-decoded-content-length: {declared} bytes were announced and {len(body)} received.",
            status=400,
        )
    for name in ("x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-trailer"):
        headers.pop(name, None)
    encodings = [part.strip() for part in headers.pop("content-encoding", "").split(",")]
    if rest := [part for part in encodings if part and part != "aws-chunked"]:
        headers["content-encoding"] = ",".join(rest)
    headers.update(trailer)
    return body, headers


def _unframe(framed: bytes) -> tuple[bytes, dict[str, str]]:
    view, offset, pieces = memoryview(framed), 0, []
    while True:
        end = framed.find(b"\r\n", offset)
        if end < 0:
            raise AWSError("IncompleteBody", "The body ends before its last chunk.", status=400)
        size_text = framed[offset:end].partition(b";")[0]
        try:
            size = int(size_text, 16)
        except ValueError:
            raise AWSError("IncompleteBody", f"{size_text[:20]!r} is not a chunk size.", status=400) from None
        offset = end + 2
        if size == 0:
            break
        if offset + size > len(framed):
            raise AWSError("IncompleteBody", "The body ends within a chunk.", status=400)
        pieces.append(view[offset : offset + size])
        offset += size + 2
    trailer = {}
    for line in framed[offset:].split(b"\r\n"):
        name, found, value = line.decode("latin-1").partition(":")
        if found and name.lower().startswith("x-amz-checksum-"):
            trailer[name.lower()] = value.strip()
    return b"".join(pieces), trailer
