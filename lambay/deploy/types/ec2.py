"""AWS::EC2::*: the network. Gateways, groups and lists are in `ec2_rules`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from lambay.aws import AWSError
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    as_list,
    gone,
    rest,
    tag_changes,
    tag_map,
    take,
)

_PATIENCE_SECONDS = 300


class Tagged(ResourceType):
    """A type whose one create call takes its properties as they are, and whose tags may change.

    `kind` is the tag specification's resource type, `wrapper` where the answer describes the new thing.
    """

    kind: ClassVar[str]
    operation: ClassVar[str]
    wrapper: ClassVar[str]
    member: ClassVar[str]
    removal: ClassVar[str]
    # The list of ids that removal takes, where it takes no single one.
    removal_list: ClassVar[str | None] = None
    left_out: ClassVar[tuple[str, ...]] = ()
    # The filter that finds the network interfaces which keep it from being deleted.
    interfaces_by: ClassVar[str | None] = None

    async def create(self, at: At, properties: Properties) -> Made:
        tags = at.system_tags(properties.get("Tags"))
        input = self.input(at, rest(properties, "Tags", *self.left_out))
        specification = [{"ResourceType": self.kind, "Tags": tags}]
        answer = await at.call("ec2", self.operation, **input, TagSpecifications=specification)
        made = answer[self.wrapper]
        id = str(made[self.member])
        await self.finish(at, id, properties, {})
        return Made(id, await self.known(at, id, made, properties))

    def input(self, at: At, properties: Properties) -> Mapping[str, Any]:
        return properties

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        """What takes further calls, at creation (`before` is empty) and at an update."""

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        return {self.member: id}

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await retag(at, id, properties, before)
        await self.finish(at, id, properties, before)
        return Made(id, await self.known(at, id, {}, properties))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        given: dict[str, Any] = {self.removal_list: [id]} if self.removal_list else {self.member: id}
        await vacated(at, self.interfaces_by, id, lambda: at.call("ec2", self.removal, **given))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return await tagged(at)


async def vacated(at: At, interfaces_by: str | None, id: str, remove: Callable[[], Awaitable[Any]]) -> None:
    """`remove`, and again as long as interfaces of functions or mount targets stand in its way, which are taken down
    by and by. Their own records are what `At.until` sees change; the interface itself goes a moment later.
    """
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    unhindered = 0

    async def attempt() -> bool:
        nonlocal unhindered
        try:
            await gone(remove())
        except AWSError as error:
            if error.code != "DependencyViolation" or interfaces_by is None:
                raise
            filters = [{"Name": interfaces_by, "Values": [id]}]
            found = await at.call("ec2", "DescribeNetworkInterfaces", Filters=filters)
            leaving = any(map(_leaves_by_itself, found["NetworkInterfaces"]))
            # The last one may have gone between the attempt and the look: once more, then it is something else.
            unhindered = 0 if leaving else unhindered + 1
            if unhindered > 1 or asyncio.get_running_loop().time() > deadline:
                raise
            return await attempt() if unhindered else False
        return True

    await at.until(attempt)


def _leaves_by_itself(interface: Mapping[str, Any]) -> bool:
    described = str(interface.get("Description", ""))
    return described.startswith(("AWS Lambda VPC ENI", "EFS mount target"))


async def tagged(at: At) -> list[str]:
    """The ids of whatever carries this resource's tags."""
    filters = [
        {"Name": "key", "Values": ["aws:cloudformation:logical-id"]},
        {"Name": "value", "Values": [at.resource]},
    ]
    named = await at.call("ec2", "DescribeTags", Filters=filters)
    filters = [
        {"Name": "key", "Values": ["aws:cloudformation:stack-id"]},
        {"Name": "value", "Values": [at.stack_arn]},
    ]
    of_stack = await at.call("ec2", "DescribeTags", Filters=filters)
    ours = {tag["ResourceId"] for tag in of_stack["Tags"]}
    return [tag["ResourceId"] for tag in named["Tags"] if tag["ResourceId"] in ours]


