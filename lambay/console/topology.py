"""The map of the network: who is where, and who reaches which mount target. GET /_lambay/map."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from lambay.aws import AWSError, Principal
from lambay.http import Request, Response

Record = Mapping[str, Any]


class Api(Protocol):
    async def call(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]: ...


class Verdict(Protocol):
    """Whether packets pass, and the one sentence that says what stops them."""

    @property
    def allowed(self) -> bool: ...

    @property
    def sentence(self) -> str: ...


class Reachability(Protocol):
    async def reach_mount_target(
        self, subnet: str, groups: Sequence[str], address: str, *, account: str, region: str
    ) -> Verdict: ...


class MountTarget(msgspec.Struct, frozen=True):
    id: str
    file_system: str
    subnet: str
    zone: str
    address: str
    state: str
    security_groups: tuple[str, ...]


class Subnet(msgspec.Struct, frozen=True):
    id: str
    name: str
    zone: str
    cidr: str
    route: str
    """`internet gateway`, `NAT gateway` or `local only`: where its default route leads."""
    mount_targets: list[MountTarget] = []


class Vpc(msgspec.Struct, frozen=True):
    id: str
    name: str
    cidr: str
    subnets: list[Subnet]


class Function(msgspec.Struct, frozen=True):
    name: str
    vpc: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    file_system: str
    access_point: str
    path: str


class Connection(msgspec.Struct, frozen=True):
    """A function's way from one of its subnets to the mount target that serves it; `problem` is why it is barred."""

    function: str
    subnet: str
    mount_target: str
    problem: str


class NetworkMap(msgspec.Struct, frozen=True):
    vpcs: list[Vpc]
    functions: list[Function]
    file_systems: dict[str, str]
    connections: list[Connection]


class Topology:
    """Drawn for `principal`, with what that principal may see."""

    def __init__(self, api: Api, reachability: Reachability, principal: Principal) -> None:
        self._api = api
        self._reachability = reachability
        self._principal = principal

    async def handle(self, request: Request) -> Response:
        """The map of a Region (`?region=`) of the principal's account. Raises AWSError."""
        region = parse_qs(request.query).get("region", [""])[0]
        if not region:
            raise AWSError("InvalidRequest", "give a region, as in ?region=us-east-1", status=400)
        drawn = await self.draw(self._principal.account, region)
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode(drawn))

    async def draw(self, account: str, region: str) -> NetworkMap:
        async def ask(service: str, operation: str, listed: str, **given: Any) -> list[Record]:
            found: list[Record] = []
            marker: dict[str, Any] = {}
            while True:
                page = await self._api.call(
                    self._principal, service, operation, {**given, **marker}, account=account, region=region
                )
                found += page.get(listed, [])
                following = page.get("NextMarker") or page.get("NextToken")
                if not following:
                    return found
                marker = {_MARKERS[operation]: following}

        file_systems = await ask("efs", "DescribeFileSystems", "FileSystems")
        functions = [_function(each) for each in await ask("lambda", "ListFunctions", "Functions")]
        described = await asyncio.gather(
            *(
                ask("efs", "DescribeMountTargets", "MountTargets", FileSystemId=each["FileSystemId"])
                for each in file_systems
                if each["NumberOfMountTargets"]
            )
        )
        targets = [await self._target(each, account, region) for page in described for each in page]
        points = {
            each["AccessPointArn"]: each["FileSystemId"]
            for each in await ask("efs", "DescribeAccessPoints", "AccessPoints")
        }
        functions = [
            msgspec.structs.replace(each, file_system=points.get(each.access_point, "")) for each in functions
        ]
        vpcs: list[Vpc] = []
        # Without a record of EC2's in use nothing is asked of it.
        if targets or any(each.vpc for each in functions):
            used = {each.subnet for each in targets} | {
                subnet for each in functions for subnet in each.subnets
            }
            vpcs = _vpcs(
                used,
                targets,
                await ask("ec2", "DescribeVpcs", "Vpcs"),
                await ask("ec2", "DescribeSubnets", "Subnets"),
                await ask("ec2", "DescribeRouteTables", "RouteTables"),
            )
        names = {each["FileSystemId"]: each.get("Name", "") for each in file_systems}
        connections = await self._connections(vpcs, functions, targets, account, region)
        return NetworkMap(vpcs, functions, names, connections)

    async def _target(self, found: Record, account: str, region: str) -> MountTarget:
        groups = await self._api.call(
            self._principal,
            "efs",
            "DescribeMountTargetSecurityGroups",
            {"MountTargetId": found["MountTargetId"]},
            account=account,
            region=region,
        )
        return MountTarget(
            id=found["MountTargetId"],
            file_system=found["FileSystemId"],
            subnet=found["SubnetId"],
            zone=found["AvailabilityZoneName"],
            address=found["IpAddress"],
            state=found["LifeCycleState"],
            security_groups=tuple(groups["SecurityGroups"]),
        )

    async def _connections(
        self,
        vpcs: Sequence[Vpc],
        functions: Sequence[Function],
        targets: Sequence[MountTarget],
        account: str,
        region: str,
    ) -> list[Connection]:
        zones = {subnet.id: subnet.zone for vpc in vpcs for subnet in vpc.subnets}
        found = []
        for function in functions:
            if not function.file_system:
                continue
            by_zone = {each.zone: each for each in targets if each.file_system == function.file_system}
            for subnet in function.subnets:
                target = by_zone.get(zones.get(subnet, ""))
                if target is None:
                    problem = f"{function.file_system} has no mount target in the zone of {subnet}"
                    found.append(Connection(function.name, subnet, "", problem))
                    continue
                verdict = await self._reachability.reach_mount_target(
                    subnet, function.security_groups, target.address, account=account, region=region
                )
                found.append(
                    Connection(function.name, subnet, target.id, "" if verdict.allowed else verdict.sentence)
                )
        return found


