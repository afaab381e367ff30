"""An image as registries take it: a manifest, and the blobs that it names, read out of an archive or a layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from lambay.runtime.images.contents import Contents, compression, contents
from lambay.runtime.images.image import ImageUnusable
from lambay.runtime.images.unpacking import blob_name, described, saved

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Blob:
    """`digest` is `sha256:` and hexadecimal digits, `size` in bytes."""

    digest: str
    size: int
    name: str
    held: Contents

    def open(self) -> IO[bytes]:
        """The content, not checked. Raises ImageUnusable where the image lacks it."""
        return self.held.open(self.name)


@dataclass(frozen=True, slots=True)
class Parts:
    """The image's configuration is the first blob, its layers follow, the lowest first."""

    manifest: bytes
    media_type: str
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"


@contextmanager
def parts(source: Path) -> Iterator[Parts]:
    """The parts of what `unpack` takes, while the block lasts; blocks. Raises ImageUnusable, OSError.

    An OCI image keeps its own manifest; for what `docker save` wrote without one, one is made.
    """
    with contents(source) as held:
        yield _of_layout(held) if held.has("index.json") else _of_saved(held)


def _of_layout(held: Contents) -> Parts:
    document, manifest = described(held)
    media_type = str(msgspec.json.decode(document).get("mediaType") or _MANIFEST)
    digests = (manifest.config.digest, *(layer.digest for layer in manifest.layers))
    blobs = []
    for digest in digests:
        name = blob_name(digest)
        blobs.append(Blob(digest, held.size(name), name, held))
    return Parts(document, media_type, tuple(blobs))


def _of_saved(held: Contents) -> Parts:
    listed = saved(held)
    blobs = []
    described_parts = []
    for number, name in enumerate((listed.config, *listed.layers)):
        with held.open(name) as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]
        with held.open(name) as file:
            packed = compression(file)
        kind = _CONFIGURATION if number == 0 else f"{_LAYER}+{packed}" if packed else _LAYER
        size = held.size(name)
        blobs.append(Blob(digest, size, name, held))
        described_parts.append({"mediaType": kind, "digest": digest, "size": size})
    if len(blobs) < 2:
        raise ImageUnusable("the image has no layers")
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": described_parts[0],
        "layers": described_parts[1:],
    }
    return Parts(msgspec.json.encode(manifest), _MANIFEST, tuple(blobs))