async def retag(at: At, id: str, properties: Properties, before: Properties) -> None:
    put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
    if put:
        tags = [{"Key": key, "Value": value} for key, value in put.items()]
        await at.call("ec2", "CreateTags", Resources=[id], Tags=tags)
    if removed:
        await at.call("ec2", "DeleteTags", Resources=[id], Tags=[{"Key": key} for key in removed])


class Vpc(Tagged):
    name = "AWS::EC2::VPC"
    kind, operation, wrapper, member, removal = "vpc", "CreateVpc", "Vpc", "VpcId", "DeleteVpc"
    left_out = ("EnableDnsHostnames", "EnableDnsSupport")
    interfaces_by = "vpc-id"
    extra_attributes = frozenset({"CidrBlock"})

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        for name in self.left_out:
            if name in properties and properties[name] != before.get(name):
                await at.call("ec2", "ModifyVpcAttribute", VpcId=id, **{name: {"Value": properties[name]}})

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        of_vpc = [{"Name": "vpc-id", "Values": [id]}]
        described = (await at.call("ec2", "DescribeVpcs", VpcIds=[id]))["Vpcs"][0]
        groups = await at.call(
            "ec2", "DescribeSecurityGroups", Filters=[*of_vpc, {"Name": "group-name", "Values": ["default"]}]
        )
        lists = await at.call(
            "ec2", "DescribeNetworkAcls", Filters=[*of_vpc, {"Name": "default", "Values": ["true"]}]
        )
        return {
            "VpcId": id,
            "CidrBlock": described["CidrBlock"],
            "CidrBlockAssociations": [
                item["AssociationId"] for item in described.get("CidrBlockAssociationSet", ())
            ],
            "Ipv6CidrBlocks": [
                item["Ipv6CidrBlock"] for item in described.get("Ipv6CidrBlockAssociationSet", ())
            ],
            "DefaultSecurityGroup": next((group["GroupId"] for group in groups["SecurityGroups"]), ""),
            "DefaultNetworkAcl": next((found["NetworkAclId"] for found in lists["NetworkAcls"]), ""),
        }


class Subnet(Tagged):
    name = "AWS::EC2::Subnet"
    kind, operation, wrapper, member, removal = "subnet", "CreateSubnet", "Subnet", "SubnetId", "DeleteSubnet"
    interfaces_by = "subnet-id"
    left_out = (
        "MapPublicIpOnLaunch",
        "AssignIpv6AddressOnCreation",
        "EnableDns64",
        "PrivateDnsNameOptionsOnLaunch",
    )
    extra_attributes = frozenset(
        {"AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId", "OutpostArn"}
    )

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        for name in self.left_out[:3]:
            if name in properties and properties[name] != before.get(name):
                value = {"Value": properties[name]}
                await at.call("ec2", "ModifySubnetAttribute", SubnetId=id, **{name: value})

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        found = (await at.call("ec2", "DescribeSubnets", SubnetIds=[id]))["Subnets"][0]
        filters = [{"Name": "association.subnet-id", "Values": [id]}]
        lists = (await at.call("ec2", "DescribeNetworkAcls", Filters=filters))["NetworkAcls"]
        associations = [one for item in lists for one in item["Associations"] if one["SubnetId"] == id]
        return {
            **take(found, "SubnetId", "AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId"),
            "Ipv6CidrBlocks": [
                item["Ipv6CidrBlock"] for item in found.get("Ipv6CidrBlockAssociationSet", ())
            ],
            "NetworkAclAssociationId": associations[0]["NetworkAclAssociationId"] if associations else "",
        }


class InternetGateway(Tagged):
    name = "AWS::EC2::InternetGateway"
    kind, operation, wrapper = "internet-gateway", "CreateInternetGateway", "InternetGateway"
    member, removal = "InternetGatewayId", "DeleteInternetGateway"


