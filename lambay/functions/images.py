"""Container images of functions: from an ImageUri to what environments are made from.

See "Create a Lambda function using a container image" in the Developer Guide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lambay.aws import Call
from lambay.functions.errors import invalid
from lambay.functions.records import Code, ImageSettings
from lambay.functions.runtimes import check_architecture


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

    def layout(self, digest: str) -> Path:
        """The OCI image layout of one image. Blocks; raises FileNotFoundError."""
        ...


async def image(source: Mapping[str, Any], call: Call, registry: Registry) -> Code:
    """The image that an operation's ImageUri names now. Raises InvalidParameterValueException."""
    uri = source.get("ImageUri")
    if source.get("ZipFile") or source.get("S3Bucket") or not uri:
        raise invalid("Please provide ImageUri when updating a function with packageType Image.")
    found = await registry.resolve(uri, account=call.account, region=call.region)
    check_architecture(found.architecture)
    return Code(digest=found.digest, size=0, unzipped_size=0, image_uri=uri, resolved_uri=found.uri)


async def layout(code: Code, registry: Registry) -> Path:
    """The image's OCI layout. Raises FileNotFoundError where it is gone."""
    return await asyncio.to_thread(registry.layout, code.digest)


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
