"""Bytes through a NAT gateway and between Availability Zones: in CloudWatch, and on the bill."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambay.network import namespaces
from tests.e2e.arrange import PATIENCE, Deployer, Lambay, bundle, unique
from tests.e2e.test_metering import statistics
from tests.network.test_packets import INTERNET, Outside
from tests.nfs import wire

MIB = 1 << 20
GIB = 1 << 30
PORT = 8080

TALKER = f"""
import socket

def handler(event, context):
    with socket.create_connection(("{INTERNET}", {PORT}), 60) as connection:
        connection.sendall(bytes(event["forth"]))
        left = event["back"]
        while left:
            left -= len(connection.recv(min(left, 1 << 16)))
"""

NFS_CLIENT = """
from wire import ANONYMOUS, Client, Connection, User, open_, read, unchecked, write

def handler(event, context):
    client = Client(Connection(2049, User(0, 0), event["host"]))
    piece = bytes(event["piece"])
    made, _ = client.run(*client.steps(), open_(b"owner", "big", create=unchecked(mode=0o644)))
    found = [made]
    for offset in range(0, event["size"], len(piece)):
        found.append(client.run(*client.steps("big"), write(ANONYMOUS, offset, piece))[0])
        found.append(client.run(*client.steps("big"), read(ANONYMOUS, offset, len(piece)))[0])
    return sorted(set(found))
"""


WRITER = f"""
def handler(event, context):
    with open("/mnt/efs/big", "wb") as file:
        file.write(bytes({4 * MIB}))
