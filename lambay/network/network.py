"""Subnets, security groups and derived interfaces, as the resources that live in a VPC need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lambay.aws import AWSError, resource_id
from lambay.neighbours import DerivedInterface
from lambay.network.model import Interface as ModelInterface
from lambay.network.model import Topology, Verdict, reach
from lambay.network.model.records import network
from lambay.network.ports import Neighbours
from lambay.network.topologies import Topologies


@dataclass(frozen=True, slots=True)
class Subnet:
    """`zone` is the Availability Zone's name (`eu-west-1a`), `zone_id` its ID (`euw1-az1`)."""

    id: str
    vpc: str
    zone: str
    zone_id: str
    cidr: str
    available_addresses: int


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    id: str
    vpc: str
    name: str


@dataclass(frozen=True, slots=True)
class Interface:
    """A derived network interface and its primary private IPv4 address."""

    id: str
    address: str


class Network:
    """VPCs over the EC2 neighbour.

    Errors are AWSErrors with EC2's codes, for the caller to map to its own.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self.topologies = Topologies(neighbours)

    def changed(self, account: str, region: str) -> None:
        """EC2's records there are not what they were."""
        self.topologies.changed(account, region)

    async def reach_mount_target(
        self,
        subnet: str,
        groups: Sequence[str],
        address: str,
        *,
        account: str,
        region: str,
        port: int = 2049,
    ) -> Verdict:
        """Whether a function with these groups in this subnet reaches the mount target's address, which may
        be in a peered VPC. Raises InvalidSubnetID.NotFound."""
        topology = await self.topologies.of(account, region)
        source = _function(topology, subnet, groups)
        vpcs = [source.vpc, *_peers(topology, source.vpc)]
        found = next((each for vpc in vpcs if (each := topology.at(vpc, address)) is not None), None)
        return reach(topology, source, address if found is None else found, "tcp", port)

    async def reach_internet(
        self,
        subnet: str,
        groups: Sequence[str],
        *,
        account: str,
        region: str,
        address: str = "8.8.8.8",
        port: int = 443,
    ) -> Verdict:
        """Whether such a function reaches an address of the internet. Raises InvalidSubnetID.NotFound."""
        topology = await self.topologies.of(account, region)
        return reach(topology, _function(topology, subnet, groups), address, "tcp", port)

    async def subnet(self, subnet: str, *, account: str, region: str) -> Subnet:
        """Raises InvalidSubnetID.NotFound."""
        found = await self._neighbours.call(
            "ec2", "DescribeSubnets", {"SubnetIds": [subnet]}, account=account, region=region
        )
        entry = found["Subnets"][0]
        return Subnet(
            entry["SubnetId"],
            entry["VpcId"],
            entry["AvailabilityZone"],
            entry["AvailabilityZoneId"],
            entry["CidrBlock"],
            entry["AvailableIpAddressCount"],
        )

    async def security_groups(
        self, groups: Sequence[str], *, account: str, region: str
    ) -> tuple[SecurityGroup, ...]:
        """The groups in the order of `groups`. Raises InvalidGroup.NotFound."""
        if not groups:
            return ()
        found = await self._neighbours.call(
            "ec2",
            "DescribeSecurityGroups",
            {"GroupIds": list(dict.fromkeys(groups))},
            account=account,
            region=region,
        )
        by_id = {entry["GroupId"]: entry for entry in found["SecurityGroups"]}
        return tuple(
            SecurityGroup(group, by_id[group]["VpcId"], by_id[group]["GroupName"]) for group in groups
        )

    async def check_security_groups(
        self, groups: Sequence[str], vpc: str, *, account: str, region: str
    ) -> None:
        """Raises InvalidGroup.NotFound unless all of `groups` exist in `vpc`.

        A group serves its own VPC only.
        """
        for group in await self.security_groups(groups, account=account, region=region):
            if group.vpc != vpc:
                raise AWSError(
                    "InvalidGroup.NotFound",
                    f"The security group '{group.id}' does not exist in VPC '{vpc}'",
                    status=400,
                )

    async def default_security_group(self, vpc: str, *, account: str, region: str) -> str:
        """The id of the VPC's group called `default`. Raises InvalidVpcID.NotFound."""
        found = await self._neighbours.call(
            "ec2",
            "DescribeSecurityGroups",
            {"Filters": [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]},
            account=account,
            region=region,
        )
        if not found["SecurityGroups"]:
            raise AWSError("InvalidVpcID.NotFound", f"The vpc ID '{vpc}' does not exist", status=400)
        return str(found["SecurityGroups"][0]["GroupId"])

    async def create_interface(
        self,
        subnet: str,
        security_groups: Sequence[str],
        *,
        account: str,
        region: str,
        description: str,
        address: str | None = None,
        kind: str = "interface",
        requester: str = "amazon-elasticfilesystem",
    ) -> Interface:
        """A new derived interface in `subnet`, at `address` or at a free one.

        It is not kept over a restart: its owner records id and address and calls `ensure_interface` at the
        next start. `kind` is EC2's InterfaceType (`interface` for a mount target, `lambda` for a function).
        Raises InvalidSubnetID.NotFound, InvalidGroup.NotFound, InvalidIPAddress.InUse, InvalidParameterValue
        (`address` lies outside of the subnet or is one of AWS's own) and InsufficientFreeAddressesInSubnet.
        """
        given = DerivedInterface(
            resource_id("eni"), subnet, tuple(security_groups), address or "", description, kind, requester
        )
        made = await self._neighbours.interfaces.put(given, account=account, region=region)
        self.changed(account, region)
        return Interface(made.id, made.address)

    async def ensure_interface(
        self,
        interface: str,
        subnet: str,
        security_groups: Sequence[str],
        address: str,
        *,
        account: str,
        region: str,
        description: str,
        kind: str = "interface",
        requester: str = "amazon-elasticfilesystem",
    ) -> None:
        """The derived interface of exactly this id and address exists after.

        Errors as of `create_interface`.
        """
        given = DerivedInterface(
            interface, subnet, tuple(security_groups), address, description, kind, requester
        )
        await self._neighbours.interfaces.put(given, account=account, region=region)
        self.changed(account, region)

    async def set_interface_groups(
        self, interface: str, security_groups: Sequence[str], *, account: str, region: str
    ) -> None:
        """Raises InvalidNetworkInterfaceID.NotFound, InvalidGroup.NotFound."""
        await self._neighbours.interfaces.regroup(interface, security_groups, account=account, region=region)
        self.changed(account, region)

    async def delete_interface(self, interface: str, *, account: str, region: str) -> None:
        """Removes a derived interface; one that is gone already is no error."""
        await self._neighbours.interfaces.remove(interface, account=account, region=region)
        self.changed(account, region)


def _function(topology: Topology, subnet: str, groups: Sequence[str]) -> ModelInterface:
    """The interface of functions there or, where none is yet, one as it would be."""
    place = topology.subnets.get(subnet)
    if place is None:
        raise AWSError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist", status=400)
    wanted = sorted(groups)
    for each in topology.interfaces.values():
        if each.function and each.subnet == subnet and sorted(each.groups) == wanted:
            return each
    first = str(network(place.cidr).network_address + 4)
    return ModelInterface(
        "(new)", place.vpc, subnet, first, tuple(groups), True, "the function's network interface"
    )


def _peers(topology: Topology, vpc: str) -> list[str]:
    return [each.other(vpc) for each in topology.peerings.values() if vpc in (each.requester, each.accepter)]
