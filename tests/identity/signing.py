"""Requests as botocore sends them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambay.http import Request

HOST = "localhost:4566"


def sent(prepared: Any) -> Request:
    """What the server sees of botocore's prepared request."""
    url = urlsplit(prepared.url)
    headers = {
        name.lower(): value if isinstance(value, str) else value.decode()
        for name, value in prepared.headers.items()
    }
    headers.setdefault("host", url.netloc)
    body = prepared.body or b""
    return Request(
        method=prepared.method,
        path=url.path,
        query=url.query,
        headers=headers,
        body=body.encode() if isinstance(body, str) else body,
    )


def signed(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    service: str = "elasticfilesystem",
    region: str = "us-east-1",
    key: str = "test",
    secret: str = "test",
    token: str | None = None,
    presigned_seconds: int | None = None,
) -> Request:
    """A request signed by botocore's own signer for `service`; presigned where a lifetime is given."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=headers or {}, data=body)
    credentials = Credentials(key, secret, token)
    s3 = service == "s3"
    if presigned_seconds is not None:
        kind = S3SigV4QueryAuth if s3 else SigV4QueryAuth
        kind(credentials, service, region, expires=presigned_seconds).add_auth(request)
    else:
        (S3SigV4Auth if s3 else SigV4Auth)(credentials, service, region).add_auth(request)
    return sent(request.prepare())
