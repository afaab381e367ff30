"""Every way to misconfigure the network that AWS's troubleshooting pages know: built, failing as in AWS with its
cause in words, put right, working.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.arrange import RUNTIME, Deployer, Lambay, bundle, unique
from tests.network.test_packets import INTERNET, LAN_HOST, Outside

SOURCE = """
import os, socket, urllib.request

def attempt(host, port, seconds):
    with socket.socket() as connection:
        connection.settimeout(seconds)
        try:
            connection.connect((host, port))
            return "connected"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return type(error).__name__

def handler(event, context):
    told = {"attempts": [attempt(host, port, event.get("seconds", 2)) for host, port in event.get("to", [])]}
    told["names"] = {}
    for name in event.get("names", []):
        try:
            told["names"][name] = socket.gethostbyname(name)
        except OSError as error:
            told["names"][name] = type(error).__name__
    if "wait" in event:
        path = f"/mnt/efs/{event['wait']}"
        while not os.path.exists(path):
            pass
    if os.path.isdir("/mnt/efs"):
        told["files"] = sorted(os.listdir("/mnt/efs"))
    return told
"""


OTHER_ACCOUNT = "222222222222"


class Vpc:
    """A VPC with a subnet for functions, one for mount targets in the same zone, and a public one."""

    def __init__(self, deploy: Deployer, cidr: str = "10.0.0.0/16") -> None:
        self.deploy, self.ec2 = deploy, deploy.ec2
        self.cidr = cidr
        self.id: str = self.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        start = cidr.rsplit(".", 2)[0]
        self.functions, self.targets, self.public = (
            self._subnet(f"{start}.{number}.0/24") for number in (1, 2, 3)
        )
        self.function_group, self.target_group = self.group(), self.group()
        self.allow(self.target_group, self.function_group)
        self.table: str = self.ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=self.table, SubnetId=self.functions)

    def _subnet(self, cidr: str) -> str:
        made = self.ec2.create_subnet(VpcId=self.id, CidrBlock=cidr, AvailabilityZone="us-east-1a")
        return str(made["Subnet"]["SubnetId"])

    def group(self) -> str:
        name = unique("group")
        return str(self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.id)["GroupId"])

    @staticmethod
    def nfs(source: str) -> list[dict[str, Any]]:
        return [
            {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "UserIdGroupPairs": [{"GroupId": source}]}
        ]

    def allow(self, group: str, source: str) -> None:
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=self.nfs(source))

    def forbid(self, group: str, source: str) -> None:
        self.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=self.nfs(source))

    def acl(self, subnet: str) -> str:
        """A new ACL for the subnet that lets everything through from rule 100 on."""
        acl: str = self.ec2.create_network_acl(VpcId=self.id)["NetworkAcl"]["NetworkAclId"]
        for egress in (True, False):
            self.entry(acl, 100, egress, "allow")
        found = self.ec2.describe_network_acls(
            Filters=[{"Name": "association.subnet-id", "Values": [subnet]}]
        )
        association = next(
            each["NetworkAclAssociationId"]
            for each in found["NetworkAcls"][0]["Associations"]
            if each["SubnetId"] == subnet
        )
        self.ec2.replace_network_acl_association(AssociationId=association, NetworkAclId=acl)
        return acl

    def entry(
        self, acl: str, number: int, egress: bool, action: str, ports: tuple[int, int] | None = None
    ) -> None:
        given: dict[str, Any] = {"Protocol": "-1"}
        if ports is not None:
            given = {"Protocol": "6", "PortRange": {"From": ports[0], "To": ports[1]}}
        self.ec2.create_network_acl_entry(
            NetworkAclId=acl,
            RuleNumber=number,
            Egress=egress,
            RuleAction=action,
            CidrBlock="0.0.0.0/0",
            **given,
        )

    def file_system(self) -> tuple[str, str, str]:
        """Its id, its mount target's, and an access point's ARN."""
        efs = self.deploy.efs
        made = efs.create_file_system(CreationToken=unique("token"), ThroughputMode="elastic")["FileSystemId"]
        return made, self.mount_target(made), self.deploy.access_point(made)

    def mount_target(self, file_system: str) -> str:
        made = self.deploy.efs.create_mount_target(
            FileSystemId=file_system, SubnetId=self.targets, SecurityGroups=[self.target_group]
        )
        return str(made["MountTargetId"])

    def function(self, access_point: str | None = None, **settings: Any) -> str:
        place = {"SubnetIds": [self.functions], "SecurityGroupIds": [self.function_group]}
        return self.deploy.function(SOURCE, access_point, VpcConfig=place, **settings)

    def route_to_nat(self) -> str:
        """The functions' subnet has a route to a NAT gateway in the public subnet; the gateway's id."""
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.id)
        table = self.ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=self.public)
        self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        nat: str = self.ec2.create_nat_gateway(SubnetId=self.public, AllocationId=address)["NatGateway"][
            "NatGatewayId"
        ]
        self.ec2.create_route(RouteTableId=self.table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        return nat


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambay]:
    given = {
        "LAMBAY_MOUNT_SECONDS": "3",
        "LAMBAY_STALL_SECONDS": "1",
        "LAMBAY_ACCOUNTS": f"{OTHER_ACCOUNT}:other:secret",
    }
    os.environ.update(given)
    try:
        running = Lambay(tmp_path_factory.mktemp("network"))
    finally:
        for name in given:
            del os.environ[name]
    yield running
    running.stop()


@pytest.fixture(scope="module")
def deploy(server: Lambay) -> Deployer:
    return Deployer(server)


@pytest.fixture
def vpc(deploy: Deployer) -> Vpc:
    return Vpc(deploy)


@pytest.fixture(scope="module")
def internet() -> Iterator[Outside]:
    outside = Outside(INTERNET)
    yield outside
    outside.close()


def failure(deploy: Deployer, function: str, event: Any = None) -> tuple[str, str]:
    """The exception of an invocation and its message."""
    with pytest.raises(ClientError) as caught:
        deploy.lambda_.invoke(FunctionName=function, Payload=json.dumps(event or {}))
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_no_rule_for_nfs_in_the_mount_target_s_group(deploy: Deployer, vpc: Vpc) -> None:
    vpc.forbid(vpc.target_group, vpc.function_group)
    _, target, access_point = vpc.file_system()
    function = vpc.function(access_point)
    code, message = failure(deploy, function)
    assert code == "EFSMountTimeoutException"
    assert (
        f"security group {vpc.target_group} of mount target {target} has no inbound rule for TCP 2049 from "
        f"{vpc.function_group}"
    ) in message
    vpc.allow(vpc.target_group, vpc.function_group)
    assert deploy.invoke(function, {})["files"] == []


def test_no_rule_out_of_the_function_s_group(deploy: Deployer, vpc: Vpc) -> None:
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    vpc.ec2.revoke_security_group_egress(GroupId=vpc.function_group, IpPermissions=everything)
    _, target, access_point = vpc.file_system()
    function = vpc.function(access_point)
    code, message = failure(deploy, function)
    assert code == "EFSMountTimeoutException"
    assert f"security group {vpc.function_group} of function interface" in message
    assert f"has no outbound rule for TCP 2049 to mount target {target}" in message
    vpc.ec2.authorize_security_group_egress(GroupId=vpc.function_group, IpPermissions=everything)
    assert deploy.invoke(function, {})["files"] == []


def test_a_network_acl_denies_nfs(deploy: Deployer, vpc: Vpc) -> None:
    acl = vpc.acl(vpc.targets)
    vpc.entry(acl, 50, False, "deny", (2049, 2049))
    _, _, access_point = vpc.file_system()
    function = vpc.function(access_point)
    code, message = failure(deploy, function)
    assert code == "EFSMountTimeoutException"
    assert f"network ACL {acl} of subnet {vpc.targets} denies inbound TCP 2049 from" in message
    vpc.ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=50, Egress=False)
    assert deploy.invoke(function, {})["files"] == []


def test_a_network_acl_denies_the_answers(deploy: Deployer, vpc: Vpc) -> None:
    acl = vpc.acl(vpc.functions)
    vpc.entry(acl, 50, False, "deny", (1024, 65535))
    _, _, access_point = vpc.file_system()
    function = vpc.function(access_point)
    code, message = failure(deploy, function)
    assert code == "EFSMountTimeoutException"
    assert f"network ACL {acl} of subnet {vpc.functions} denies inbound the answers on TCP" in message
    vpc.ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=50, Egress=False)
    assert deploy.invoke(function, {})["files"] == []


def test_a_group_rule_taken_away_leaves_mounts_that_stand(deploy: Deployer, vpc: Vpc) -> None:
    _, _, access_point = vpc.file_system()
    function = vpc.function(access_point)
    deploy.invoke(function, {})
    vpc.forbid(vpc.target_group, vpc.function_group)
    assert deploy.invoke(function, {})["files"] == []


def test_the_mount_target_is_deleted_under_an_invocation(deploy: Deployer, vpc: Vpc) -> None:
    file_system, target, access_point = vpc.file_system()
    function = vpc.function(access_point)
    deploy.invoke(function, {})
    caught = during(deploy, function, lambda: deploy.efs.delete_mount_target(MountTargetId=target))
    assert caught["Code"] == "EFSIOException"
    code, message = failure(deploy, function)
    assert code == "EFSMountConnectivityException"
    assert "us-east-1a" in message
    vpc.mount_target(file_system)
    assert deploy.invoke(function, {})["files"] == []


def test_a_network_acl_cuts_a_mount_under_an_invocation(deploy: Deployer, vpc: Vpc) -> None:
    acl = vpc.acl(vpc.targets)
    _, _, access_point = vpc.file_system()
    function = vpc.function(access_point)
    deploy.invoke(function, {})
    caught = during(deploy, function, lambda: vpc.entry(acl, 50, True, "deny"))
    assert caught["Code"] == "EFSIOException"
    vpc.ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=50, Egress=True)
    assert deploy.invoke(function, {})["files"] == []


def during(deploy: Deployer, function: str, change: Any) -> dict[str, Any]:
    """The error of an invocation that waits for a file, under which `change` is made."""
    caught: dict[str, Any] = {}

    def invoke() -> None:
        try:
            deploy.lambda_.invoke(FunctionName=function, Payload=json.dumps({"wait": "never"}))
        except ClientError as error:
            caught.update(error.response["Error"])

    waiting = threading.Thread(target=invoke)
    waiting.start()
    while not json.loads(deploy.server.cli("status", "--json").stdout)["environments"]["busy"]:
        pass
    change()
    waiting.join(60)
    return caught


def test_a_peered_vpc_needs_routes_on_both_sides(deploy: Deployer, vpc: Vpc) -> None:
    other = Vpc(deploy, "10.1.0.0/16")
    _, target, access_point = other.file_system()
    ec2 = deploy.ec2
    function = vpc.function(access_point)
    # The VPC has environments before it has peers.
    assert failure(deploy, function)[0] == "EFSMountConnectivityException"
    peering = ec2.create_vpc_peering_connection(VpcId=vpc.id, PeerVpcId=other.id)["VpcPeeringConnection"][
        "VpcPeeringConnectionId"
    ]
    ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)
    other.allow(other.target_group, vpc.function_group)
    code, message = failure(deploy, function)
    assert code == "EFSMountConnectivityException"
    assert f"route table {vpc.table} of subnet {vpc.functions} has no route to 10.1.2." in message
    ec2.create_route(RouteTableId=vpc.table, DestinationCidrBlock=other.cidr, VpcPeeringConnectionId=peering)
    code, message = failure(deploy, function)
    assert code == "EFSMountConnectivityException"
    assert "has no route back to 10.0.1." in message
    assert target
    main = ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [other.id]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=main, DestinationCidrBlock=vpc.cidr, VpcPeeringConnectionId=peering)
    assert deploy.invoke(function, {})["files"] == []


def test_a_file_system_of_another_account_over_peering(deploy: Deployer, vpc: Vpc) -> None:
    theirs = Vpc(Deployer(deploy.server, "other", "secret"), "10.2.0.0/16")
    _, target, access_point = theirs.file_system()
    asked = vpc.ec2.create_vpc_peering_connection(
        VpcId=vpc.id, PeerVpcId=theirs.id, PeerOwnerId=OTHER_ACCOUNT
    )
    peering = asked["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    theirs.ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering)
    vpc.ec2.create_route(
        RouteTableId=vpc.table, DestinationCidrBlock=theirs.cidr, VpcPeeringConnectionId=peering
    )
    main = theirs.ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [theirs.id]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"][0]["RouteTableId"]
    theirs.ec2.create_route(RouteTableId=main, DestinationCidrBlock=vpc.cidr, VpcPeeringConnectionId=peering)
    function = vpc.function(access_point)
    code, message = failure(deploy, function)
    assert code == "EFSMountTimeoutException"
    assert f"security group {theirs.target_group} of mount target {target} has no inbound rule" in message
    nfs = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "IpRanges": [{"CidrIp": vpc.cidr}]}
    theirs.ec2.authorize_security_group_ingress(GroupId=theirs.target_group, IpPermissions=[nfs])
    assert deploy.invoke(function, {})["files"] == []


def test_no_internet_without_a_nat_gateway(deploy: Deployer, vpc: Vpc, internet: Outside) -> None:
    function = vpc.function()
    event = {"to": [[INTERNET, 443]]}
    assert deploy.invoke(function, event)["attempts"] == ["TimeoutError"]
    nat = vpc.route_to_nat()
    # Nobody listens there: a refusal has been to the internet and back.
    assert deploy.invoke(function, event | {"seconds": 60})["attempts"] == ["refused"]
    vpc.ec2.delete_nat_gateway(NatGatewayId=nat)
    assert deploy.invoke(function, event)["attempts"] == ["TimeoutError"]


def test_names_of_file_systems_are_the_mount_target_in_the_caller_s_zone(deploy: Deployer, vpc: Vpc) -> None:
    file_system, target, access_point = vpc.file_system()
    function = vpc.function(access_point)
    address = deploy.efs.describe_mount_targets(MountTargetId=target)["MountTargets"][0]["IpAddress"]
    own = f"{file_system}.efs.us-east-1.amazonaws.com"
    names = [own, f"us-east-1a.{own}", f"us-east-1b.{own}", "sqs.us-east-1.amazonaws.com"]
    found = deploy.invoke(function, {"names": names})["names"]
    assert [found[name] for name in names] == [address, address, "gaierror", "127.0.0.1"]


def test_a_function_reaches_nobody_but_whom_the_rules_name(
    deploy: Deployer, vpc: Vpc, internet: Outside
) -> None:
    """Another file system's mount target, another VPC with the same addresses, the host, its networks, a neighbour."""
    lan = Outside(LAN_HOST)
    try:
        _, target, _ = vpc.file_system()
        vpc.forbid(vpc.target_group, vpc.function_group)
        twin = Vpc(deploy)
        _, twin_target, access_point = twin.file_system()
        addresses = [
            deploy.efs.describe_mount_targets(MountTargetId=each)["MountTargets"][0]["IpAddress"]
            for each in (target, twin_target)
        ]
        assert addresses[0] == addresses[1]
        assert deploy.invoke(twin.function(access_point), {"to": [[addresses[1], 2049]]})["attempts"] == [
            "connected"
        ]
        host = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
        own = [line.split()[3].partition("/")[0] for line in host.splitlines() if " 127." not in line]
        port = int(deploy.server.endpoint.rpartition(":")[2])
        forbidden = [[addresses[0], 2049], [LAN_HOST, 80], *([each, port] for each in own)]
        forbidden += [[f"169.254.8.{number}", 4566] for number in range(1, 5)]
        event = {"to": forbidden, "seconds": 0.3}
        for function in (vpc.function(Timeout=60), deploy.function(SOURCE, Timeout=60)):
            attempts = deploy.invoke(function, event)["attempts"]
            reached = [
                to for to, attempt in zip(forbidden, attempts, strict=True) if attempt != "TimeoutError"
            ]
            # An environment's own address leads to itself, where nobody listens.
            assert [to for to in reached if not to[0].startswith("169.254.8.")] == []
            assert len(reached) <= 1
            assert all(attempts[forbidden.index(to)] == "refused" for to in reached)
    finally:
        lan.close()


