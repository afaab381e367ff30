"""S3's older signatures against botocore's signers."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.http import Request
from lambay.identity import sigv2

from .signing import HOST, sent
from .test_sigv4 import METHODS, PATHS

QUERIES = st.lists(
    st.sampled_from(["acl", "versionId=1%2B2", "response-content-type=text%2Fplain", "prefix=a", "uploads"]),
    unique=True,
    max_size=3,
).map("&".join)
HEADERS = st.dictionaries(
    st.sampled_from(["X-Amz-Meta-A", "Content-Type", "Content-MD5", "X-Amz-Acl"]),
    st.text("abc/=", min_size=1, max_size=5),
)


def signed(method="GET", path="/b/k", query="", headers=None, *, expires=None, host=HOST, auth_path=None):
    url = f"http://{host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=headers or {}, auth_path=auth_path)
    credentials = Credentials("test", "test")
    if expires is None:
        HmacV1Auth(credentials).add_auth(request)
    else:
        HmacV1QueryAuth(credentials, expires).add_auth(request)
        for name in list(request.headers):
            del request.headers[name]
    return sent(request.prepare())


def verified(request: Request, secret: str = "test") -> bool:
    signature = sigv2.read(request)
    assert signature is not None
    return sigv2.holds(signature, request, secret)


@given(METHODS, PATHS, QUERIES, HEADERS)
def test_header_signatures_of_botocore_hold(method, path, query, headers):
    assert verified(signed(method, path, query, headers))


@given(PATHS, QUERIES, HEADERS)
def test_presigned_queries_of_botocore_hold(path, query, headers):
    assert verified(signed("GET", path, query, headers, expires=60))


def test_the_bucket_of_the_host_is_signed():
    request = signed(path="/k", host="b.localhost:4566", auth_path="/b/k")
    assert verified(request)
    moved = {**request.headers, "host": "other.localhost:4566"}
    assert not verified(dataclasses.replace(request, headers=moved))


@pytest.mark.parametrize(
    "altered",
    [{"method": "DELETE"}, {"path": "/b/other"}, {"query": "acl"}],
    ids=lambda given: next(iter(given)),
)
def test_an_altered_request_does_not_hold(altered):
    assert not verified(dataclasses.replace(signed(), **altered))
    assert not verified(signed(), secret="tset")


async def test_s3_takes_them_and_their_end(identity, clock):
    request = signed(expires=60)
    assert (await identity.authenticate(request, "s3", "GetObject")).kind == "root"
    late = signed(expires=-1)
    with pytest.raises(AWSError, match="Request has expired"):
        await identity.authenticate(late, "s3", "GetObject")
    clock.advance(timedelta(days=1))
    assert (await identity.authenticate(signed(), "s3", "ListBuckets")).kind == "root"


async def test_a_wrong_one_is_refused(identity):
    request = signed(expires=60)
    with pytest.raises(AWSError) as caught:
        await identity.authenticate(dataclasses.replace(request, path="/b/other"), "s3", "GetObject")
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


async def test_other_services_do_not_take_them(identity):
    with pytest.raises(AWSError) as caught:
        await identity.authenticate(signed(), "efs", "DescribeFileSystems")
    assert caught.value.code == "MissingAuthenticationTokenException"
