"""The network interfaces of functions in a VPC: one for each subnet and set of security groups in use.

Functions with the same subnet and security groups share an interface, as in Lambda ("Understanding
Hyperplane Elastic Network Interfaces"). EC2 forgets derived interfaces at a restart; their ids and
addresses are kept here and the same interfaces are made again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable

from lambay.aws import AWSError
from lambay.functions.ports import Network
from lambay.functions.records import NetworkInterface, Version
from lambay.functions.resources import Resources

_log = logging.getLogger(__name__)

_KIND = "lambda"
_REQUESTER = "amazon-aws"


class Interfaces:
    """Makes interfaces when a version needs them and ends those that no version needs."""

    def __init__(self, resources: Resources, network: Network) -> None:
        self._resources = resources
        self._network = network
        self._lock = asyncio.Lock()

    async def attach(self, version: Version) -> None:
        """The version's interfaces exist after. Raises AWSError with EC2's code."""
        async with self._lock:
            for wanted in _needed(version):
                if wanted.key not in self._resources.interfaces:
                    await self._make(wanted, version.name)

    async def resume(self) -> None:
        """Make the kept interfaces exist again."""
        async with self._lock:
            for kept in self._resources.interfaces:
                try:
                    await self._network.ensure_interface(
                        kept.id,
                        kept.subnet,
                        kept.security_groups,
                        kept.address,
                        account=kept.account,
                        region=kept.region,
                        description=kept.description,
                        kind=_KIND,
                        requester=_REQUESTER,
                    )
                except AWSError as error:
                    _log.error("interface %s in %s: %s", kept.id, kept.subnet, error)

    async def collect(self, draining: Iterable[Version] = ()) -> None:
        """Delete the interfaces that no version needs any more, earlier builds that still drain included."""
        async with self._lock:
            needed = {
                wanted.key
                for version in (*self._resources.versions, *draining)
                for wanted in (*_needed(version), *_needed(version.running))
            }
            for kept in self._resources.interfaces:
                if kept.key in needed:
                    continue
                try:
                    await self._network.delete_interface(kept.id, account=kept.account, region=kept.region)
                except AWSError as error:
                    if error.code != "InvalidNetworkInterfaceID.NotFound":
                        _log.error("interface %s in %s: %s", kept.id, kept.subnet, error)
                        continue
                await self._resources.commit(self._resources.interfaces.remove(kept.key))

    async def _make(self, wanted: NetworkInterface, function: str) -> None:
        description = f"AWS Lambda VPC ENI-{function}-{uuid.uuid4()}"
        made = await self._network.create_interface(
            wanted.subnet,
            wanted.security_groups,
            account=wanted.account,
            region=wanted.region,
            description=description,
            kind=_KIND,
            requester=_REQUESTER,
        )
        kept = NetworkInterface(
            account=wanted.account,
            region=wanted.region,
            subnet=wanted.subnet,
            security_groups=wanted.security_groups,
            id=made.id,
            address=made.address,
            description=description,
        )
        await self._resources.commit(self._resources.interfaces.put(kept.key, kept))


def _needed(version: Version) -> list[NetworkInterface]:
    """What the version needs, still without ids."""
    vpc = version.configuration.vpc
    if vpc is None or version.state == "Inactive":
        return []
    groups = tuple(sorted(vpc.security_group_ids))
    return [
        NetworkInterface(
            account=version.account, region=version.region, subnet=subnet, security_groups=groups
        )
        for subnet in vpc.subnet_ids
    ]
