"""From an image's documents to its unpacked layers."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from lambay.runtime import kernel
from lambay.runtime.images.contents import BROKEN, Contents, contents, decompressed
from lambay.runtime.images.image import HOST_ARCHITECTURE, Image, ImageUnusable
from lambay.runtime.images.layer import unpack_layer

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MOST_LAYERS = 128

T = TypeVar("T")


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    media_type: str = ""
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[Descriptor]


class Manifest(msgspec.Struct):
    config: Descriptor
    layers: list[Descriptor]


class Saved(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]


class _Settings(msgspec.Struct, rename="pascal"):
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None


class _Layers(msgspec.Struct):
    diff_ids: list[str]


class _Configuration(msgspec.Struct):
    architecture: str
    os: str
    rootfs: _Layers
    config: _Settings | None = None


def unpack(source: Path, into: Path) -> Image:
    """Unpack what of the image at `source` is not below `into` yet; blocks.

    `source` is an OCI layout directory or an archive of one or from `docker save` (plain, gzip, zstd); `into`
    is shared by all images and holds a directory for each layer, by the digest of its content. Of an index the
    image for this host is taken. Raises ImageUnusable, OSError.
    """
    with contents(source) as held:
        configuration, layers = _documents(held)
        if (configuration.os, configuration.architecture) != ("linux", HOST_ARCHITECTURE):
            wanted = f"{configuration.os}/{configuration.architecture}"
            raise ImageUnusable(f"the image is for {wanted}, this host is linux/{HOST_ARCHITECTURE}")
        diff_ids = configuration.rootfs.diff_ids
        if len(layers) != len(diff_ids):
            raise ImageUnusable(f"the image lists {len(layers)} layers and digests of {len(diff_ids)}")
        if not 0 < len(layers) <= _MOST_LAYERS:
            raise ImageUnusable(f"the image has {len(layers)} layers; 1 to {_MOST_LAYERS} can be run")
        into.mkdir(parents=True, exist_ok=True)
        unpacked = tuple(
            _layer(held, name, diff_id, into) for name, diff_id in zip(layers, diff_ids, strict=True)
        )
    settings = configuration.config or _Settings()
    return Image(
        layers=unpacked,
        entry_point=tuple(settings.entrypoint or ()),
        command=tuple(settings.cmd or ()),
        working_directory=settings.working_dir or "",
        environment=tuple(_variable(text) for text in settings.env or ()),
        architecture=configuration.architecture,
    )


def layer_names(source: Path) -> tuple[str, ...]:
    """The names that the layers of the image at `source` have where `unpack` puts them, the lowest first; blocks.

    Raises ImageUnusable, OSError.
    """
    with contents(source) as held:
        configuration, _ = _documents(held)
    return tuple(_hexadecimal(diff_id) for diff_id in configuration.rootfs.diff_ids)


def _documents(held: Contents) -> tuple[_Configuration, list[str]]:
    """The configuration, and the layers' names, the lowest first."""
    if held.has("index.json"):
        _, chosen = described(held)
        return (
            _decoded(_blob(held, chosen.config.digest), _Configuration, "the image's configuration"),
            [blob_name(layer.digest) for layer in chosen.layers],
        )
    listed = saved(held)
    return _decoded(_read(held, listed.config), _Configuration, listed.config), listed.layers


def saved(held: Contents) -> Saved:
    """What `docker save` lists, one image. Raises ImageUnusable."""
    if not held.has("manifest.json"):
        raise ImageUnusable("neither an OCI image layout (index.json) nor from docker save (manifest.json)")
    listed = _decoded(_read(held, "manifest.json"), list[Saved], "manifest.json")
    if len(listed) != 1:
        raise ImageUnusable(f"the archive holds {len(listed)} images; exactly one can be used")
    return listed[0]


def described(held: Contents) -> tuple[bytes, Manifest]:
    """The manifest that a layout's index leads to for this host, as it stands and as read. Raises ImageUnusable."""
    return _chosen(held, _decoded(_read(held, "index.json"), _Index, "index.json"))


def _chosen(held: Contents, index: _Index) -> tuple[bytes, Manifest]:
    usable = [
        each
        for each in index.manifests
        if each.platform is None
        or (each.platform.os, each.platform.architecture) == ("linux", HOST_ARCHITECTURE)
    ]
    if not usable:
        found = ", ".join(
            f"{each.platform.os}/{each.platform.architecture}" for each in index.manifests if each.platform
        )
        raise ImageUnusable(
            f"the image is for {found or 'no platform'}, this host is linux/{HOST_ARCHITECTURE}"
        )
    first = usable[0]
    document = _blob(held, first.digest)
    if first.media_type in _INDEXES:
        return _chosen(held, _decoded(document, _Index, "an index"))
    return document, _decoded(document, Manifest, "the image's manifest")


def _read(held: Contents, name: str) -> bytes:
    with held.open(name) as file:
        return file.read()


def _blob(held: Contents, digest: str) -> bytes:
    document = _read(held, blob_name(digest))
    found = hashlib.sha256(document).hexdigest()
    if digest != f"sha256:{found}":
        raise ImageUnusable(f"the blob {digest} has the digest sha256:{found}")
    return document


def blob_name(digest: str) -> str:
    return f"blobs/sha256/{_hexadecimal(digest)}"


def _hexadecimal(digest: str) -> str:
    matched = _DIGEST.fullmatch(digest)
    if matched is None:
        raise ImageUnusable(f"{digest!r} is not a SHA-256 digest")
    return matched[1]


def _decoded(document: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.DecodeError as error:
        raise ImageUnusable(f"{name}: {error}") from error


def _variable(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


class _Hashing:
    """A stream whose content is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._hash.update(part)
        return part

    def digest(self) -> str:
        while self.read(1 << 20):
            pass
        return self._hash.hexdigest()


def _layer(held: Contents, name: str, diff_id: str, into: Path) -> Path:
    wanted = _hexadecimal(diff_id)
    target = into / wanted
    if target.is_dir():
        return target
    fresh = into / f".{wanted}.{secrets.token_hex(4)}"
    fresh.mkdir()
    try:
        with held.open(name) as file:
            content = _Hashing(decompressed(file))
            unpack_layer(content, fresh)  # type: ignore[arg-type]
            found = content.digest()
        if found != wanted:
            raise ImageUnusable(f"the layer {diff_id} has the digest sha256:{found}")
        os.chmod(fresh, 0o755)
        # What is there under its digest is whole, also after the machine has lost its power.
        kernel.sync_file_system(into)
        fresh.rename(target)
    except BROKEN as error:
        raise ImageUnusable(f"the layer {diff_id} cannot be decompressed: {error}") from error
    except OSError:
        # Unless somebody else was quicker.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target
