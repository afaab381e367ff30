"""Signatures against botocore's own signers."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.http import Request
from lambay.identity import sigv4

from .signing import signed

SERVICES = st.sampled_from(["elasticfilesystem", "lambda", "sts", "ec2", "s3"])
SEGMENTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
PATHS = st.lists(SEGMENTS | st.sampled_from(["..", ".", "", "a b", "~", "arn:aws:lambda"]), max_size=5).map(
    lambda parts: "/" + "/".join(quote(part, safe="-_.~") for part in parts)
)
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=10)
QUERIES = st.dictionaries(WORDS.filter(bool), WORDS, max_size=5).map(
    lambda pairs: "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in pairs.items())
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
HEADERS = st.dictionaries(st.sampled_from(["X-Amz-Meta-A", "X-Custom", "Content-Type", "X-Amz-Z"]), VALUES)
METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"])


def verify(request: Request, secret: str = "test") -> sigv4.Signature:
    signature = sigv4.read(request)
    assert signature is not None
    payload = sigv4.payload_in_words(signature, request.headers) or sha256(request.body).hexdigest()
    sigv4.Verifier().verify(signature, request, secret, payload)
    return signature


@given(METHODS, PATHS, QUERIES, HEADERS, st.binary(max_size=64), SERVICES)
def test_header_signatures_of_botocore_verify(method, path, query, headers, body, service):
    verify(signed(method, path, query, headers, body, service=service))


@given(PATHS, QUERIES, SERVICES)
def test_presigned_queries_of_botocore_verify(path, query, service):
    signature = verify(signed("GET", path, query, service=service, presigned_seconds=60))
    assert (signature.kind, signature.expires) == ("query", 60)


@given(
    PATHS,
    QUERIES,
    st.binary(max_size=20),
    SERVICES,
    st.sampled_from(["method", "path", "query", "body", "header"]),
)
def test_an_altered_request_does_not_verify(path, query, body, service, part):
    request = signed("PUT", path, query, {"X-Custom": "one"}, body, service=service)
    altered = {
        "method": {"method": "POST"},
        "path": {"path": request.path + "x"},
        "query": {"query": request.query + "&more=1"},
        "body": {"body": request.body + b"x"},
        "header": {"headers": {**request.headers, "x-custom": "two"}},
    }[part]
    if part == "body" and service == "s3":
        assert sigv4.declared_digest(verify(request), request.headers) == sha256(request.body).hexdigest()
        return
    with pytest.raises(sigv4.Mismatch):
        verify(dataclasses.replace(request, **altered))


def test_another_secret_does_not_verify():
    with pytest.raises(sigv4.Mismatch):
        verify(signed(), secret="tset")


def test_a_path_respelled_on_the_way_verifies():
    request = signed("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda/code", service="lambda")
    verify(dataclasses.replace(request, path="/2015-03-31/functions/arn:aws:lambda/code"))


def test_the_documented_example_verifies():
    # "Examples of the complete Signature Version 4 signing process", Amazon S3 API Reference: GET Object.
    request = Request(
        "GET",
        "/test.txt",
        "",
        {
            "host": "examplebucket.s3.amazonaws.com",
            "range": "bytes=0-9",
            "x-amz-content-sha256": sigv4.EMPTY_SHA256,
            "x-amz-date": "20130524T000000Z",
            "authorization": "AWS4-HMAC-SHA256 "
            "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        },
    )
    signature = verify(request, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert signature.access_key_id == "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("authorization", "complaint"),
    [
        ("AWS4-HMAC-SHA256", "requires 'Credential' parameter"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "exactly 5 slash-delimited"),
        (
            "AWS4-HMAC-SHA256 Credential=k/20240101/us-east-1/sts/aws5, SignedHeaders=host, Signature=0",
            "valid terminator: 'aws4_request', not 'aws5'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=k/20240102/r/sts/aws4_request, SignedHeaders=host, Signature=0",
            "'20240102' != '20240101', from '20240101T000000Z'",
        ),
    ],
)
def test_unreadable_signatures_say_what_is_wrong(authorization, complaint):
    request = Request("GET", "/", "", {"authorization": authorization, "x-amz-date": "20240101T000000Z"})
    with pytest.raises(sigv4.Malformed, match=complaint.replace("(", r"\(")):
        sigv4.read(request)


def test_an_unsigned_request_has_no_signature():
    assert sigv4.read(Request("GET", "/", "a=b", {"host": "x"})) is None
    assert sigv4.read(Request("GET", "/", "", {"authorization": "Bearer abc"})) is None


def test_an_unsigned_target_header_is_noticed():
    request = signed("POST", headers={"X-Amz-Date": "x"}, service="logs")
    request.headers["x-amz-target"] = "Logs_20140328.DeleteLogGroup"  # type: ignore[index]
    signature = sigv4.read(request)
    assert signature is not None
    assert sigv4.unsigned_headers(signature, request.headers) == ["x-amz-target"]