_MARKERS = {
    "DescribeFileSystems": "Marker",
    "DescribeMountTargets": "Marker",
    "DescribeAccessPoints": "NextToken",
    "ListFunctions": "Marker",
    "DescribeVpcs": "NextToken",
    "DescribeSubnets": "NextToken",
    "DescribeRouteTables": "NextToken",
}


def _function(found: Record) -> Function:
    vpc = found.get("VpcConfig") or {}
    mounts = found.get("FileSystemConfigs") or [{}]
    return Function(
        name=found["FunctionName"],
        vpc=vpc.get("VpcId", ""),
        subnets=tuple(vpc.get("SubnetIds", ())),
        security_groups=tuple(vpc.get("SecurityGroupIds", ())),
        file_system="",
        access_point=mounts[0].get("Arn", ""),
        path=mounts[0].get("LocalMountPath", ""),
    )


def _vpcs(
    used: set[str],
    targets: Sequence[MountTarget],
    vpcs: Sequence[Record],
    subnets: Sequence[Record],
    route_tables: Sequence[Record],
) -> list[Vpc]:
    """Only what something is in: a default VPC's six empty subnets are no news."""
    shown = []
    for vpc in vpcs:
        inside = [
            Subnet(
                id=each["SubnetId"],
                name=_name(each),
                zone=each["AvailabilityZone"],
                cidr=each["CidrBlock"],
                route=_default_route(each["SubnetId"], vpc["VpcId"], route_tables),
                mount_targets=[target for target in targets if target.subnet == each["SubnetId"]],
            )
            for each in subnets
            if each["VpcId"] == vpc["VpcId"] and each["SubnetId"] in used
        ]
        if inside:
            inside.sort(key=lambda subnet: (subnet.zone, subnet.cidr))
            shown.append(Vpc(vpc["VpcId"], _name(vpc), vpc["CidrBlock"], inside))
    return shown


def _default_route(subnet: str, vpc: str, route_tables: Sequence[Record]) -> str:
    main = explicit = None
    for table in route_tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId") == subnet:
                explicit = table
            elif association.get("Main") and table["VpcId"] == vpc:
                main = table
    for route in (explicit or main or {}).get("Routes", ()):
        if route.get("DestinationCidrBlock") == "0.0.0.0/0":
            if route.get("NatGatewayId"):
                return "NAT gateway"
            if str(route.get("GatewayId", "")).startswith("igw-"):
                return "internet gateway"
    return "local only"


def _name(record: Record) -> str:
    return next((tag["Value"] for tag in record.get("Tags", ()) if tag["Key"] == "Name"), "")
