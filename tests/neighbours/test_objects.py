"""S3: objects on disk, by every way of addressing and framing them."""

from __future__ import annotations

import hashlib
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambay.aws import Call, Principal
from lambay.http import Request
from lambay.neighbours import Neighbours
from lambay.neighbours.requests import bucket_in_host

from .clients import ACCOUNT, REGION, Client, connect, opened, refused

HERE: dict[str, Any] = {"account": ACCOUNT, "region": REGION}
PLACED = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
MIB = 1 << 20


async def bucket(neighbours: Neighbours, **config: Any) -> Client:
    s3 = connect(neighbours, "s3", **config)
    await s3.create_bucket(Bucket="bucket", **PLACED)
    return s3


def stored(directory: Path) -> int:
    """Bytes under `objects`."""
    return sum(path.stat().st_size for path in (directory / "objects").rglob("*") if path.is_file())


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(
    "key", ["plain", "a b/ü+%.txt", "x.amazonaws.com/y", "a//b", "trailing/", "semi;colon?q"]
)
async def test_a_key_of_any_shape_is_found_again(tmp_path: Path, style: str, key: str) -> None:
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours, s3={"addressing_style": style})
        await s3.put_object(Bucket="bucket", Key=key, Body=b"here")
        assert (await s3.get_object(Bucket="bucket", Key=key))["Body"].read() == b"here"
        assert [entry["Key"] for entry in (await s3.list_objects_v2(Bucket="bucket"))["Contents"]] == [key]
    async with opened(tmp_path) as neighbours:
        s3 = connect(neighbours, "s3", s3={"addressing_style": style})
        assert (await s3.get_object(Bucket="bucket", Key=key))["Body"].read() == b"here"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:4566", None),
        ("127.0.0.1:4566", None),
        ("s3.localhost:4566", None),
        ("s3.eu-west-1.amazonaws.com", None),
        ("b.localhost:4566", "b"),
        ("b.s3.localhost:4566", "b"),
        ("with.dots.s3.eu-west-1.amazonaws.com", "with.dots"),
        ("b.s3-eu-west-1.amazonaws.com", "b"),
    ],
)
def test_the_host_names_the_bucket(host: str, name: str | None) -> None:
    assert bucket_in_host(host) == name