def test_a_function_s_interface_is_lambda_s_own(deploy: Deployer, vpc: Vpc) -> None:
    name = vpc.function()
    vpc.function()
    found = deploy.ec2.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": [vpc.functions]}])
    (interface,) = found["NetworkInterfaces"]
    assert interface["Description"].startswith(f"AWS Lambda VPC ENI-{name}-")
    assert (interface["InterfaceType"], interface["RequesterManaged"]) == ("lambda", True)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_nothing_is_left_of_a_server_s_networks(tmp_path: Path, way: str) -> None:
    server = Lambay(tmp_path / "data")
    deploy = Deployer(server)
    deploy.invoke(Vpc(deploy).function(), {})
    tag = next(Path("/run/lambay").joinpath(each).name for each in tags(server))
    assert tag in networks()
    if way == "stop":
        server.stop()
        assert tag not in networks()
        return
    server.kill()
    server.start()
    deploy = Deployer(server)
    assert deploy.invoke(deploy.function(SOURCE), {})["attempts"] == []
    server.stop()
    assert tag not in networks()


def tags(server: Lambay) -> list[str]:
    """The twelve digits that name what this data directory has of the kernel's."""
    from lambay.settings import Settings

    return [Settings(data_dir=server.data_dir).tag]


def networks() -> str:
    """The host's links and tables, as text."""
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (["nft", "list", "tables"], ["ip", "-o", "link"])
    ]
    return "".join(said)


