"""AWS::Include: a snippet from S3 in the place of `Fn::Transform`, or beside a section's members."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from lambay.deploy.template.errors import invalid
from lambay.deploy.template.reading import plain
from lambay.deploy.types.base import Call


async def include(value: Any, call: Call) -> Any:
    """`value` with every `Fn::Transform` of AWS::Include carried out. Raises AWSError."""
    if isinstance(value, list):
        return [await include(item, call) for item in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, item in value.items():
        if key == "Fn::Transform":
            named = item.get("Name") if isinstance(item, dict) else item
            if named != "AWS::Include":
                raise invalid(f"No transform named {named} found.")
            snippet = await _snippet(item.get("Parameters", {}).get("Location"), call)
            if len(value) == 1 and not isinstance(snippet, dict):
                return snippet
            if not isinstance(snippet, dict):
                raise invalid("AWS::Include: the snippet must be an object where it stands beside others")
            made |= await include(snippet, call)
        elif key == "Transform" and isinstance(item, dict) and item.get("Name") == "AWS::Include":
            snippet = await _snippet(item.get("Parameters", {}).get("Location"), call)
            if not isinstance(snippet, dict):
                raise invalid("AWS::Include: the snippet must be an object")
            made |= snippet
        else:
            made[key] = await include(item, call)
    return made


async def _snippet(location: Any, call: Call) -> Any:
    if not isinstance(location, str):
        raise invalid(
            "AWS::Include: the parameter Location must be the URL of an object in S3, known beforehand"
        )
    return plain(await from_s3(location, call))


async def from_s3(location: str, call: Call) -> str:
    """The text of an object, by `s3://bucket/key` or an HTTP(S) URL of S3's in either style. Raises AWSError."""
    bucket, key = place_in_s3(location)
    found = await call("s3", "GetObject", {"Bucket": bucket, "Key": key})
    body: bytes = found["Body"]
    return body.decode()


def place_in_s3(location: str) -> tuple[str, str]:
    """Bucket and key. Raises AWSError ValidationError."""
    url = urlsplit(location)
    path = url.path.removeprefix("/")
    if url.scheme == "s3" and url.netloc and path:
        return url.netloc, path
    host = url.hostname or ""
    if url.scheme in ("http", "https") and host:
        first, _, behind = host.partition(".")
        if behind.startswith(("s3.", "s3-")) or (behind == "localhost" and first != "s3"):
            return first, path
        bucket, _, key = path.partition("/")
        if bucket and key:
            return bucket, key
    raise invalid(f"S3 error: Domain name specified in {host or location} is not a valid S3 domain")
