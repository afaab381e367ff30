"""Bodies signed chunk by chunk."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
from hashlib import sha256

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.http import Request
from lambay.identity import sigv4
from lambay.identity.chunks import BrokenChunks, are_signed

from .signing import HOST, sent

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
# "Signature calculations for the authorization header: transferring payload in multiple chunks",
# Amazon S3 API Reference.
SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
EXAMPLE = Request(
    "PUT",
    "/examplebucket/chunkObject.txt",
    "",
    {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": "AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
        "x-amz-decoded-content-length;x-amz-storage-class,"
        "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
    },
    b"10000;chunk-signature=%s\r\n%s\r\n400;chunk-signature=%s\r\n%s\r\n0;chunk-signature=%s\r\n\r\n"
    % (SIGNATURES[0].encode(), b"a" * 65536, SIGNATURES[1].encode(), b"a" * 1024, SIGNATURES[2].encode()),
)


def key_of(signature: sigv4.Signature, secret: str) -> bytes:
    return sigv4.Verifier().signing_key(secret, signature)


def test_the_documented_example_holds():
    signature = sigv4.read(EXAMPLE)
    assert signature is not None
    payload = sigv4.payload_in_words(signature, EXAMPLE.headers)
    assert payload is not None
    sigv4.Verifier().verify(signature, EXAMPLE, SECRET, payload)
    assert are_signed(key_of(signature, SECRET), signature, EXAMPLE.body, trailer=False)


def streamed(*chunks: bytes, trailer: dict[str, str] | None = None) -> Request:
    """A request with a body in signed chunks, as the C runtime's SDKs send it."""
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    request = signed_as_s3(kind)
    signature = sigv4.read(request)
    assert signature is not None
    key = key_of(signature, "test")
    previous, body = signature.signature, b""

    def sign(name: str, hashed: str) -> str:
        text = f"AWS4-HMAC-SHA256-{name}\n{signature.timestamp}\n{signature.scope}\n{previous}\n{hashed}"
        return hmac.digest(key, text.encode(), "sha256").hex()

    for chunk in (*chunks, b""):
        previous = sign("PAYLOAD", f"{sigv4.EMPTY_SHA256}\n{sha256(chunk).hexdigest()}")
        body += b"%x;chunk-signature=%s\r\n%s" % (len(chunk), previous.encode(), chunk)
        body += b"\r\n" if chunk else b""
    if trailer:
        lines = "".join(f"{name}:{value}\n" for name, value in trailer.items()).encode()
        given = sign("TRAILER", sha256(lines).hexdigest())
        body += lines.replace(b"\n", b"\r\n") + b"x-amz-trailer-signature:" + given.encode() + b"\r\n"
    return dataclasses.replace(request, body=body + b"\r\n")


def signed_as_s3(kind: str) -> Request:
    """A request for S3 whose payload hash is `kind`."""

    class Signer(SigV4Auth):
        def _normalize_url_path(self, path: str) -> str:
            return path

    request = AWSRequest("PUT", f"http://{HOST}/b/k", {"X-Amz-Content-SHA256": kind})
    Signer(Credentials("test", "test"), "s3", "us-east-1").add_auth(request)
    return sent(request.prepare())


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), st.booleans())
def test_signed_chunks_hold(chunks, with_trailer):
    trailer = {"x-amz-checksum-crc32c": "sOO8/Q=="} if with_trailer else None
    request = streamed(*chunks, trailer=trailer)
    signature = sigv4.read(request)
    assert signature is not None
    assert are_signed(key_of(signature, "test"), signature, request.body, trailer=with_trailer)


async def test_s3_takes_them(identity):
    for trailer in (None, {"x-amz-checksum-crc32c": "sOO8/Q=="}):
        request = streamed(b"one", b"two" * 500_000, trailer=trailer)
        assert (await identity.authenticate(request, "s3", "PutObject")).kind == "root"


@pytest.mark.parametrize(
    ("was", "is_now"),
    [(b"two", b"too"), (b"sOO8", b"sOO9"), (b"one", b"six")],
    ids=["last", "trailer", "first"],
)
async def test_an_altered_chunk_is_refused(identity, was, is_now):
    request = streamed(b"one", b"two", trailer={"x-amz-checksum-crc32c": "sOO8/Q=="})
    assert was in request.body
    altered = dataclasses.replace(request, body=request.body.replace(was, is_now))
    with pytest.raises(AWSError) as caught:
        await identity.authenticate(altered, "s3", "PutObject")
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


async def test_a_body_cut_short_is_refused(identity):
    request = streamed(b"one", b"two")
    for length in (len(request.body) // 2, 10, 0):
        with pytest.raises(AWSError) as caught:
            await identity.authenticate(
                dataclasses.replace(request, body=request.body[:length]), "s3", "PutObject"
            )
        assert caught.value.code == "IncompleteBody"


@given(st.binary(max_size=200))
def test_any_bytes_are_chunks_or_an_error(body):
    signature = sigv4.read(EXAMPLE)
    assert signature is not None
    with contextlib.suppress(BrokenChunks):
        assert not are_signed(b"key", signature, body, trailer=False)
