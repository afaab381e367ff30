"""The OCI distribution API (version 1.1) on ECR's repositories: what `docker push`, `skopeo` and `crane` speak.

Blobs are kept here; a manifest is put into ECR with everything that ECR says about it, immutable tags and
permissions included.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from lambay.aws import Ask, AWSError
from lambay.http import Request, Response
from lambay.registry.blobs import Blobs, DigestMismatch
from lambay.registry.retention import Retention
from lambay.registry.tokens import Bearer, Tokens

PREFIX = "/v2/"
_CHUNK = 1 << 20
_NAME = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_VERSION = {"docker-distribution-api-version": "registry/2.0"}

# ECR's errors as the distribution API's.
_CODES = {
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "ImageNotFoundException": (404, "MANIFEST_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
    "InvalidParameterException": (400, "MANIFEST_INVALID"),
    "AccessDeniedException": (403, "DENIED"),
    "AccessDenied": (403, "DENIED"),
}


class Refusal(Exception):
    """An answer of the distribution API that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


Page = Callable[[Request, Bearer, Mapping[str, str]], Awaitable[Response]]


class Distribution:
    """Answers requests under `PREFIX`."""

    def __init__(self, blobs: Blobs, retention: Retention, tokens: Tokens, ask: Ask) -> None:
        self._blobs = blobs
        self._retention = retention
        self._tokens = tokens
        self._ask = ask
        self._writers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        digest = r"(?P<digest>sha256:[0-9a-f]{64})"
        reference = r"(?P<reference>sha256:[0-9a-f]{64}|[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})"
        routes: list[tuple[str, str, Page]] = [
            ("GET|HEAD", f"{_NAME}/blobs/{digest}", self._blob),
            ("POST", f"{_NAME}/blobs/uploads/?", self._begin),
            ("GET", f"{_NAME}/blobs/uploads/(?P<upload>[0-9a-f]+)", self._progress),
            ("PATCH", f"{_NAME}/blobs/uploads/(?P<upload>[0-9a-f]+)", self._append),
            ("PUT", f"{_NAME}/blobs/uploads/(?P<upload>[0-9a-f]+)", self._finish),
            ("DELETE", f"{_NAME}/blobs/uploads/(?P<upload>[0-9a-f]+)", self._abandon),
            ("GET|HEAD", f"{_NAME}/manifests/{reference}", self._manifest),
            ("PUT", f"{_NAME}/manifests/{reference}", self._put_manifest),
            ("DELETE", f"{_NAME}/manifests/{reference}", self._delete_manifest),
            ("GET", f"{_NAME}/tags/list", self._tags),
        ]
        self._routes = [(methods.split("|"), re.compile(path), page) for methods, path, page in routes]

    async def handle(self, request: Request) -> Response:
        """Never raises: what goes wrong is an answer in the API's own form."""
        try:
            bearer = self._tokens.bearer(request.headers.get("authorization", ""))
            if bearer is None:
                refused = _refused(401, "UNAUTHORIZED", "the password of GetAuthorizationToken is needed")
                refused.headers["www-authenticate"] = 'Basic realm="Lambay",service="ecr.amazonaws.com"'
                return refused
            if request.path == PREFIX:
                return Response(200, {**_VERSION, "content-type": "application/json"}, b"{}")
            path = urllib.parse.unquote(request.path.removeprefix(PREFIX))
            for methods, pattern, page in self._routes:
                found = pattern.fullmatch(path)
                if found is not None and request.method in methods:
                    answer = await page(request, bearer, found.groupdict())
                    answer.headers.update(_VERSION)
                    return answer
            raise Refusal(404, "UNSUPPORTED", f"there is no {request.method} {request.path}")
        except Refusal as refusal:
            return _refused(refusal.status, refusal.code, str(refusal))
        except AWSError as error:
            status, code = _CODES.get(error.code, (400, "UNSUPPORTED"))
            return _refused(status, code, error.message)

    # blobs

    async def _blob(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        await self._check_repository(bearer, named["name"])
        path = self._blobs.path(named["digest"])
        self._retention.touch([named["digest"]])
        if not path.exists():
            raise Refusal(404, "BLOB_UNKNOWN", f"there is no blob {named['digest']}")
        headers = {
            "content-type": "application/octet-stream",
            "docker-content-digest": named["digest"],
            "content-length": str(path.stat().st_size),
        }
        return Response(200, headers, b"" if request.method == "HEAD" else _chunks(path))

    async def _begin(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        """A new upload; with `digest` the whole blob, with `mount` one that another repository has already."""
        await self._check_repository(bearer, named["name"])
        query = urllib.parse.parse_qs(request.query)
        if "mount" in query:
            self._retention.touch(query["mount"])
            if self._blobs.has(query["mount"][0]):
                return _created(named["name"], query["mount"][0])
        upload = await asyncio.to_thread(self._blobs.begin)
        if "digest" in query:
            return await self._finish(request, bearer, {**named, "upload": upload})
        return _uploading(named["name"], upload, 0, 202)

    async def _progress(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        return _uploading(named["name"], named["upload"], self._size(named["upload"]), 204)

    async def _append(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        async with self._exclusive(named["upload"]):
            had = self._size(named["upload"])
            given = request.headers.get("content-range")
            if given is not None and given.removeprefix("bytes ").partition("-")[0] != str(had):
                raise Refusal(
                    416, "BLOB_UPLOAD_INVALID", f"the upload has {had} bytes, the chunk begins elsewhere"
                )
            size = await self._take(named["upload"], request)
        return _uploading(named["name"], named["upload"], size, 202)

    async def _finish(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        digest = urllib.parse.parse_qs(request.query).get("digest", [""])[0]
        async with self._exclusive(named["upload"]):
            await self._take(named["upload"], request)
            self._retention.touch([digest])
            try:
                await asyncio.to_thread(self._blobs.finish, named["upload"], digest)
            except FileNotFoundError:
                raise _no_upload(named["upload"]) from None
            except DigestMismatch as error:
                raise Refusal(400, "DIGEST_INVALID", str(error)) from None
        return _created(named["name"], digest)

    def _exclusive(self, upload: str) -> asyncio.Lock:
        """Held by the one request that writes to the upload, until its client is through or gone."""
        return self._writers.setdefault(upload, asyncio.Lock())

    async def _take(self, upload: str, request: Request) -> int:
        """Write the request's body to the upload, as it comes; the upload's size."""
        size = self._size(upload)
        pending = bytearray(request.body)
        try:
            if request.chunks is not None:
                async for chunk in request.chunks:
                    pending += chunk
                    if len(pending) >= _CHUNK:
                        size = await asyncio.to_thread(self._blobs.append, upload, bytes(pending))
                        pending.clear()
            if pending:
                size = await asyncio.to_thread(self._blobs.append, upload, bytes(pending))
        except FileNotFoundError:
            raise _no_upload(upload) from None
        return size

    async def _abandon(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        self._size(named["upload"])
        await asyncio.to_thread(self._blobs.abandon, named["upload"])
        return Response(204)

    def _size(self, upload: str) -> int:
        try:
            return self._blobs.size(upload)
        except FileNotFoundError:
            raise _no_upload(upload) from None

    # manifests

    async def _manifest(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        wanted = {"repositoryName": named["name"], "imageIds": [_image_id(named["reference"])]}
        found = (await self._ecr(bearer, "BatchGetImage", wanted)).get("images", [])
        if not found:
            raise Refusal(404, "MANIFEST_UNKNOWN", f"{named['name']} has no image {named['reference']}")
        body = str(found[0]["imageManifest"]).encode()
        headers = {
            "content-type": str(found[0].get("imageManifestMediaType") or _media_type(body)),
            "docker-content-digest": found[0]["imageId"]["imageDigest"],
            "content-length": str(len(body)),
        }
        return Response(200, headers, b"" if request.method == "HEAD" else body)

    async def _put_manifest(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        kind = request.headers.get("content-type") or _media_type(request.body)
        parts = needed(request.body)
        self._retention.touch(["sha256:" + hashlib.sha256(request.body).hexdigest(), *parts])
        for blob in parts:
            if not self._blobs.has(blob):
                raise Refusal(404, "MANIFEST_BLOB_UNKNOWN", f"the blob {blob} was not uploaded")
        digest = await asyncio.to_thread(self._blobs.add, request.body)
        put: dict[str, Any] = {
            "repositoryName": named["name"],
            "imageManifest": request.body.decode(),
            "imageManifestMediaType": kind,
            "imageDigest": digest,
        }
        reference = named["reference"]
        if not reference.startswith("sha256:"):
            put["imageTag"] = reference
        elif reference != digest:
            raise Refusal(400, "DIGEST_INVALID", f"the manifest has the digest {digest}, not {reference}")
        try:
            await self._ecr(bearer, "PutImage", put)
        except AWSError as error:
            if error.code != "ImageAlreadyExistsException":
                raise
        headers = {"location": f"{PREFIX}{named['name']}/manifests/{digest}", "docker-content-digest": digest}
        return Response(201, headers)

    async def _delete_manifest(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        wanted = {"repositoryName": named["name"], "imageIds": [_image_id(named["reference"])]}
        if (await self._ecr(bearer, "BatchDeleteImage", wanted)).get("failures"):
            raise Refusal(404, "MANIFEST_UNKNOWN", f"{named['name']} has no image {named['reference']}")
        return Response(202)

    async def _tags(self, request: Request, bearer: Bearer, named: Mapping[str, str]) -> Response:
        found = await self._ecr(bearer, "ListImages", {"repositoryName": named["name"]})
        tags = sorted({image["imageTag"] for image in found.get("imageIds", []) if image.get("imageTag")})
        body = msgspec.json.encode({"name": named["name"], "tags": tags})
        return Response(200, {"content-type": "application/json"}, body)

    async def _check_repository(self, bearer: Bearer, name: str) -> None:
        await self._ecr(bearer, "DescribeRepositories", {"repositoryNames": [name]})

    async def _ecr(self, bearer: Bearer, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        return await self._ask(
            bearer.principal,
            "ecr",
            operation,
            {"registryId": bearer.account, **input},
            account=bearer.account,
            region=bearer.region,
        )


def _no_upload(upload: str) -> Refusal:
    return Refusal(404, "BLOB_UPLOAD_UNKNOWN", f"there is no upload {upload}")


def needed(manifest: bytes) -> list[str]:
    """The digests of what a manifest or an index refers to. Raises Refusal for what is neither."""
    try:
        whole = msgspec.json.decode(manifest)
        parts = whole.get("manifests")
        if parts is None:
            parts = [whole["config"], *whole["layers"]]
        return [str(part["digest"]) for part in parts]
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        raise Refusal(400, "MANIFEST_INVALID", "the manifest is not an image's or an index") from None


def _media_type(manifest: bytes) -> str:
    try:
        found = msgspec.json.decode(manifest).get("mediaType")
    except (msgspec.DecodeError, AttributeError):
        found = None
    return str(found or "application/vnd.oci.image.manifest.v1+json")


def _image_id(reference: str) -> dict[str, str]:
    return {"imageDigest" if reference.startswith("sha256:") else "imageTag": reference}


def _created(name: str, digest: str) -> Response:
    location = f"{PREFIX}{name}/blobs/{digest}"
    return Response(201, {"location": location, "docker-content-digest": digest})


def _uploading(name: str, upload: str, size: int, status: int) -> Response:
    headers = {
        "location": f"{PREFIX}{name}/blobs/uploads/{upload}",
        "range": f"0-{max(size - 1, 0)}",
        "docker-upload-uuid": upload,
    }
    return Response(status, headers)


def _refused(status: int, code: str, message: str) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": {}}]}
    return Response(status, {**_VERSION, "content-type": "application/json"}, msgspec.json.encode(body))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
