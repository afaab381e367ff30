"""A deployment package from an operation's `Code` or `Content`: the zip itself or an S3 object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lambay.aws import AWSError, Call, Neighbours
from lambay.functions.code import ZIPPED_LIMIT, CodeStore
from lambay.functions.errors import invalid, too_large
from lambay.functions.records import Code
from lambay.functions.resources import Resources

STORAGE_LIMIT = 80_530_636_800


@asynccontextmanager
async def package(
    source: Mapping[str, Any], call: Call, code: CodeStore, neighbours: Neighbours, *, stored: int
) -> AsyncIterator[Code]:
    """The unpacked package of ZipFile, or of S3Bucket, S3Key and S3ObjectVersion, kept for the block.

    `stored` is what the account has already, in bytes. Raises InvalidParameterValueException,
    RequestEntityTooLargeException or CodeStorageExceededException.
    """
    zip_file = source.get("ZipFile")
    if source.get("ImageUri"):
        raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
    if source.get("S3ObjectStorageMode") == "REFERENCE":
        raise invalid("S3ObjectStorageMode: REFERENCE is not available in Lambay. Give COPY or leave it out.")
    if zip_file is not None and (
        source.get("S3Bucket") or source.get("S3Key") or source.get("S3ObjectVersion")
    ):
        raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if zip_file is None:
        if not (source.get("S3Bucket") and source.get("S3Key")):
            raise invalid("Please provide a source for function code.")
        archive = await _s3_object(source, call, neighbours)
    else:
        archive = bytes(zip_file)
        if len(archive) > ZIPPED_LIMIT:
            raise too_large(f"Zipped size must be smaller than {ZIPPED_LIMIT} bytes")
    if stored + len(archive) > STORAGE_LIMIT:
        raise AWSError("CodeStorageExceededException", "Code storage limit exceeded.", Type="User")
    async with code.adding(archive, direct=zip_file is not None) as added:
        yield added


async def _s3_object(source: Mapping[str, Any], call: Call, neighbours: Neighbours) -> bytes:
    wanted = {"Bucket": source["S3Bucket"], "Key": source["S3Key"]}
    if source.get("S3ObjectVersion"):
        wanted["VersionId"] = source["S3ObjectVersion"]
    try:
        found = await neighbours.call("s3", "GetObject", wanted, account=call.account, region=call.region)
    except AWSError as error:
        raise invalid(
            f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error.message}"
        ) from None
    body = found["Body"]
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else bytes(body.read())


def stored_bytes(resources: Resources, account: str, region: str) -> int:
    """What versions and layer versions count against the account's code storage."""
    under = f"{account}/{region}/"
    packages = [version.code for version in resources.versions.under(under)]
    packages += [version.code for version in resources.layer_versions.under(under)]
    return sum(code.size for code in packages)
