"""What a function needs before it may be made: role, key, subnets, security groups, mount targets."""

from __future__ import annotations

import msgspec

from lambay.aws import Arn, AWSError, Neighbours
from lambay.functions.errors import invalid
from lambay.functions.ports import Access, FileSystems, Network, Subnet
from lambay.functions.records import Configuration, Vpc

_GRANT = "AWSLambda-environment-variables"
CANNOT_ASSUME = "The role defined for the function cannot be assumed by Lambda."


# What Lambda does in EC2 as the role of a function in a VPC; see "Giving Lambda functions access to resources in
# an Amazon VPC", "Required IAM permissions".
_INTERFACE_ACTIONS = ("CreateNetworkInterface", "DescribeNetworkInterfaces", "DeleteNetworkInterface")

# What is done with a source as the role of its function; see "Execution role permissions" of each.
_QUEUE_ACTIONS = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
_STREAM_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream")


class Requirements:
    """Asks the neighbours; every refusal is an InvalidParameterValueException with Lambda's words."""

    def __init__(
        self, neighbours: Neighbours, network: Network, file_systems: FileSystems, access: Access
    ) -> None:
        self._neighbours = neighbours
        self._network = network
        self._file_systems = file_systems
        self._access = access

    async def check_role(self, role: str, function_arn: str, region: str) -> None:
        """The role exists and trusts `lambda.amazonaws.com`, on behalf of this function.

        Lambay is as strict as Lambda here: the function's credentials are that role's, so a role that only
        looks like one could never work.
        """
        if not await self._access.assumable(role, source_arn=function_arn, region=region):
            raise invalid(CANNOT_ASSUME)

    async def check_rights(self, configuration: Configuration, region: str) -> None:
        """The role may do what Lambda does with it before the first invocation."""
        role = configuration.role
        if configuration.vpc is not None and configuration.vpc.subnet_ids:
            for operation in _INTERFACE_ACTIONS:
                if await self._access.lacking(role, f"ec2:{operation}", region=region):
                    raise invalid(
                        f"The provided execution role does not have permissions to call {operation} on EC2"
                    )
        target = configuration.dead_letter_arn
        if target:
            service = target.split(":")[2]
            operation = {"sqs": "SendMessage", "sns": "Publish"}[service]
            await self.check_right(role, service, operation, target, region)

    async def check_right(self, role: str, service: str, operation: str, resource: str, region: str) -> None:
        """Raises InvalidParameterValueException unless the role may do that to the resource."""
        if await self._access.lacking(role, f"{service}:{operation}", resource, region=region):
            raise invalid(
                f"The provided execution role does not have permissions to call {operation} on "
                f"{service.upper()}"
            )

    async def check_source(self, role: str, source: Arn, region: str) -> None:
        """Raises InvalidParameterValueException unless the role may read the queue or stream as pollers do."""
        if source.service == "sqs":
            for operation in _QUEUE_ACTIONS:
                await self.check_right(role, "sqs", operation, str(source), region)
            return
        for operation in _STREAM_ACTIONS:
            if await self._access.lacking(role, f"{source.service}:{operation}", str(source), region=region):
                shards = "ListShards, " if source.service == "kinesis" else ""
                raise invalid(
                    f"Cannot access stream {source}. Please ensure the role can perform the GetRecords, "
                    f"GetShardIterator, DescribeStream, {shards}and ListStreams Actions on your stream in IAM."
                )

    async def check_key(self, key: str, role: str, account: str, region: str) -> None:
        """The key can be used, and the role has a grant to decrypt with it, as Lambda gives it one."""
        if not key:
            return
        grant = {"KeyId": key, "GranteePrincipal": role, "Operations": ["Decrypt"], "Name": _GRANT}
        try:
            found = await self._neighbours.call(
                "kms", "DescribeKey", {"KeyId": key}, account=account, region=region
            )
            state = found["KeyMetadata"]["KeyState"] if found else "Enabled"
            if state != "Enabled":
                raise AWSError("KMSInvalidStateException", f"{key} is {state}")
            await self._neighbours.call("kms", "CreateGrant", grant, account=account, region=region)
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