def test_a_zone_that_is_down_takes_its_mount_targets_along(deploy: Deployer, vpc: Vpc) -> None:
    _, target, access_point = vpc.file_system()
    function = vpc.function(access_point)
    deploy.invoke(function, {})
    caught = during(deploy, function, lambda: zone(deploy, "down"))
    try:
        assert caught["Code"] == "EFSIOException"
        code, message = failure(deploy, function)
        assert code == "EFSMountTimeoutException"
        assert f"Availability Zone us-east-1a of mount target {target} is down" in message
    finally:
        zone(deploy, "up")
    assert deploy.invoke(function, {})["files"] == []


def zone(deploy: Deployer, state: str) -> None:
    deploy.server.cli("zone", state, "us-east-1a")


def test_a_subnet_without_addresses(deploy: Deployer, vpc: Vpc) -> None:
    made = vpc.ec2.create_subnet(VpcId=vpc.id, CidrBlock="10.0.9.0/28", AvailabilityZone="us-east-1a")
    subnet = made["Subnet"]["SubnetId"]
    taken = [vpc.ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"] for _ in range(11)]
    name = unique("function")
    place = {"SubnetIds": [subnet], "SecurityGroupIds": [vpc.function_group]}
    deploy.lambda_.create_function(
        FunctionName=name, Runtime=RUNTIME, Handler="app.handler", Role=deploy.role,
        Code={"ZipFile": bundle(SOURCE)}, VpcConfig=place,
    )  # fmt: skip
    while deploy.lambda_.get_function(FunctionName=name)["Configuration"]["State"] == "Pending":
        pass
    assert failure(deploy, name)[0] == "SubnetIPAddressLimitReachedException"
    vpc.ec2.delete_network_interface(NetworkInterfaceId=taken[0]["NetworkInterfaceId"])
    deploy.lambda_.delete_function(FunctionName=name)
    assert deploy.invoke(deploy.function(SOURCE, VpcConfig=place), {})["attempts"] == []


def test_the_aws_endpoint_as_a_vpc_lets_it_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBAY_OPEN_ENDPOINT", "no")
    server = Lambay(tmp_path / "data")
    try:
        deploy = Deployer(server)
        vpc = Vpc(deploy)
        inside, outside = vpc.function(), deploy.function(SOURCE)
        event = {"to": [["127.0.0.1", 4566]]}
        assert deploy.invoke(outside, event)["attempts"] == ["connected"]
        assert deploy.invoke(inside, event)["attempts"] == ["TimeoutError"]
        made = vpc.ec2.create_vpc_endpoint(
            VpcId=vpc.id, ServiceName="com.amazonaws.us-east-1.s3", RouteTableIds=[vpc.table]
        )
        assert deploy.invoke(inside, event)["attempts"] == ["connected"]
        vpc.ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpoint"]["VpcEndpointId"]])
        assert deploy.invoke(inside, event)["attempts"] == ["TimeoutError"]
        group = vpc.group()
        vpc.ec2.create_vpc_endpoint(
            VpcId=vpc.id,
            ServiceName="com.amazonaws.us-east-1.sqs",
            VpcEndpointType="Interface",
            SubnetIds=[vpc.targets],
            SecurityGroupIds=[group],
        )
        assert deploy.invoke(inside, event)["attempts"] == ["TimeoutError"]
        https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
        vpc.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[https])
        assert deploy.invoke(inside, event)["attempts"] == ["connected"]
        vpc.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[https])
        assert deploy.invoke(inside, event)["attempts"] == ["TimeoutError"]
        vpc.route_to_nat()
        assert deploy.invoke(inside, event)["attempts"] == ["connected"]
    finally:
        server.stop()
