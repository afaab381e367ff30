"""Which services there are: every botocore model's metadata, read without parsing the models.

A model file is a gzip of JSON with its `metadata` near the top, so the first few kilobytes tell a service's
signing name, endpoint prefix, target prefix, version and protocols.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore
import msgspec

_ROOT = Path(botocore.__file__).parent / "data"
_METADATA = re.compile(rb'"metadata"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_HEAD_SIZES = (4096, 65536)

# Which of the services that sign with one name it is where neither path, target nor version tells.
_FIRST_OF_NAME = ("s3", "lambda", "rds", "dynamodb", "sesv2", "iot", "bedrock", "sagemaker", "opensearch")


@dataclass(frozen=True, slots=True)
class Entry:
    """One service in its newest version.

    `protocols` has the model's preferred one first, and `query` at the end where old clients still speak it.
    """

    service: str
    version: str
    signing_name: str
    endpoint_prefix: str
    target_prefix: str
    protocols: tuple[str, ...]


def model_path(service: str) -> Path:
    """The newest `service-2.json.gz` of a service. Raises LookupError where botocore has none."""
    versions = sorted(_ROOT.glob(f"{service}/*/service-2.json.gz"))
    if not versions:
        raise LookupError(f"botocore has no model of a service {service!r}")
    return versions[-1]


@functools.cache
def entry(service: str) -> Entry:
    """A service's entry by botocore's name for it. Raises LookupError where there is none."""
    return _read(model_path(service))


class Catalogue:
    """All services, indexed by what requests name them with. Reading it takes a third of a second."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_signing_name: dict[str, tuple[Entry, ...]] = {}
        self.by_target_prefix: dict[str, Entry] = {}
        self.by_version: dict[str, tuple[Entry, ...]] = {}
        for item in sorted(entries, key=_rank):
            for name in {item.signing_name, item.endpoint_prefix}:
                self.by_signing_name[name] = (*self.by_signing_name.get(name, ()), item)
            if item.target_prefix:
                self.by_target_prefix.setdefault(item.target_prefix, item)
            self.by_version[item.version] = (*self.by_version.get(item.version, ()), item)


@functools.cache
def whole() -> Catalogue:
    """The catalogue of everything botocore models. Call it off the event loop the first time."""
    services = sorted(path.name for path in _ROOT.iterdir() if any(path.glob("*/service-2.json.gz")))
    return Catalogue(map(entry, services))


def _rank(item: Entry) -> tuple[int, int, str]:
    first = _FIRST_OF_NAME.index(item.service) if item.service in _FIRST_OF_NAME else len(_FIRST_OF_NAME)
    return first, len(item.service), item.service


def _read(path: Path) -> Entry:
    packed = path.read_bytes()
    for size in _HEAD_SIZES:
        head = zlib.decompressobj(wbits=31).decompress(packed, size)
        found = _METADATA.search(head)
        if found:
            return _entry_of(path.parent.parent.name, msgspec.json.decode(found[1]))
    raise LookupError(f"no metadata at the head of the model of {path.parent.parent.name}")


def _entry_of(service: str, metadata: dict[str, Any]) -> Entry:
    prefix = metadata.get("endpointPrefix", service)
    return Entry(
        service=service,
        version=metadata["apiVersion"],
        signing_name=metadata.get("signingName") or prefix,
        endpoint_prefix=prefix,
        target_prefix=metadata.get("targetPrefix", ""),
        protocols=_protocols(metadata),
    )


def _protocols(metadata: dict[str, Any]) -> tuple[str, ...]:
    listed = tuple(metadata.get("protocols") or [metadata["protocol"]])
    return (*listed, "query") if "awsQueryCompatible" in metadata and "query" not in listed else listed
