"""NAT gateways, as EC2 tells of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambay.aws import Neighbours


@dataclass(frozen=True, slots=True)
class Gateway:
    id: str
    created: float
    deleted: float | None


class NatGateways:
    """Of one account and Region. While EC2 was not asked for anything yet, nothing is loaded for this."""

    def __init__(self, neighbours: Neighbours, loaded: Callable[[], bool], account: str, region: str) -> None:
        self._neighbours = neighbours
        self._loaded = loaded
        self._account = account
        self._region = region

    async def __call__(self) -> list[Gateway]:
        if not self._loaded():
            return []
        told = await self._neighbours.call(
            "ec2", "DescribeNatGateways", {}, account=self._account, region=self._region
        )
        return [
            Gateway(each["NatGatewayId"], _seconds(each["CreateTime"]), _deleted(each))
            for each in told.get("NatGateways", ())
        ]


def _deleted(each: dict[str, Any]) -> float | None:
    moment = each.get("DeleteTime")
    if moment is not None:
        return _seconds(moment)
    return None if each.get("State") in ("available", "pending") else _seconds(each["CreateTime"])


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
