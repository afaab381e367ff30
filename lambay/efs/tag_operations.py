"""Tags of file systems and access points, by the old operations and the new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from lambay.aws import Call
from lambay.efs.errors import bad_request
from lambay.efs.paging import MOST, page_of
from lambay.efs.records import AccessPoint, FileSystem
from lambay.efs.resources import Resources, checked_tags, tag_list, tag_map


class TagOperations(Resources):
    async def tag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._tag(self._tagged(call, input["ResourceId"]), input["Tags"])
        return {}

    async def untag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._untag(self._tagged(call, input["ResourceId"]), input["TagKeys"])
        return {}

    async def list_tags_for_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tags = self._tagged(call, input["ResourceId"]).tags
        page, following = _page(tags, input.get("NextToken"), input.get("MaxResults", MOST))
        return {"Tags": page} if following is None else {"Tags": page, "NextToken": following}

    async def create_tags(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._tag(self._file_system(call, input["FileSystemId"]), input["Tags"])
        return {}

    async def delete_tags(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._untag(self._file_system(call, input["FileSystemId"]), input["TagKeys"])
        return {}

    async def describe_tags(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tags = self._file_system(call, input["FileSystemId"]).tags
        page, following = _page(tags, input.get("Marker"), input.get("MaxItems", MOST))
        output: dict[str, Any] = {"Tags": page}
        if "Marker" in input:
            output["Marker"] = input["Marker"]
        if following is not None:
            output["NextMarker"] = following
        return output

    def _tagged(self, call: Call, identifier: str) -> FileSystem | AccessPoint:
        """By id or ARN. Raises FileSystemNotFound, AccessPointNotFound, BadRequest."""
        name = identifier.rpartition("/")[2]
        if name.startswith("fsap-"):
            return self._access_point(call, identifier)
        if name.startswith("fs-"):
            return self._file_system(call, identifier)
        raise bad_request(f"ResourceId: '{identifier}' is neither a file system nor an access point.")

    async def _tag(self, resource: FileSystem | AccessPoint, tags: Sequence[Mapping[str, str]]) -> None:
        await self._save(replace(resource, tags=checked_tags(resource.tags | tag_map(tags))))

    async def _untag(self, resource: FileSystem | AccessPoint, keys: Sequence[str]) -> None:
        kept = {key: value for key, value in resource.tags.items() if key not in keys}
        await self._save(replace(resource, tags=kept))


def _page(tags: Mapping[str, str], marker: str | None, size: int) -> tuple[list[dict[str, str]], str | None]:
    return page_of(tag_list(tags), _identity, marker, size)


def _identity(tag: Mapping[str, str]) -> str:
    # A key may be longer than a pagination token.
    return hashlib.sha256(tag["Key"].encode()).hexdigest()
