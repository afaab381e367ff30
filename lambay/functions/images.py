"""Container images of functions: from an ImageUri to what environments are made from.

See "Create a Lambda function using a container image" in the Developer Guide.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from lambay.aws import Call, Principal
from lambay.functions.errors import invalid
from lambay.functions.records import Code, ImageSettings
from lambay.functions.runtimes import check_architecture
from lambay.runtime.images import Image, ImageUnusable, parts, unpack

_S3_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")


class Found(Protocol):
    @property
    def digest(self) -> str: ...
    @property
    def uri(self) -> str: ...
    @property
    def architecture(self) -> str: ...


class Registry(Protocol):
    """Where images are."""

    async def resolve(self, uri: str, *, account: str, region: str) -> Found:
        """Raises AWSError in Lambda's words."""
        ...

    async def object(
        self, bucket: str, key: str, *, principal: Principal, account: str, region: str
    ) -> bytes:
        """An S3 object, read as `principal`. Raises AWSError in Lambda's words."""
        ...

    def add(self, uri: str, manifest: bytes, blobs: Iterable[tuple[str, Callable[[], IO[bytes]]]]) -> Found:
        """Keep an image that comes from elsewhere. Blocks; raises AWSError, ValueError for a false digest."""
        ...

    def layout(self, digest: str) -> Path:
        """The OCI image layout of one image. Blocks; raises FileNotFoundError."""
        ...


class Images:
    """Images as environments start in them; their layers are unpacked below `directory`, each once."""

    def __init__(self, registry: Registry, directory: Path) -> None:
        self.registry = registry
        self._directory = directory
        self._ready: dict[str, Image] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ready(self, code: Code) -> Image:
        """The image, unpacked. Raises FileNotFoundError where it is gone, ImageUnusable where it can't be run."""
        async with self._locks[code.digest]:
            found = self._ready.get(code.digest)
            if found is None:
                found = self._ready[code.digest] = await asyncio.to_thread(self._unpacked, code.digest)
        return found

    def _unpacked(self, digest: str) -> Image:
        return unpack(self.registry.layout(digest), self._directory)

    async def reset(self) -> None:
        """Forget what is unpacked."""
        self._ready.clear()
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)


async def image(source: Mapping[str, Any], call: Call, registry: Registry) -> Code:
    """The image that an operation's ImageUri names now, in the registry or as an archive in S3.

    Raises InvalidParameterValueException, AccessDeniedException.
    """
    uri = source.get("ImageUri")
    if source.get("ZipFile") or source.get("S3Bucket") or not uri:
        raise invalid("Please provide ImageUri when updating a function with packageType Image.")
    in_s3 = _S3_URI.fullmatch(uri)
    if in_s3 is None:
        found = await registry.resolve(uri, account=call.account, region=call.region)
    else:
        archive = await registry.object(
            in_s3["bucket"], in_s3["key"], principal=call.principal, account=call.account, region=call.region
        )
        found = await asyncio.to_thread(_taken, registry, uri, archive)
    check_architecture(found.architecture)
    return Code(digest=found.digest, size=0, unzipped_size=0, image_uri=uri, resolved_uri=found.uri)


def _taken(registry: Registry, uri: str, archive: bytes) -> Found:
    with tempfile.NamedTemporaryFile() as file:
        file.write(archive)
        file.flush()
        try:
            with parts(Path(file.name)) as held:
                return registry.add(uri, held.manifest, ((blob.digest, blob.open) for blob in held.blobs))
        except (ImageUnusable, ValueError) as error:
            raise invalid(f"Source image {uri} is not valid. Provide a valid source image: {error}") from None


def settings(given: Mapping[str, Any]) -> ImageSettings:
    """An ImageConfig."""
    return ImageSettings(
        entry_point=tuple(given.get("EntryPoint") or ()),
        command=tuple(given.get("Command") or ()),
        working_directory=given.get("WorkingDirectory") or "",
    )


def shown(kept: ImageSettings) -> dict[str, Any]:
    """An ImageConfigResponse's ImageConfig."""
    members: dict[str, Any] = {}
    if kept.entry_point:
        members["EntryPoint"] = list(kept.entry_point)
    if kept.command:
        members["Command"] = list(kept.command)
    if kept.working_directory:
        members["WorkingDirectory"] = kept.working_directory
    return members
