"""TagResource and its family, for alarms and dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from lambay.aws import Arn, Call, Service
from lambay.observe.alarms.records import Alarm
from lambay.observe.alarms.service import Alarms
from lambay.observe.dashboards import Dashboard
from lambay.observe.metrics.errors import invalid_value, not_found
from lambay.store import Collection, Store

_MOST_TAGS = 50


class TagOperations(Service):
    service_name = "cloudwatch"
    _alarms: Alarms
    _dashboards: Collection[Dashboard]
    _records: Store

    async def tag_resource(self, call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
        found = self._tagged(call, input["ResourceARN"])
        tags = found.tags | {each["Key"]: each["Value"] for each in input["Tags"]}
        if len(tags) > _MOST_TAGS:
            raise invalid_value(f"A resource can have no more than {_MOST_TAGS} tags.")
        for name in tags:
            if name.lower().startswith("aws:"):
                raise invalid_value(f"Tags: the key {name!r} starts with 'aws:', which is reserved.")
        await self._set(found, tags)
        return {}

    async def untag_resource(self, call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
        found = self._tagged(call, input["ResourceARN"])
        gone = set(input["TagKeys"])
        await self._set(found, {name: value for name, value in found.tags.items() if name not in gone})
        return {}

    async def list_tags_for_resource(self, call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
        found = self._tagged(call, input["ResourceARN"])
        return {"Tags": [{"Key": name, "Value": value} for name, value in found.tags.items()]}

    async def _set(self, resource: Alarm | Dashboard, tags: dict[str, str]) -> None:
        if isinstance(resource, Alarm):
            change = self._alarms.records.put(resource.key, replace(resource, tags=tags))
        else:
            change = self._dashboards.put(resource.key, replace(resource, tags=tags))
        await self._records.commit(change)

    def _tagged(self, call: Call, text: str) -> Alarm | Dashboard:
        """Raises ResourceNotFoundException."""
        found: Alarm | Dashboard | None = None
        try:
            arn = Arn.parse(text)
        except ValueError:
            raise invalid_value(f"ResourceARN: {text} is not an ARN.") from None
        kind, _, name = arn.resource.partition(":")
        if arn.account == call.account and arn.service == "cloudwatch":
            if kind == "alarm" and arn.region == call.region:
                found = self._alarms.records.get(f"{call.account}/{call.region}/{name}")
            elif kind.startswith("dashboard/"):
                found = self._dashboards.get(f"{call.account}/{kind.removeprefix('dashboard/')}")
        if found is None:
            raise not_found(f"Unknown resource {text}")
        return found
