"""`Registry`: the images of this server, as ECR tells of them and as functions run them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from lambay.aws import Ask, AWSError, Call, Neighbours, Principal
from lambay.clock import Clock
from lambay.http import Request, Response
from lambay.registry.blobs import Blobs
from lambay.registry.distribution import PREFIX, Distribution
from lambay.registry.retention import Manifests, Retention
from lambay.registry.tokens import Tokens

_ECR_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
_PROCESSORS = {"amd64": "x86_64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image that a URI led to: its manifest's digest (hex), the URI with that digest, its processor."""

    digest: str
    uri: str
    architecture: str


class Registry:
    """Images in `directory`. `serves` tells its requests from the AWS API's."""

    def __init__(
        self,
        directory: Path,
        neighbours: Neighbours,
        manifests: Manifests,
        ask: Ask,
        clock: Clock,
        endpoint: str,
    ) -> None:
        """`manifests` tells those of all images that ECR's repositories have."""
        self._blobs = Blobs(directory)
        self._layouts = directory / "layouts"
        self._retention = Retention(self._blobs, self._layouts, manifests, clock)
        self._tokens = Tokens(clock)
        self._distribution = Distribution(self._blobs, self._retention, self._tokens, ask)
        self._neighbours = neighbours
        self._ask = ask
        self._endpoint = endpoint

    def start(self) -> None:
        self._blobs.open()
        self._layouts.mkdir(exist_ok=True)
        self._retention.start()

    async def stop(self) -> None:
        await self._retention.stop()

    def keep(self, functions: Callable[[], Collection[str]]) -> None:
        """Keep the images that `functions` tells the digests (hex) of, whatever becomes of them in ECR."""
        self._retention.functions = functions

    def changed(self, account: str = "", region: str = "") -> None:
        """An image may be no function's, or no repository's, any more: remove in the background what is nobody's."""
        self._retention.changed()

    async def collect(self) -> None:
        """Remove now what is nobody's."""
        await self._retention.collect()

    async def reset(self) -> None:
        """Forget every image."""
        await asyncio.to_thread(self._blobs.clear)
        await asyncio.to_thread(self._forget_layouts)

    def _forget_layouts(self) -> None:
        for layout in self._layouts.iterdir():
            shutil.rmtree(layout)

    @staticmethod
    def serves(request: Request) -> bool:
        """API Gateway has paths of the same beginning; its requests are signed."""
        within = request.path == PREFIX.rstrip("/") or request.path.startswith(PREFIX)
        return within and not request.headers.get("authorization", "").startswith("AWS4-")

    @classmethod
    def streams(cls, request: Request) -> bool:
        """Whether the request's body is a layer or a part of one, which `handle` takes as it comes."""
        return (
            request.method in ("POST", "PATCH", "PUT")
            and "/blobs/uploads/" in request.path
            and cls.serves(request)
        )

    async def handle(self, request: Request) -> Response:
        return await self._distribution.handle(request)

    async def authorization_token(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """ECR's GetAuthorizationToken: for `docker login` at this server's own address."""
        host = call.headers.get("host")
        scheme = call.headers.get("x-forwarded-proto", self._endpoint.partition(":")[0])
        endpoint = f"{scheme}://{host}" if host else self._endpoint
        shown = []
        for account in input.get("registryIds") or [call.account]:
            token, expires = self._tokens.issue(call, account)
            shown.append({"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": endpoint})
        return {"authorizationData": shown}

    async def resolve(self, uri: str, *, account: str, region: str) -> ResolvedImage:
        """The image that an ImageUri leads to now. Raises InvalidParameterValueException in Lambda's words."""
        named = _ECR_URI.fullmatch(uri)
        if named is None:
            raise _invalid(f"Source image {uri} is not valid. Provide a valid source image.")
        if named["account"] != account or named["region"] != region:
            raise AWSError(
                "AccessDeniedException",
                "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
                status=403,
                Type="User",
            )
        reference = named["digest"] or named["tag"] or "latest"
        wanted = {"imageDigest" if named["digest"] else "imageTag": reference}
        try:
            found = await self._neighbours.call(
                "ecr",
                "BatchGetImage",
                {"repositoryName": named["name"], "imageIds": [wanted]},
                account=account,
                region=region,
            )
        except AWSError as error:
            if error.code != "RepositoryNotFoundException":
                raise
            found = {}
        if not found.get("images"):
            raise _invalid(f"Source image {uri} does not exist. Provide a valid source image.")
        manifest = str(found["images"][0]["imageManifest"]).encode()
        digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        if not self._blobs.has(digest):
            raise _invalid(
                f"Source image {uri} has no layers in this registry: it was recorded with PutImage and never pushed."
            )
        architecture = await asyncio.to_thread(self._architecture, uri, manifest)
        resolved = (
            f"{uri.partition('@')[0].rpartition(':')[0] if named['tag'] else uri.partition('@')[0]}@{digest}"
        )
        return ResolvedImage(digest.removeprefix("sha256:"), resolved, architecture)

    async def object(
        self, bucket: str, key: str, *, principal: Principal, account: str, region: str
    ) -> bytes:
        """An S3 object that holds an image's archive, read as `principal`.

        Raises AccessDeniedException or InvalidParameterValueException in Lambda's words.
        """
        wanted = {"Bucket": bucket, "Key": key}
        try:
            found = await self._ask(principal, "s3", "GetObject", wanted, account=account, region=region)
        except AWSError as error:
            if error.code in ("AccessDenied", "AccessDeniedException"):
                raise AWSError(
                    "AccessDeniedException",
                    "Your access has been denied by S3, please make sure your request credentials have permission "
                    f"to GetObject for {bucket}/{key}. S3 Error Code: AccessDenied. S3 Error Message: "
                    f"{error.message}",
                    status=403,
                    Type="User",
                ) from None
            raise _invalid(
                f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error.message}"
            ) from None
        body = found["Body"]
        return body if isinstance(body, bytes) else bytes(body.read())

    def add(
        self, uri: str, manifest: bytes, blobs: Iterable[tuple[str, Callable[[], IO[bytes]]]]
    ) -> ResolvedImage:
        """Keep an image that no repository has, found at `uri`, and whose blobs come by digest. Blocks.

        Raises InvalidParameterValueException for what is not the image that it says.
        """
        for digest, opened in blobs:
            self._retention.touch([digest])
            if not self._blobs.has(digest):
                with opened() as content:
                    self._blobs.take(content, digest)
        digest = self._blobs.add(manifest)
        architecture = self._architecture(uri, manifest)
        return ResolvedImage(digest.removeprefix("sha256:"), f"{uri}@{digest}", architecture)

    def _architecture(self, uri: str, manifest: bytes) -> str:
        """The image's processor as Lambda names it, after its parts were found."""
        whole = msgspec.json.decode(manifest)
        kind = whole.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
        if kind not in _MANIFESTS or "layers" not in whole:
            raise _invalid(
                f"The image manifest, config or layer media type for the source image {uri} is not supported."
            )
        parts = [str(part["digest"]) for part in (whole["config"], *whole["layers"])]
        self._retention.touch(["sha256:" + hashlib.sha256(manifest).hexdigest(), *parts])
        missing = [part for part in parts if not self._blobs.has(part)]
        if missing:
            raise _invalid(f"Source image {uri} lacks the layer {missing[0]}; push it again.")
        config = msgspec.json.decode(self._blobs.path(whole["config"]["digest"]).read_bytes())
        processor = str(config.get("architecture", "amd64"))
        return _PROCESSORS.get(processor, processor)

    def layout(self, digest: str) -> Path:
        """An OCI image layout of one image, by its manifest's digest (hex); the blobs are shared. Blocks.

        Raises FileNotFoundError where the image is gone.
        """
        manifest = self._blobs.path(f"sha256:{digest}")
        size = manifest.stat().st_size
        kind = msgspec.json.decode(manifest.read_bytes()).get(
            "mediaType", "application/vnd.oci.image.manifest.v1+json"
        )
        directory = self._layouts / digest
        directory.mkdir(exist_ok=True)
        (directory / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        entry = {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}
        (directory / "index.json").write_bytes(
            msgspec.json.encode({"schemaVersion": 2, "manifests": [entry]})
        )
        blobs = directory / "blobs"
        if not blobs.is_symlink():
            blobs.symlink_to(Path("..") / ".." / "blobs")
        return directory


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message, Type="User")
