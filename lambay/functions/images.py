"""Container images of functions: from an ImageUri to what environments are made from.

See "Create a Lambda function using a container image" in the Developer Guide.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from lambay.aws import Call, Principal
from lambay.functions.errors import invalid
from lambay.functions.records import Code, ImageSettings
from lambay.functions.runtimes import check_architecture
from lambay.runtime.images import Image, ImageUnusable, layer_names, parts, unpack

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

    def keep(self, functions: Callable[[], Collection[str]]) -> None:
        """Keep the images of these digests, whatever becomes of them where they were pushed."""
        ...

    def changed(self) -> None:
        """An image may be no function's any more."""
        ...


class Images:
    """Images as environments start in them; their layers are unpacked below `directory`, each once."""

    def __init__(self, registry: Registry, directory: Path) -> None:
        self.registry = registry
        self._directory = directory
        self._ready: dict[str, Image] = {}
        self._layers: dict[str, frozenset[str]] = {}
        # Layers come and go one image after the other: images share them.
        self._changing = asyncio.Lock()

    async def ready(self, code: Code) -> Image:
        """The image, unpacked. Raises FileNotFoundError where it is gone, ImageUnusable where it can't be run."""
        found = self._ready.get(code.digest)
        if found is not None:
            return found
        async with self._changing:
            found = self._ready.get(code.digest)
            if found is None:
                found = self._ready[code.digest] = await asyncio.to_thread(self._unpacked, code.digest)
        return found

    async def collect(self, in_use: Callable[[], Collection[str]]) -> None:
        """Remove the layers of images whose digests are not in use; the registry may go on with their blobs.

        `in_use` is asked once more when all is known: from then on nothing waits until the layers are gone.
        """
        async with self._changing:
            found = await asyncio.to_thread(self._unpacked_layers)
            if not found:
                return
            while unknown := set(in_use()) - set(self._layers):
                self._layers |= await asyncio.to_thread(self._layers_of, unknown)
            digests = set(in_use())
            self._layers = {digest: names for digest, names in self._layers.items() if digest in digests}
            self._ready = {digest: image for digest, image in self._ready.items() if digest in digests}
            gone = found - frozenset[str]().union(*self._layers.values())
            if gone:
                self.registry.changed()
                await asyncio.to_thread(self._remove, gone)

    def _unpacked_layers(self) -> set[str]:
        """Also those whose unpacking or removal was interrupted."""
        return {path.name for path in self._directory.iterdir()} if self._directory.is_dir() else set()

    def _layers_of(self, digests: Iterable[str]) -> dict[str, frozenset[str]]:
        """By digest; none where there is no such image: functions of zips have digests, too."""
        found = dict.fromkeys(digests, frozenset[str]())
        for digest in found:
            with contextlib.suppress(FileNotFoundError, ImageUnusable):
                found[digest] = frozenset(layer_names(self.registry.layout(digest)))
        return found

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            # What is there under its digest is whole, also after a crash in the midst of this.
            doomed = self._directory / f".{name.removeprefix('.')}"
            if doomed.name != name:
                (self._directory / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def _unpacked(self, digest: str) -> Image:
        return unpack(self.registry.layout(digest), self._directory)

    async def reset(self) -> None:
        """Forget what is unpacked."""
        self._ready.clear()
        self._layers.clear()
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