"""


class World:
    """A VPC with a private subnet in one zone and, in another, a mount target's and a NAT gateway's."""

    def __init__(self, server: Lambay) -> None:
        self.deploy = Deployer(server)
        ec2 = self.deploy.ec2
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.private, self.public = (
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for cidr, zone in (("10.0.1.0/24", "us-east-1a"), ("10.0.2.0/24", "us-east-1b"))
        )
        self.group = ec2.create_security_group(GroupName="all", Description="all", VpcId=self.vpc)["GroupId"]
        everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[everything])
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        self._route(self.public, GatewayId=gateway)
        address = ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = ec2.create_nat_gateway(SubnetId=self.public, AllocationId=address)
        self.nat: str = made["NatGateway"]["NatGatewayId"]
        self._route(self.private, NatGatewayId=self.nat)
        efs = self.deploy.efs
        self.file_system: str = efs.create_file_system(
            CreationToken=unique("token"), ThroughputMode="elastic"
        )["FileSystemId"]
        target = efs.create_mount_target(
            FileSystemId=self.file_system, SubnetId=self.public, SecurityGroups=[self.group]
        )
        self.target: str = target["IpAddress"]

    def _route(self, subnet: str, **to: str) -> None:
        table = self.deploy.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        self.deploy.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        self.deploy.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **to)

    def mounting(self, source: str) -> tuple[str, str]:
        """A file system with a mount target in the private subnet too, and a function that mounts it."""
        made: str = self.deploy.efs.create_file_system(CreationToken=unique("token"))["FileSystemId"]
        for subnet in (self.private, self.public):
            self.deploy.efs.create_mount_target(
                FileSystemId=made, SubnetId=subnet, SecurityGroups=[self.group]
            )
        mounted = [{"Arn": self.deploy.access_point(made), "LocalMountPath": "/mnt/efs"}]
        return made, self.function(source, FileSystemConfigs=mounted)

    def function(self, source: str, **settings: Any) -> str:
        place = {"SubnetIds": [self.private], "SecurityGroupIds": [self.group]}
        return self.deploy.function(source, VpcConfig=place, Timeout=int(PATIENCE), **settings)


@pytest.fixture(scope="module")
def internet() -> Iterator[Outside]:
    outside = Outside(INTERNET)
    yield outside
    outside.close()


@pytest.fixture
def world(own_lambay: Lambay) -> World:
    return World(own_lambay)


def serve(internet: Outside, forth: int, back: int) -> threading.Thread:
    """A server in the internet: takes `forth` bytes of one connection and answers with `back`."""
    with namespaces.inside(internet.namespace):
        listening = socket.create_server((INTERNET, PORT))

    def run() -> None:
        with listening:
            accepted, _ = listening.accept()
            with accepted:
                left = forth
                while left:
                    left -= len(accepted.recv(min(left, 1 << 16)))
                accepted.sendall(bytes(back))

    serving = threading.Thread(target=run, daemon=True)
    serving.start()
    return serving


def estimated(server: Lambay, service: str) -> float:
    """The latest charges of a service; they are put each quarter of an hour, and soon after a start."""
    deadline = time.monotonic() + PATIENCE
    named = {"Currency": "USD", "ServiceName": service}
    while True:
        try:
            return float(statistics(server, "AWS/Billing", "EstimatedCharges", named, "Maximum")[0])
        except ValueError:
            assert time.monotonic() < deadline


def test_bytes_are_counted_and_charged(own_lambay: Lambay, world: World, internet: Outside) -> None:
    forth, back, piece = 6 * MIB, 3 * MIB, MIB // 2
    talker = world.function(TALKER)
    package = io.BytesIO(bundle(NFS_CLIENT))
    with zipfile.ZipFile(package, "a") as code:
        code.writestr("wire.py", Path(wire.__file__).read_text())
    client = world.function("", Code={"ZipFile": package.getvalue()})

    serving = serve(internet, forth, back)
    world.deploy.invoke(talker, {"forth": forth, "back": back})
    serving.join()
    asked = {"host": world.target, "size": 4 * MIB, "piece": piece}
    assert world.deploy.invoke(client, asked) == [wire.OK]
    near, writer = world.mounting(WRITER)
    world.deploy.invoke(writer)
    # What was counted since the last minute is put when the server stops.
    own_lambay.stop()
    own_lambay.start()

    def moved(namespace: str, name: str, **named: str) -> float:
        return float(statistics(own_lambay, namespace, name, named, "Sum")[0])

    gateway = {
        name: moved("AWS/NATGateway", name, NatGatewayId=world.nat)
        for name in (
            "BytesInFromSource",
            "BytesOutToDestination",
            "BytesInFromDestination",
            "BytesOutToSource",
        )
    }
    assert gateway["BytesInFromSource"] == gateway["BytesOutToDestination"]
    assert gateway["BytesInFromDestination"] == gateway["BytesOutToSource"]
    # Headers, acknowledgements, and on a busy machine what is sent once more; but nothing twice.
    assert forth <= gateway["BytesInFromSource"] <= 1.6 * forth
    assert back <= gateway["BytesInFromDestination"] <= 1.6 * back
    through = gateway["BytesInFromSource"] + gateway["BytesInFromDestination"]
    assert moved("Lambay/Usage", "CrossZoneBytes", NatGatewayId=world.nat) == pytest.approx(through, rel=0.01)
    by_nfs = moved("Lambay/Usage", "CrossZoneBytes", FileSystemId=world.file_system)
    assert 8 * MIB <= by_nfs <= 1.6 * 8 * MIB

    costs = json.loads(own_lambay.cli("costs", "--json").stdout)
    items = {(item["resource"], item["usage"]): item for item in costs["items"]}
    for key, size, price in (
        ((world.nat, "through NAT gateway"), through, 0.045),
        ((world.nat, "between zones"), moved("Lambay/Usage", "CrossZoneBytes", NatGatewayId=world.nat), 0.01),
        ((world.file_system, "between zones"), by_nfs, 0.01),
    ):
        assert items[key]["quantity"] == pytest.approx(size / GIB)
        assert items[key]["amount"] == pytest.approx(size / GIB * price)
    services = {each["service"]: each["amount"] for each in costs["services"]}
    own = sum(item["amount"] for item in costs["items"] if item["service"] == "AmazonEC2")
    assert services["AmazonEC2"] == pytest.approx(own)
    assert estimated(own_lambay, "AmazonEC2") >= (through * 0.045 + by_nfs * 0.01) / GIB
    within = {"FileSystemId": near}
    assert moved("AWS/EFS", "DataWriteIOBytes", **within) == pytest.approx(4 * MIB, rel=0.01)
    assert not own_lambay.boto("cloudwatch").list_metrics(
        Namespace="Lambay/Usage", Dimensions=[{"Name": "FileSystemId", "Value": near}]
    )["Metrics"]
