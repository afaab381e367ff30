"""AWS::EC2::*: security groups and network ACLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lambay.deploy.types.base import At, Made, Properties, ResourceType, as_list, gone, take
from lambay.deploy.types.ec2 import Tagged, retag, tagged, vacated


def permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    """One rule as EC2's IpPermissions has it."""
    made: dict[str, Any] = {
        "IpProtocol": str(rule.get("IpProtocol", "-1")),
        **take(rule, "FromPort", "ToPort"),
    }
    described = take(rule, "Description")
    if "CidrIp" in rule:
        made["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    if "CidrIpv6" in rule:
        made["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **described}]
    prefix_list = rule.get("SourcePrefixListId") or rule.get("DestinationPrefixListId")
    if prefix_list:
        made["PrefixListIds"] = [{"PrefixListId": prefix_list, **described}]
    group = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    named = rule.get("SourceSecurityGroupName")
    if group or named:
        pair = {"GroupId": group} if group else {"GroupName": named}
        if "SourceSecurityGroupOwnerId" in rule:
            pair["UserId"] = rule["SourceSecurityGroupOwnerId"]
        made["UserIdGroupPairs"] = [{**pair, **described}]
    return made


_EVERYTHING = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}


class SecurityGroup(ResourceType):
    name = "AWS::EC2::SecurityGroup"
    extra_attributes = frozenset({"VpcId"})

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "ec2",
            "CreateSecurityGroup",
            GroupName=properties.get("GroupName") or at.name(255),
            Description=properties["GroupDescription"],
            VpcId=properties.get("VpcId"),
            TagSpecifications=[
                {"ResourceType": "security-group", "Tags": at.system_tags(properties.get("Tags"))}
            ],
        )
        id = made["GroupId"]
        await self._settle(at, id, properties, {})
        return Made(id, await self._known(at, id))

    async def _known(self, at: At, id: str) -> dict[str, Any]:
        found = (await at.call("ec2", "DescribeSecurityGroups", GroupIds=[id]))["SecurityGroups"][0]
        return {"GroupId": id, "Id": id, "VpcId": found.get("VpcId", "")}

    async def _settle(self, at: At, id: str, properties: Properties, before: Properties) -> None:
        """From the rules of `before` to those of `properties`; without egress rules all is let out."""
        for direction in ("Ingress", "Egress"):
            name = f"SecurityGroup{direction}"
            old, new = as_list(before.get(name)), as_list(properties.get(name))
            if direction == "Egress":
                old, new = old or [_EVERYTHING], new or [_EVERYTHING]
            removed = [permission(rule) for rule in old if rule not in new]
            added = [permission(rule) for rule in new if rule not in old]
            if removed:
                await gone(
                    at.call("ec2", f"RevokeSecurityGroup{direction}", GroupId=id, IpPermissions=removed)
                )
            if added:
                await at.call("ec2", f"AuthorizeSecurityGroup{direction}", GroupId=id, IpPermissions=added)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._settle(at, id, properties, before)
        await retag(at, id, properties, before)
        return Made(id, await self._known(at, id))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await vacated(at, "group-id", id, lambda: at.call("ec2", "DeleteSecurityGroup", GroupId=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [id for id in await tagged(at) if id.startswith("sg-")]


class Rule(ResourceType):
    """A rule that stands by itself, so that two groups can refer to each other."""

    direction: ClassVar[str]

    async def create(self, at: At, properties: Properties) -> Made:
        given: dict[str, Any] = {"IpPermissions": [permission(properties)]}
        given |= take(properties, "GroupId", "GroupName")
        answer = await at.call("ec2", f"AuthorizeSecurityGroup{self.direction}", **given)
        rules = answer.get("SecurityGroupRules") or [{}]
        id = rules[0].get("SecurityGroupRuleId") or f"{properties.get('GroupId')}|{at.token[:12]}"
        return Made(id, {"Id": id})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        """The description, which is all that may change in place."""
        given: dict[str, Any] = {"IpPermissions": [permission({"Description": "", **properties})]}
        given |= take(properties, "GroupId", "GroupName")
        await at.call("ec2", f"UpdateSecurityGroupRuleDescriptions{self.direction}", **given)
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        given: dict[str, Any] = {"IpPermissions": [permission(properties)]}
        given |= take(properties, "GroupId", "GroupName")
        await gone(at.call("ec2", f"RevokeSecurityGroup{self.direction}", **given))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [f"{properties.get('GroupId')}|{at.token[:12]}"]


class Ingress(Rule):
    name = "AWS::EC2::SecurityGroupIngress"
    direction = "Ingress"


class Egress(Rule):
    name = "AWS::EC2::SecurityGroupEgress"
    direction = "Egress"


class NetworkAcl(Tagged):
    name = "AWS::EC2::NetworkAcl"
    kind, operation, wrapper, member = "network-acl", "CreateNetworkAcl", "NetworkAcl", "NetworkAclId"
    removal = "DeleteNetworkAcl"

    async def known(self, at: At, id: str, made: Mapping[str, Any], properties: Properties) -> dict[str, Any]:
        return {"Id": id}


class NetworkAclEntry(ResourceType):
    name = "AWS::EC2::NetworkAclEntry"

    async def create(self, at: At, properties: Properties) -> Made:
        await at.call("ec2", "CreateNetworkAclEntry", **self._input(properties))
        return Made(self._id(properties), {"Id": self._id(properties)})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await at.call("ec2", "ReplaceNetworkAclEntry", **self._input(properties))
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        given = take(properties, "NetworkAclId", "RuleNumber")
        egress = properties.get("Egress", False)
        await gone(at.call("ec2", "DeleteNetworkAclEntry", Egress=egress, **given))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [self._id(properties)]

    def _id(self, properties: Properties) -> str:
        way = "egress" if properties.get("Egress") else "ingress"
        return f"{properties['NetworkAclId']}|{properties['RuleNumber']}|{way}"

    def _input(self, properties: Properties) -> dict[str, Any]:
        made = take(
            properties, "NetworkAclId", "RuleNumber", "RuleAction", "CidrBlock", "Ipv6CidrBlock", "PortRange"
        )
        if "Icmp" in properties:
            made["IcmpTypeCode"] = properties["Icmp"]
        return {
            **made,
            "Protocol": str(properties.get("Protocol", -1)),
            "Egress": properties.get("Egress", False),
        }


class NetworkAclAssociation(ResourceType):
    name = "AWS::EC2::SubnetNetworkAclAssociation"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await self._replace(at, properties["SubnetId"], properties["NetworkAclId"])
        return Made(made, {"AssociationId": made})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """The subnet gets its VPC's default list back."""
        subnets = await at.call(
            "ec2", "DescribeSubnets", Filters=[{"Name": "subnet-id", "Values": [properties["SubnetId"]]}]
        )
        for subnet in subnets["Subnets"]:
            filters = [
                {"Name": "vpc-id", "Values": [subnet["VpcId"]]},
                {"Name": "default", "Values": ["true"]},
            ]
            lists = await at.call("ec2", "DescribeNetworkAcls", Filters=filters)
            for found in lists["NetworkAcls"]:
                await self._replace(at, properties["SubnetId"], found["NetworkAclId"])

    async def _replace(self, at: At, subnet: str, network_acl: str) -> str:
        filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
        lists = (await at.call("ec2", "DescribeNetworkAcls", Filters=filters))["NetworkAcls"]
        current = next(
            one["NetworkAclAssociationId"]
            for item in lists
            for one in item["Associations"]
            if one["SubnetId"] == subnet
        )
        answer = await at.call(
            "ec2", "ReplaceNetworkAclAssociation", AssociationId=current, NetworkAclId=network_acl
        )
        return str(answer["NewAssociationId"])


TYPES: tuple[ResourceType, ...] = (
    SecurityGroup(),
    Ingress(),
    Egress(),
    NetworkAcl(),
    NetworkAclEntry(),
    NetworkAclAssociation(),
)