async def test_our_own_rooms_get_the_bytes_of_an_object(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        await bucket(neighbours)
        body = b"PK\x03\x04\xff\xfe"
        await neighbours.call("s3", "PutObject", {"Bucket": "bucket", "Key": "k", "Body": body}, **HERE)
        got = await neighbours.call("s3", "GetObject", {"Bucket": "bucket", "Key": "k"}, **HERE)
        assert got["Body"] == body


async def test_metadata_ranges_and_conditions(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        await s3.put_object(Bucket="bucket", Key="k", Body=b"0123456789", Metadata={"my_key": "v"})
        part = await s3.get_object(Bucket="bucket", Key="k", Range="bytes=2-4")
        assert part["Body"].read() == b"234"
        assert part["ContentRange"] == "bytes 2-4/10"
        tail = await s3.get_object(Bucket="bucket", Key="k", Range="bytes=-3")
        assert tail["Body"].read() == b"789"
        with pytest.raises(ClientError, match="InvalidRange"):
            await s3.get_object(Bucket="bucket", Key="k", Range="bytes=10-")
        head = await s3.head_object(Bucket="bucket", Key="k")
        assert (head["ContentLength"], head["Metadata"]) == (10, {"my_key": "v"})


async def test_a_large_object_lies_on_disk_once_and_not_in_the_journal(tmp_path: Path) -> None:
    size = 200 * MIB
    body = os.urandom(MIB) * (size // MIB)
    digest = hashlib.sha256(body).hexdigest()
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        made = await s3.put_object(Bucket="bucket", Key="large", Body=body)
        await s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/large")
        await neighbours.snapshot()
    assert size <= stored(tmp_path) < size + MIB
    assert (tmp_path / "journal.db").stat().st_size < MIB
    assert all(path.stat().st_size < 20 * MIB for path in tmp_path.glob("state-*"))
    del body
    async with opened(tmp_path) as neighbours:
        await neighbours.ready()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        s3 = connect(neighbours, "s3")
        assert (await s3.head_object(Bucket="bucket", Key="large"))["ETag"] == made["ETag"]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < size // MIB * 1024 // 4
        for key in ("large", "copy"):
            got = (await s3.get_object(Bucket="bucket", Key=key))["Body"].read()
            assert hashlib.sha256(got).hexdigest() == digest


async def test_a_multipart_upload_goes_on_after_a_restart_and_keeps_its_parts_once(tmp_path: Path) -> None:
    first, second = os.urandom(5 * MIB), os.urandom(3 * MIB)
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        upload = (await s3.create_multipart_upload(Bucket="bucket", Key="k"))["UploadId"]
        one = await s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=1, Body=first)
    async with opened(tmp_path) as neighbours:
        s3 = connect(neighbours, "s3")
        two = await s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=2, Body=second)
        parts = [{"PartNumber": 1, "ETag": one["ETag"]}, {"PartNumber": 2, "ETag": two["ETag"]}]
        await s3.complete_multipart_upload(
            Bucket="bucket", Key="k", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        await neighbours.snapshot()
    assert stored(tmp_path) < len(first) + len(second) + MIB
    async with opened(tmp_path) as neighbours:
        got = await connect(neighbours, "s3").get_object(Bucket="bucket", Key="k")
        assert got["Body"].read() == first + second
        assert got["ETag"].endswith('-2"')


async def test_deleted_and_overwritten_objects_free_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        for _ in range(60):
            await s3.put_object(Bucket="bucket", Key="again", Body=os.urandom(20_000))
        for n in range(60):
            await s3.put_object(Bucket="bucket", Key=f"gone/{n}", Body=os.urandom(20_000))
        for n in range(60):
            await s3.delete_object(Bucket="bucket", Key=f"gone/{n}")
        last = (await s3.get_object(Bucket="bucket", Key="again"))["Body"].read()
        await neighbours.snapshot()
        assert neighbours.status().entries == 2
        assert stored(tmp_path) < 22_000
    async with opened(tmp_path) as neighbours:
        s3 = connect(neighbours, "s3")
        assert (await s3.get_object(Bucket="bucket", Key="again"))["Body"].read() == last
        assert (await s3.list_objects_v2(Bucket="bucket"))["KeyCount"] == 1


async def test_versions_are_kept_whatever_is_overwritten(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        await s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        made = [
            (await s3.put_object(Bucket="bucket", Key="k", Body=bytes([n])))["VersionId"] for n in range(120)
        ]
        await neighbours.snapshot()
    async with opened(tmp_path) as neighbours:
        s3 = connect(neighbours, "s3")
        got = await s3.get_object(Bucket="bucket", Key="k", VersionId=made[7])
        assert got["Body"].read() == b"\x07"


async def test_a_chunked_upload_is_unframed(tmp_path: Path) -> None:
    framed = (
        b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n6;chunk-signature=" + b"0" * 64 + b"\r\n world\r\n"
        b"0;chunk-signature=" + b"0" * 64 + b"\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
    )
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        answer = await neighbours.handle(_call("PutObject"), _upload(framed, "11"))
        assert answer.status == 200
        got = await s3.get_object(Bucket="bucket", Key="k", ChecksumMode="ENABLED")
        assert got["Body"].read() == b"hello world"
        assert "aws-chunked" not in got.get("ContentEncoding", "")


@pytest.mark.parametrize(
    ("framed", "declared"),
    [(b"5\r\nhel", "5"), (b"zz\r\n", "0"), (b"5\r\nhello\r\n0\r\n\r\n", "6"), (b"", "0")],
)
async def test_broken_framing_is_refused(tmp_path: Path, framed: bytes, declared: str) -> None:
    async with opened(tmp_path) as neighbours:
        await bucket(neighbours)
        error = await refused(neighbours.handle(_call("PutObject"), _upload(framed, declared)))
        assert (error.code, error.status) == ("IncompleteBody", 400)


async def test_a_presigned_url_is_served(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        s3 = await bucket(neighbours)
        await s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        query = (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20200101%2Feu-west-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20200101T000000Z&X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=0"
            "&response-content-type=text%2Fplain"
        )
        request = Request("GET", "/bucket/k", query, {"host": "localhost:4566"})
        answer = await neighbours.handle(_call("GetObject"), request)
        assert (answer.status, answer.body) == (200, b"x")
        assert answer.headers["content-type"] == "text/plain"


def _upload(framed: bytes, declared: str) -> Request:
    headers = {
        "host": "localhost:4566",
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": declared,
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    return Request("PUT", "/bucket/k", "", headers, framed)


def _call(operation: str) -> Call:
    root = Principal("root", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    return Call("request", ACCOUNT, REGION, root, "s3", operation)
