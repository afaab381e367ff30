"""Tags of functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lambay.aws import Arn, Call
from lambay.functions.errors import invalid, missing
from lambay.functions.names import FunctionName, parse
from lambay.functions.room import Operations

_MOST_TAGS = 50
_RESERVED = re.compile(r"aws:", re.IGNORECASE)


class TagOperations(Operations):
    """Tags belong to the function, not to a version or an alias."""

    async def tag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._tagged(call, input["Resource"])
        if not input["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        async with self._resources.exclusive(name.key):
            function = self._resources.function(name)
            await self._put(name, check_tags(function.tags, input["Tags"]))
        return {}

    async def untag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._tagged(call, input["Resource"])
        async with self._resources.exclusive(name.key):
            kept = dict(self._resources.function(name).tags)
            for key in input["TagKeys"]:
                kept.pop(key, None)
            await self._put(name, kept)
        return {}

    async def list_tags(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": dict(self._resources.function(self._tagged(call, input["Resource"])).tags)}

    async def _put(self, name: FunctionName, tags: dict[str, str]) -> None:
        function = msgspec.structs.replace(self._resources.function(name), tags=tags)
        await self._resources.commit(self._resources.functions.put(name.key, function))

    def _tagged(self, call: Call, resource: str) -> FunctionName:
        """Raises InvalidParameterValueException for a version or alias, else ResourceNotFoundException."""
        kind = Arn.parse(resource).resource.split(":", 1)[0]
        if kind != "function":
            raise missing(f"{kind.replace('-', ' ').capitalize()} not found: {resource}")
        name = parse(resource, call)
        if name.qualifier is not None:
            raise invalid(
                "Tags on function aliases and versions are not supported. Please specify a function ARN."
            )
        self._resources.function(name)
        return name


def check_tags(current: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """`current` with `added`. Raises InvalidParameterValueException for reserved keys and over 50 tags."""
    for key in added:
        if _RESERVED.match(key):
            raise invalid(f"Tags: {key!r} begins with aws:, which is reserved for system tags.")
    tags = {**current, **added}
    if len(tags) > _MOST_TAGS:
        raise invalid("Number of tags exceeds resource tag limit.")
    return tags
