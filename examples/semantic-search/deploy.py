"""Deploys the application with boto3, as one would to AWS; run again, it changes only what differs.

AWS_ENDPOINT_URL=http://127.0.0.1:4566 python deploy.py
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

NAME = "semantic-search"
INGEST, SEARCH = f"{NAME}-ingest", f"{NAME}-search"
WRITER, READER = 1001, 2002
FUNCTIONS = Path(__file__).parent / "functions"

session = boto3.Session(region_name="us-east-1")
ec2, efs, iam, lambda_ = (session.client(service) for service in ("ec2", "efs", "iam", "lambda"))


def named(kind: str) -> list[dict[str, str]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": NAME}]}]


def network() -> tuple[list[str], str, str]:
    """A VPC with a private subnet in two zones, and the two security groups: the functions' and the mount targets'."""
    mine = [{"Name": "tag:Name", "Values": [NAME]}]
    vpcs = ec2.describe_vpcs(Filters=mine)["Vpcs"]
    if not vpcs:
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16", TagSpecifications=named("vpc"))["Vpc"]["VpcId"]
        zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]][:2]
        for number, zone in enumerate(zones):
            ec2.create_subnet(
                VpcId=vpc,
                CidrBlock=f"10.20.{number}.0/24",
                AvailabilityZone=zone,
                TagSpecifications=named("subnet"),
            )
        functions = ec2.create_security_group(
            GroupName=f"{NAME}-functions", Description="the functions", VpcId=vpc
        )["GroupId"]
        targets = ec2.create_security_group(
            GroupName=f"{NAME}-mount-targets", Description="NFS from the functions", VpcId=vpc
        )["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=targets,
            IpPermissions=[
                {
                    "IpProtocol": "tcp",
                    "FromPort": 2049,
                    "ToPort": 2049,
                    "UserIdGroupPairs": [{"GroupId": functions}],
                }
            ],
        )
        vpcs = ec2.describe_vpcs(Filters=mine)["Vpcs"]
    vpc = vpcs[0]["VpcId"]
    within = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=within)["Subnets"]]
    groups = {
        g["GroupName"]: g["GroupId"] for g in ec2.describe_security_groups(Filters=within)["SecurityGroups"]
    }
    return subnets, groups[f"{NAME}-functions"], groups[f"{NAME}-mount-targets"]


def file_system(subnets: list[str], group: str) -> str:
    """The file system, with a mount target in each subnet."""
    try:
        file_system_id = efs.create_file_system(
            CreationToken=NAME, ThroughputMode="elastic", Tags=[{"Key": "Name", "Value": NAME}]
        )["FileSystemId"]
    except efs.exceptions.FileSystemAlreadyExists as existing:
        file_system_id = existing.response["FileSystemId"]
    until(lambda: efs.describe_file_systems(FileSystemId=file_system_id)["FileSystems"])
    there = {t["SubnetId"] for t in efs.describe_mount_targets(FileSystemId=file_system_id)["MountTargets"]}
    for subnet in set(subnets) - there:
        efs.create_mount_target(FileSystemId=file_system_id, SubnetId=subnet, SecurityGroups=[group])
    until(lambda: efs.describe_mount_targets(FileSystemId=file_system_id)["MountTargets"])
    return str(file_system_id)


def access_point(file_system_id: str, name: str, user: int) -> str:
    """An access point at /search, acting as `user`; the directory belongs to the writer."""
    try:
        created = efs.create_access_point(
            ClientToken=f"{NAME}-{name}",
            FileSystemId=file_system_id,
            PosixUser={"Uid": user, "Gid": user},
            RootDirectory={
                "Path": "/search",
                "CreationInfo": {"OwnerUid": WRITER, "OwnerGid": WRITER, "Permissions": "0755"},
            },
            Tags=[{"Key": "Name", "Value": f"{NAME}-{name}"}],
        )
        access_point_id = created["AccessPointId"]
    except efs.exceptions.AccessPointAlreadyExists as existing:
        access_point_id = existing.response["AccessPointId"]
    points = until(lambda: efs.describe_access_points(AccessPointId=access_point_id)["AccessPoints"])
    return str(points[0]["AccessPointArn"])


def role() -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    try:
        iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=json.dumps(trust))
        for policy in (
            "service-role/AWSLambdaVPCAccessExecutionRole",
            "AmazonElasticFileSystemClientReadWriteAccess",
        ):
            iam.attach_role_policy(RoleName=NAME, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    except iam.exceptions.EntityAlreadyExistsException:
        pass
    return str(iam.get_role(RoleName=NAME)["Role"]["Arn"])


def package() -> bytes:
    """The functions' code; the same bytes for the same files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(FUNCTIONS.glob("*.py")):
            entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            bundle.writestr(entry, path.read_bytes())
    return archive.getvalue()


def function(
    name: str, handler: str, role_arn: str, subnets: list[str], group: str, access_point_arn: str
) -> None:
    code = package()
    configuration: dict[str, Any] = {
        "FunctionName": name,
        "Runtime": f"python3.{sys.version_info.minor}",
        "Role": role_arn,
        "Handler": handler,
        "MemorySize": 1769,
        "Timeout": 300,
        # The memory buys one processor: more threads would only wait for each other.
        "Environment": {"Variables": {"OPENBLAS_NUM_THREADS": "1"}},
        "VpcConfig": {"SubnetIds": subnets, "SecurityGroupIds": [group]},
        "FileSystemConfigs": [{"Arn": access_point_arn, "LocalMountPath": "/mnt/efs"}],
    }
    try:
        lambda_.create_function(**configuration, Code={"ZipFile": code})
        lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceConflictException":
            raise
        lambda_.update_function_code(FunctionName=name, ZipFile=code)
        lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
        lambda_.update_function_configuration(**configuration)
        lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)


def until(describe: Any) -> Any:
    """What `describe` returns once every resource in it is available; AWS offers no waiter for EFS."""
    while True:
        found = describe()
        if all(resource["LifeCycleState"] == "available" for resource in found):
            return found
        time.sleep(0.1)


def deploy() -> dict[str, str]:
    subnets, functions_group, targets_group = network()
    file_system_id = file_system(subnets, targets_group)
    writer = access_point(file_system_id, "writer", WRITER)
    reader = access_point(file_system_id, "reader", READER)
    role_arn = role()
    function(INGEST, "ingest.lambda_handler", role_arn, subnets, functions_group, writer)
    function(SEARCH, "search.lambda_handler", role_arn, subnets, functions_group, reader)
    return {"file_system": file_system_id, "writer": writer, "reader": reader}


if __name__ == "__main__":
    print(json.dumps(deploy(), indent=2))