class EgressOnlyInternetGateway(Tagged):
    name = "AWS::EC2::EgressOnlyInternetGateway"
    kind, operation, wrapper = (
        "egress-only-internet-gateway",
        "CreateEgressOnlyInternetGateway",
        "EgressOnlyInternetGateway",
    )
    member, removal = "EgressOnlyInternetGatewayId", "DeleteEgressOnlyInternetGateway"

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        return {"Id": id}


class GatewayAttachment(ResourceType):
    name = "AWS::EC2::VPCGatewayAttachment"

    async def create(self, at: At, properties: Properties) -> Made:
        vpc = properties["VpcId"]
        if "InternetGatewayId" in properties:
            gateway = properties["InternetGatewayId"]
            await at.call("ec2", "AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
            return Made(f"IGW|{vpc}", {"AttachmentType": "IGW"})
        await at.call("ec2", "AttachVpnGateway", VpnGatewayId=properties["VpnGatewayId"], VpcId=vpc)
        return Made(f"VGW|{vpc}", {"AttachmentType": "VGW"})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        vpc = properties["VpcId"]
        if "InternetGatewayId" in properties:
            gateway = properties["InternetGatewayId"]
            await gone(
                at.call("ec2", "DetachInternetGateway", InternetGatewayId=gateway, VpcId=vpc),
                "Gateway.NotAttached",
            )
        else:
            await gone(at.call("ec2", "DetachVpnGateway", VpnGatewayId=properties["VpnGatewayId"], VpcId=vpc))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        kind = "IGW" if "InternetGatewayId" in properties else "VGW"
        return [f"{kind}|{properties['VpcId']}"]


class RouteTable(Tagged):
    name = "AWS::EC2::RouteTable"
    kind, operation, wrapper, member = "route-table", "CreateRouteTable", "RouteTable", "RouteTableId"
    removal = "DeleteRouteTable"


_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")


class Route(ResourceType):
    name = "AWS::EC2::Route"

    async def create(self, at: At, properties: Properties) -> Made:
        await at.call("ec2", "CreateRoute", **properties)
        return Made(self._id(properties), {"CidrBlock": _destination(properties)[1]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("ec2", "ReplaceRoute", **properties)
        return Made(id, {"CidrBlock": _destination(properties)[1]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        name, value = _destination(properties)
        await gone(at.call("ec2", "DeleteRoute", RouteTableId=properties["RouteTableId"], **{name: value}))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [self._id(properties)]

    def _id(self, properties: Properties) -> str:
        return f"{properties['RouteTableId']}|{_destination(properties)[1]}"


def _destination(properties: Properties) -> tuple[str, str]:
    name = next((item for item in _DESTINATIONS if item in properties), _DESTINATIONS[0])
    return name, str(properties.get(name, ""))


class RouteTableAssociation(ResourceType):
    name = "AWS::EC2::SubnetRouteTableAssociation"

    async def create(self, at: At, properties: Properties) -> Made:
        answer = await at.call("ec2", "AssociateRouteTable", **properties)
        return Made(answer["AssociationId"], {"Id": answer["AssociationId"]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("ec2", "DisassociateRouteTable", AssociationId=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        tables = await at.call("ec2", "DescribeRouteTables", RouteTableIds=[properties["RouteTableId"]])
        return [
            item["RouteTableAssociationId"]
            for table in tables["RouteTables"]
            for item in table["Associations"]
            if item.get("SubnetId") == properties["SubnetId"]
        ]


class ElasticIp(ResourceType):
    name = "AWS::EC2::EIP"

    async def create(self, at: At, properties: Properties) -> Made:
        specification = [{"ResourceType": "elastic-ip", "Tags": at.system_tags(properties.get("Tags"))}]
        made = await at.call(
            "ec2",
            "AllocateAddress",
            Domain=properties.get("Domain", "vpc"),
            **take(properties, "Address", "PublicIpv4Pool", "NetworkBorderGroup"),
            TagSpecifications=specification,
        )
        if "InstanceId" in properties:
            await at.call(
                "ec2",
                "AssociateAddress",
                AllocationId=made["AllocationId"],
                InstanceId=properties["InstanceId"],
            )
        return Made(made["PublicIp"], take(made, "AllocationId", "PublicIp"))

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        allocation = await self._allocation(at, id)
        await retag(at, allocation, properties, before)
        if "InstanceId" in properties and properties["InstanceId"] != before.get("InstanceId"):
            await at.call(
                "ec2", "AssociateAddress", AllocationId=allocation, InstanceId=properties["InstanceId"]
            )
        return Made(id, {"AllocationId": allocation, "PublicIp": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        async def release() -> None:
            await at.call("ec2", "ReleaseAddress", AllocationId=await self._allocation(at, id))

        await gone(release())

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        ids = [id for id in await tagged(at) if id.startswith("eipalloc-")]
        if not ids:
            return ()
        found = await at.call("ec2", "DescribeAddresses", AllocationIds=ids)
        return [address["PublicIp"] for address in found["Addresses"]]

    async def _allocation(self, at: At, address: str) -> str:
        found = await at.call("ec2", "DescribeAddresses", PublicIps=[address])
        return str(found["Addresses"][0]["AllocationId"])


class NatGateway(Tagged):
    name = "AWS::EC2::NatGateway"
    kind, operation, wrapper, member = "natgateway", "CreateNatGateway", "NatGateway", "NatGatewayId"
    removal = "DeleteNatGateway"
    left_out = ("MaxDrainDurationSeconds",)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """With its interface, which EC2 takes down by itself and moto leaves."""
        try:
            found = (await at.call("ec2", "DescribeNatGateways", NatGatewayIds=[id]))["NatGateways"]
        except AWSError:
            return
        await gone(at.call("ec2", "DeleteNatGateway", NatGatewayId=id))
        for address in (one for gateway in found for one in gateway.get("NatGatewayAddresses", ())):
            if address.get("NetworkInterfaceId"):
                interface = address["NetworkInterfaceId"]
                await gone(at.call("ec2", "DeleteNetworkInterface", NetworkInterfaceId=interface))


class VpcEndpoint(Tagged):
    name = "AWS::EC2::VPCEndpoint"
    kind, operation, wrapper, member = "vpc-endpoint", "CreateVpcEndpoint", "VpcEndpoint", "VpcEndpointId"
    removal, removal_list = "DeleteVpcEndpoints", "VpcEndpointIds"

    def input(self, at: At, properties: Properties) -> Mapping[str, Any]:
        document = properties.get("PolicyDocument")
        return {**properties, "PolicyDocument": as_json(document)} if document is not None else properties

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        if not before:
            return
        changes: dict[str, Any] = {}
        for name, singular in (
            ("RouteTableIds", "RouteTableIds"),
            ("SubnetIds", "SubnetIds"),
            ("SecurityGroupIds", "SecurityGroupIds"),
        ):
            old, new = set(as_list(before.get(name))), set(as_list(properties.get(name)))
            if new - old:
                changes[f"Add{singular}"] = sorted(new - old)
            if old - new:
                changes[f"Remove{singular}"] = sorted(old - new)
        if properties.get("PolicyDocument") != before.get("PolicyDocument"):
            changes["PolicyDocument"] = as_json(properties.get("PolicyDocument"))
        if changes:
            await at.call("ec2", "ModifyVpcEndpoint", VpcEndpointId=id, **changes)

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        found = (await at.call("ec2", "DescribeVpcEndpoints", VpcEndpointIds=[id]))["VpcEndpoints"][0]
        entries = [
            f"{item.get('HostedZoneId', '')}:{item['DnsName']}" for item in found.get("DnsEntries", ())
        ]
        return {"Id": id, "NetworkInterfaceIds": found.get("NetworkInterfaceIds", []), "DnsEntries": entries}


class PeeringConnection(Tagged):
    name = "AWS::EC2::VPCPeeringConnection"
    kind, operation, wrapper = "vpc-peering-connection", "CreateVpcPeeringConnection", "VpcPeeringConnection"
    member, removal = "VpcPeeringConnectionId", "DeleteVpcPeeringConnection"
    left_out = ("PeerRoleArn",)

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        # Within an account and Region CloudFormation accepts what it asked for.
        same = properties.get("PeerOwnerId", at.account) == at.account
        if not before and same and properties.get("PeerRegion", at.region) == at.region:
            await at.call("ec2", "AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        return {"Id": id}


class NetworkInterface(Tagged):
    name = "AWS::EC2::NetworkInterface"
    kind, operation, wrapper = "network-interface", "CreateNetworkInterface", "NetworkInterface"
    member, removal = "NetworkInterfaceId", "DeleteNetworkInterface"
    left_out = ("SourceDestCheck", "GroupSet")

    def input(self, at: At, properties: Properties) -> Mapping[str, Any]:
        return properties

    async def finish(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        if "GroupSet" in properties and properties["GroupSet"] != before.get("GroupSet"):
            groups = properties["GroupSet"]
            await at.call("ec2", "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=id, Groups=groups)

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        found = await at.call("ec2", "DescribeNetworkInterfaces", NetworkInterfaceIds=[id])
        interface = found["NetworkInterfaces"][0]
        return {
            "Id": id,
            "PrimaryPrivateIpAddress": interface["PrivateIpAddress"],
            "VpcId": interface["VpcId"],
        }


class VpcCidrBlock(ResourceType):
    name = "AWS::EC2::VPCCidrBlock"

    async def create(self, at: At, properties: Properties) -> Made:
        answer = await at.call("ec2", "AssociateVpcCidrBlock", **properties)
        made = answer.get("CidrBlockAssociation") or answer["Ipv6CidrBlockAssociation"]
        return Made(made["AssociationId"], {"Id": made["AssociationId"]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("ec2", "DisassociateVpcCidrBlock", AssociationId=id))


class DhcpOptions(Tagged):
    name = "AWS::EC2::DHCPOptions"
    kind, operation, wrapper, member = "dhcp-options", "CreateDhcpOptions", "DhcpOptions", "DhcpOptionsId"
    removal = "DeleteDhcpOptions"

    def input(self, at: At, properties: Properties) -> Mapping[str, Any]:
        names = {
            "DomainName": "domain-name",
            "DomainNameServers": "domain-name-servers",
            "NtpServers": "ntp-servers",
            "NetbiosNameServers": "netbios-name-servers",
            "NetbiosNodeType": "netbios-node-type",
        }
        given = [
            {"Key": key, "Values": [str(item) for item in as_list(properties[name])]}
            for name, key in names.items()
            if name in properties
        ]
        return {"DhcpConfigurations": given}


class DhcpOptionsAssociation(ResourceType):
    name = "AWS::EC2::VPCDHCPOptionsAssociation"

    async def create(self, at: At, properties: Properties) -> Made:
        await at.call("ec2", "AssociateDhcpOptions", **properties)
        return Made(f"{properties['DhcpOptionsId']}|{properties['VpcId']}")

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("ec2", "AssociateDhcpOptions", DhcpOptionsId="default", VpcId=properties["VpcId"]))


def as_json(document: Any) -> str | None:
    """A policy document as the text that APIs want."""
    import msgspec

    if document is None or isinstance(document, str):
        return document
    return msgspec.json.encode(document).decode()


TYPES: tuple[ResourceType, ...] = (
    Vpc(),
    Subnet(),
    InternetGateway(),
    EgressOnlyInternetGateway(),
    GatewayAttachment(),
    RouteTable(),
    Route(),
    RouteTableAssociation(),
    ElasticIp(),
    NatGateway(),
    VpcEndpoint(),
    PeeringConnection(),
    NetworkInterface(),
    VpcCidrBlock(),
    DhcpOptions(),
    DhcpOptionsAssociation(),
)
