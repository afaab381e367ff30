"""What a function needs before it may be made: role, key, subnets, security groups, mount targets."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import msgspec

from lambay.aws import AWSError
from lambay.functions.errors import invalid
from lambay.functions.ports import FileSystems, Neighbours, Network, Subnet
from lambay.functions.records import Configuration, Vpc

_CANNOT_ASSUME = "The role defined for the function cannot be assumed by Lambda."


class Requirements:
    """Asks the neighbours; every refusal is an InvalidParameterValueException with Lambda's words."""

    def __init__(self, neighbours: Neighbours, network: Network, file_systems: FileSystems) -> None:
        self._neighbours = neighbours
        self._network = network
        self._file_systems = file_systems

    async def check_role(self, role: str, account: str, region: str) -> None:
        """The role exists and trusts `lambda.amazonaws.com`.

        Lambay is as strict as Lambda here: the function's credentials are that role's, so a role that only
        looks like one could never work.
        """
        name = role.rsplit("/", 1)[-1]
        try:
            found = await self._neighbours.call(
                "iam", "GetRole", {"RoleName": name}, account=account, region=region
            )
        except AWSError as error:
            if error.code == "NoSuchEntity":
                raise invalid(_CANNOT_ASSUME) from None
            raise
        if found["Role"]["Arn"] != role or not trusts_lambda(found["Role"].get("AssumeRolePolicyDocument")):
            raise invalid(_CANNOT_ASSUME)

    async def check_key(self, key: str, account: str, region: str) -> None:
        if not key:
            return
        try:
            await self._neighbours.call("kms", "DescribeKey", {"KeyId": key}, account=account, region=region)
        except AWSError as error:
            raise invalid(f"KMSKeyArn: {key}: {error.code}: {error.message}") from None

    async def placed(self, configuration: Configuration, account: str, region: str) -> Configuration:
        """The configuration with its VPC's id, once subnets, groups and mount targets are checked."""
        vpc = configuration.vpc
        if vpc is None or not vpc.subnet_ids:
            return configuration
        subnets = [await self._subnet(subnet, account, region) for subnet in vpc.subnet_ids]
        if len({subnet.vpc for subnet in subnets}) > 1:
            raise invalid("Subnets are required to be in the same VPC.")
        await self._check_groups(vpc, subnets[0].vpc, account, region)
        zones = tuple(sorted({subnet.zone for subnet in subnets}))
        for mounted in configuration.file_systems:
            await self._file_systems.check_function_zones(mounted.arn, zones, account=account, region=region)
        placed = msgspec.structs.replace(vpc, vpc_id=subnets[0].vpc, zones=zones)
        return msgspec.structs.replace(configuration, vpc=placed)

    async def _subnet(self, subnet: str, account: str, region: str) -> Subnet:
        try:
            return await self._network.subnet(subnet, account=account, region=region)
        except AWSError as error:
            raise _ec2_refusal("DescribeSubnets", error) from None

    async def _check_groups(self, vpc: Vpc, vpc_id: str, account: str, region: str) -> None:
        try:
            await self._network.check_security_groups(
                vpc.security_group_ids, vpc_id, account=account, region=region
            )
        except AWSError as error:
            raise _ec2_refusal("DescribeSecurityGroups", error) from None


def _ec2_refusal(operation: str, error: AWSError) -> AWSError:
    return invalid(
        f"Error occurred while {operation}. EC2 Error Code: {error.code}. EC2 Error Message: {error.message}"
    )


def trusts_lambda(document: Any) -> bool:
    """Whether a trust policy (a dict, or its JSON, percent-encoded or not) lets Lambda assume its role."""
    if isinstance(document, str):
        try:
            document = json.loads(urllib.parse.unquote(document))
        except ValueError:
            return False
    statements = document.get("Statement", []) if isinstance(document, dict) else []
    allowed = False
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        services = principal if isinstance(principal, str) else principal.get("Service", [])
        actions = statement.get("Action", [])
        concerns = {"lambda.amazonaws.com", "*"}.intersection(
            [services] if isinstance(services, str) else services
        )
        assumes = {"sts:AssumeRole", "sts:*", "*"}.intersection(
            [actions] if isinstance(actions, str) else actions
        )
        if concerns and assumes:
            if statement.get("Effect") == "Deny":
                return False
            allowed = True
    return allowed
