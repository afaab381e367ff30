"""Tags of functions, event source mappings and code signing configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lambay.aws import Arn, Call
from lambay.functions.errors import invalid, missing
from lambay.functions.names import parse
from lambay.functions.records import CodeSigning, EventSourceMapping, Function
from lambay.functions.room import Operations

_MOST_TAGS = 50
_RESERVED = re.compile(r"aws:", re.IGNORECASE)


class TagOperations(Operations):
    """Tags belong to the function, not to a version or an alias."""

    async def tag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if not input["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        tagged = self._tagged(call, input["Resource"])
        await self._put(tagged, check_tags(tagged.tags, input["Tags"]))
        return {}

    async def untag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tagged = self._tagged(call, input["Resource"])
        await self._put(
            tagged, {key: value for key, value in tagged.tags.items() if key not in input["TagKeys"]}
        )
        return {}

    async def list_tags(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": dict(self._tagged(call, input["Resource"]).tags)}

    async def _put(self, tagged: Function | EventSourceMapping | CodeSigning, tags: dict[str, str]) -> None:
        # Nothing is awaited between reading the record and this change of it.
        if isinstance(tagged, Function):
            function = msgspec.structs.replace(tagged, tags=tags)
            await self._resources.commit(self._resources.functions.put(function.key, function))
        elif isinstance(tagged, CodeSigning):
            config = msgspec.structs.replace(tagged, tags=tags)
            await self._resources.commit(self._resources.code_signings.put(config.arn, config))
        else:
            mapping = msgspec.structs.replace(tagged, tags=tags)
            await self._resources.commit(self._resources.event_sources.put(mapping.key, mapping))

    def _tagged(self, call: Call, resource: str) -> Function | EventSourceMapping | CodeSigning:
        """Raises InvalidParameterValueException for a version or alias, else ResourceNotFoundException."""
        kind, _, rest = Arn.parse(resource).resource.partition(":")
        if kind == "function":
            name = parse(resource, call)
            if name.qualifier is not None:
                raise invalid(
                    "Tags on function aliases and versions are not supported. Please specify a function ARN."
                )
            return self._resources.function(name)
        if kind == "event-source-mapping":
            mapping = self._resources.event_sources.get(f"{call.account}/{call.region}/{rest}")
            if mapping is not None:
                return mapping
        if kind == "code-signing-config" and resource in self._resources.code_signings:
            return self._resources.code_signings[resource]
        raise missing(f"{kind.replace('-', ' ').capitalize()} not found: {resource}")


def check_tags(current: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """`current` with `added`. Raises InvalidParameterValueException for reserved keys and over 50 tags."""
    for key in added:
        if _RESERVED.match(key):
            raise invalid(f"Tags: {key!r} begins with aws:, which is reserved for system tags.")
    tags = {**current, **added}
    if len(tags) > _MOST_TAGS:
        raise invalid("Number of tags exceeds resource tag limit.")
    return tags
