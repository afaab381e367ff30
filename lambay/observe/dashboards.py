"""Dashboards: kept and given back, with what is wrong in their bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambay.aws import AWSError, Call, Service, arn
from lambay.clock import Clock
from lambay.observe.metrics.errors import invalid_value
from lambay.pages import paginate
from lambay.store import Collection, Store

Input = Mapping[str, Any]
Output = dict[str, Any]

_NAME = re.compile(r"[0-9A-Za-z_-]{1,255}")
_LARGEST_BODY = 1 << 20
_LISTED = 1000
_WIDGETS = ("metric", "text", "log", "alarm", "explorer", "custom")


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """`modified` is seconds since the epoch."""

    account: str
    name: str
    body: str
    modified: float
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        return f"{self.account}/{self.name}"

    @property
    def arn(self) -> str:
        return arn("cloudwatch", "", self.account, f"dashboard/{self.name}")


class DashboardOperations(Service):
    """Dashboards are an account's, in no Region."""

    service_name = "cloudwatch"
    _dashboards: Collection[Dashboard]
    _records: Store
    _clock: Clock

    async def put_dashboard(self, call: Call, input: Input) -> Output:
        name, body = input["DashboardName"], input["DashboardBody"]
        if not _NAME.fullmatch(name):
            raise _invalid(
                [
                    {
                        "DataPath": "",
                        "Message": f"The dashboard name {name!r} takes 1 to 255 of A-Z a-z 0-9 - _",
                    }
                ]
            )
        problems = _problems(body)
        if problems:
            raise _invalid(problems)
        before = self._dashboards.get(f"{call.account}/{name}")
        tags = {each["Key"]: each["Value"] for each in input.get("Tags") or ()}
        dashboard = Dashboard(
            account=call.account,
            name=name,
            body=body,
            modified=self._clock.time(),
            tags=tags or (before.tags if before else {}),
        )
        await self._records.commit(self._dashboards.put(dashboard.key, dashboard))
        return {"DashboardValidationMessages": []}

    async def get_dashboard(self, call: Call, input: Input) -> Output:
        found = self._dashboards.get(f"{call.account}/{input['DashboardName']}")
        if found is None:
            raise _missing(input["DashboardName"])
        return {"DashboardArn": found.arn, "DashboardBody": found.body, "DashboardName": found.name}

    async def list_dashboards(self, call: Call, input: Input) -> Output:
        prefix = input.get("DashboardNamePrefix", "")
        page = paginate(
            self._dashboards.under(f"{call.account}/{prefix}"),
            key=lambda dashboard: dashboard.name,
            token=input.get("NextToken"),
            limit=_LISTED,
            invalid=invalid_value,
            scope=f"ListDashboards:{prefix}",
        )
        output: Output = {
            "DashboardEntries": [
                {
                    "DashboardName": each.name,
                    "DashboardArn": each.arn,
                    "LastModified": datetime.fromtimestamp(each.modified, UTC),
                    "Size": len(each.body.encode()),
                }
                for each in page.items
            ]
        }
        if page.next_token:
            output["NextToken"] = page.next_token
        return output

    async def delete_dashboards(self, call: Call, input: Input) -> Output:
        """All of them or none, where one is not there."""
        keys = [f"{call.account}/{name}" for name in input["DashboardNames"]]
        for name, key in zip(input["DashboardNames"], keys, strict=True):
            if key not in self._dashboards:
                raise _missing(name)
        await self._records.commit(*(self._dashboards.remove(key) for key in keys))
        return {}


def _missing(name: str) -> AWSError:
    return AWSError("DashboardNotFoundError", f"Dashboard {name} does not exist")


def _invalid(problems: list[dict[str, str]]) -> AWSError:
    return AWSError(
        "DashboardInvalidInputError",
        "The field DashboardBody must be a valid JSON object: "
        + "; ".join(each["Message"] for each in problems),
        dashboardValidationMessages=problems,
    )


def _problems(body: str) -> list[dict[str, str]]:
    """What is wrong with a body, by place (`/widgets/0/type`); User Guide, "Dashboard body structure"."""
    if len(body.encode()) > _LARGEST_BODY:
        return [{"DataPath": "", "Message": f"The body has more than {_LARGEST_BODY} bytes"}]
    try:
        read = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        return [{"DataPath": "", "Message": f"Invalid JSON: {error}"}]
    if not isinstance(read, dict):
        return [{"DataPath": "", "Message": "Should be an object"}]
    widgets = read.get("widgets")
    if not isinstance(widgets, list):
        return [{"DataPath": "/widgets", "Message": "Should be an array"}]
    if len(widgets) > 500:
        return [{"DataPath": "/widgets", "Message": "Should have at most 500 widgets"}]
    found: list[dict[str, str]] = []
    for number, widget in enumerate(widgets):
        found += _widget_problems(f"/widgets/{number}", widget)
    return found


def _widget_problems(place: str, widget: object) -> list[dict[str, str]]:
    if not isinstance(widget, dict):
        return [{"DataPath": place, "Message": "Should be an object"}]
    found: list[dict[str, str]] = []
    kind = widget.get("type")
    if kind not in _WIDGETS:
        found.append({"DataPath": f"{place}/type", "Message": f"Should be one of {', '.join(_WIDGETS)}"})
    for name, most in (("x", 23), ("y", None), ("width", 24), ("height", 1000)):
        size = widget.get(name, 1)
        least = 0 if name in "xy" else 1
        if not isinstance(size, int) or size < least or (most is not None and size > most):
            found.append(
                {"DataPath": f"{place}/{name}", "Message": f"Should be a whole number from {least} on"}
            )
    properties = widget.get("properties")
    if not isinstance(properties, dict):
        return [*found, {"DataPath": f"{place}/properties", "Message": "Should be an object"}]
    wanted = {"text": "markdown", "log": "query", "alarm": "alarms", "custom": "endpoint"}.get(str(kind))
    if wanted is not None and wanted not in properties:
        found.append({"DataPath": f"{place}/properties/{wanted}", "Message": "Should be there"})
    metrics = properties.get("metrics")
    if kind == "metric" and not isinstance(metrics, list) and "annotations" not in properties:
        found.append({"DataPath": f"{place}/properties/metrics", "Message": "Should be an array"})
    if isinstance(metrics, list):
        found += [
            {"DataPath": f"{place}/properties/metrics/{number}", "Message": "Should be an array"}
            for number, metric in enumerate(metrics)
            if not isinstance(metric, list)
        ]
    return found
