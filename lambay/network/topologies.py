"""The topology that is in force: EC2's records of the accounts and Regions in use, read anew when they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from lambay.aws import AWSError
from lambay.network.model import Topology
from lambay.network.model.reading import OPERATIONS, topology
from lambay.network.ports import Neighbours

_log = logging.getLogger("lambay.network")

Place = tuple[str, str]
"""Account and Region."""


class Topologies:
    """`apply` is awaited with each new topology before anybody sees it."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._parts: dict[Place, Topology] = {}
        self._used: set[Place] = set()
        self._stale: set[Place] = set()
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._apply: list[Callable[[Topology], Awaitable[None]]] = []
        self.latest = Topology()

    def on_apply(self, apply: Callable[[Topology], Awaitable[None]]) -> None:
        self._apply.append(apply)

    def changed(self, account: str, region: str) -> None:
        """Something of EC2's has changed there."""
        place = (account, region)
        if place not in self._used:
            return
        if place not in self._stale:
            self._stale.add(place)
            task = asyncio.create_task(self._refresh(), name="network topology")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def of(self, account: str, region: str) -> Topology:
        """The topology with all that had been changed there when this was called. Raises AWSError."""
        place = (account, region)
        if place not in self._used:
            self._used.add(place)
            self._stale.add(place)
        await self._refresh()
        return self.latest

    async def until(
        self, holds: Callable[[Topology], bool], account: str, region: str, seconds: float
    ) -> Topology:
        """The topology once `holds`, or as it is after that time."""
        found = await self.of(account, region)
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: holds(self.latest))
        except TimeoutError:
            return found
        return self.latest

    async def settled(self) -> None:
        """Return once what has changed so far is in force."""
        if self._stale or self._refreshing.locked():
            try:
                await self._refresh()
            except AWSError as error:
                _log.error("the network's rules are not what EC2 says: %s", error)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Everything of EC2's is gone."""
        for account, region in list(self._used):
            self.changed(account, region)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("the network's rules are not what EC2 says: %s", task.exception())

    async def _refresh(self) -> None:
        async with self._refreshing:
            while self._stale:
                place = self._stale.pop()
                try:
                    self._parts[place] = await self._read(place)
                except BaseException:
                    self._stale.add(place)
                    raise
                if self._stale:
                    continue
                joined = Topology()
                for part in self._parts.values():
                    joined = joined.joined(part)
                for apply in self._apply:
                    await apply(joined)
                self.latest = joined
                async with self._changed:
                    self._changed.notify_all()

    async def _read(self, place: Place) -> Topology:
        account, region = place
        answers: dict[str, list[Any]] = {}
        for operation, member in OPERATIONS.items():
            found = await self._call(operation, {}, place)
            answers[operation] = list(found[member])
        self._follow_peerings(answers["DescribeVpcPeeringConnections"])
        inhabited = {each["VpcId"] for each in answers["DescribeNetworkInterfaces"]}
        no_dns = [vpc for vpc in sorted(inhabited) if not await self._resolves(vpc, place)]
        prefixes = {name: await self._prefixes(name, place) for name in _named_lists(answers)}
        return topology(answers, prefixes, frozenset(no_dns), account, region)

    def _follow_peerings(self, peerings: list[Any]) -> None:
        """The VPC at the other end may be another account's."""
        for peering in peerings:
            for end in ("RequesterVpcInfo", "AccepterVpcInfo"):
                other = peering.get(end, {})
                place = (other.get("OwnerId"), other.get("Region"))
                if all(place) and place not in self._used:
                    self._used.add(place)
                    self._stale.add(place)

    async def _resolves(self, vpc: str, place: Place) -> bool:
        found = await self._call(
            "DescribeVpcAttribute", {"VpcId": vpc, "Attribute": "enableDnsSupport"}, place
        )
        return bool(found.get("EnableDnsSupport", {}).get("Value", True))

    async def _prefixes(self, identifier: str, place: Place) -> tuple[str, ...]:
        try:
            found = await self._call("GetManagedPrefixListEntries", {"PrefixListId": identifier}, place)
        except AWSError:
            return ()
        return tuple(each["Cidr"] for each in found.get("Entries") or ())

    async def _call(self, operation: str, input: dict[str, Any], place: Place) -> dict[str, Any]:
        return await self._neighbours.call("ec2", operation, input, account=place[0], region=place[1])


def _named_lists(answers: dict[str, list[Any]]) -> list[str]:
    """Prefix lists that a route or a rule names."""
    named = {
        each["DestinationPrefixListId"]
        for table in answers["DescribeRouteTables"]
        for each in table.get("Routes", ())
        if each.get("DestinationPrefixListId")
    }
    for group in answers["DescribeSecurityGroups"]:
        for rule in (*group.get("IpPermissions", ()), *group.get("IpPermissionsEgress", ())):
            named |= {each["PrefixListId"] for each in rule.get("PrefixListIds", ())}
    return sorted(named)
