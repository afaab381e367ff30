"""`lambay deploy`, `destroy`, `validate` and `invoke` on a template, as a user runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.arrange import RUNTIME, Lambay, unique

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Memory: {Type: Number, Default: 256}
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: 10.0.0.0/16, EnableDnsSupport: true, EnableDnsHostnames: true}
  Subnet:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: !Select [0, !GetAZs ""]}
  FunctionGroup:
    Type: AWS::EC2::SecurityGroup
    Properties: {GroupDescription: functions, VpcId: !Ref Vpc}
  FilesGroup:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: files
      VpcId: !Ref Vpc
      SecurityGroupIngress:
        - {IpProtocol: tcp, FromPort: 2049, ToPort: 2049, SourceSecurityGroupId: !Ref FunctionGroup}
  Files:
    Type: AWS::EFS::FileSystem
    Properties: {Encrypted: true, LifecyclePolicies: [{TransitionToIA: AFTER_30_DAYS}]}
  Target:
    Type: AWS::EFS::MountTarget
    Properties: {FileSystemId: !Ref Files, SubnetId: !Ref Subnet, SecurityGroups: [!Ref FilesGroup]}
  Point:
    Type: AWS::EFS::AccessPoint
    Properties:
      FileSystemId: !Ref Files
      PosixUser: {Uid: '1000', Gid: '1000'}
      RootDirectory: {Path: /shop, CreationInfo: {OwnerUid: '1000', OwnerGid: '1000', Permissions: '755'}}
  Counter:
    Type: AWS::Serverless::Function
    DependsOn: Target
    Properties:
      Runtime: RUNTIME
      Handler: app.handler
      CodeUri: src
      MemorySize: !Ref Memory
      Timeout: 30
      VpcConfig: {SubnetIds: [!Ref Subnet], SecurityGroupIds: [!Ref FunctionGroup]}
      FileSystemConfigs: [{Arn: !GetAtt Point.Arn, LocalMountPath: /mnt/efs}]
Outputs:
  Name: {Value: !Ref Counter}
  Path: {Value: /mnt/efs}
"""
CODE = """
import os
def handler(event, context):
    with open("/mnt/efs/count", "a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        return {"count": len(file.read()), "memory": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A template beside its code, in a directory whose name no other test's stack has."""
    place = tmp_path / unique("shop")
    (place / "src").mkdir(parents=True)
    (place / "src" / "app.py").write_text(CODE)
    (place / "template.yaml").write_text(TEMPLATE.replace("RUNTIME", RUNTIME))
    return place


def failed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done
    return done.stderr


def test_a_template_comes_up_changes_and_goes(lambay: Lambay, shop: Path) -> None:
    template, stack = str(shop / "template.yaml"), shop.name
    made = lambay.cli("deploy", template, "--json")
    assert json.loads(made.stdout)["Path"] == "/mnt/efs"
    assert "CREATE_COMPLETE" in made.stderr
    assert json.loads(lambay.cli("invoke", f"{stack}/Counter").stdout)["count"] == 1
    assert "Nothing is in the way." in lambay.cli("explain", f"{stack}/Counter").stdout

    assert "is up to date" in lambay.cli("deploy", template).stdout

    changed = lambay.cli("deploy", template, "--parameter", "Memory=512").stdout
    assert "MemorySize" in changed
    assert "AWS::EFS" not in changed.replace("AWS::EFS::", "AWS::EFS") or "Files" not in changed
    assert json.loads(lambay.cli("invoke", f"{stack}/Counter").stdout) == {"count": 2, "memory": "512"}
    # What was given once is kept.
    assert "is up to date" in lambay.cli("deploy", template).stdout

    assert "DELETE_COMPLETE" in lambay.cli("destroy", template).stdout
    assert lambay.boto("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE"])
    names = [each["StackName"] for each in lambay.boto("cloudformation").describe_stacks()["Stacks"]]
    assert stack not in names
    assert "does not exist" in failed(lambay.cli("destroy", stack, check=False))


def test_a_dry_run_changes_nothing(lambay: Lambay, shop: Path) -> None:
    shown = lambay.cli("deploy", str(shop / "template.yaml"), "--dry-run").stdout

    assert "+" in shown
    assert "AWS::EFS::FileSystem" in shown
    stacks = lambay.boto("cloudformation").describe_stacks()["Stacks"]
    assert shop.name not in [each["StackName"] for each in stacks]


def test_a_failure_is_rolled_back_and_its_reason_told(lambay: Lambay, shop: Path) -> None:
    text = (
        (shop / "template.yaml").read_text().replace("LocalMountPath: /mnt/efs", "LocalMountPath: /srv/efs")
    )
    (shop / "template.yaml").write_text(text)

    said = failed(lambay.cli("deploy", str(shop / "template.yaml"), check=False))

    assert "ROLLBACK_COMPLETE" in said
    assert "Counter" in said
    assert "/srv/efs" in said
    assert "lambay destroy" in failed(lambay.cli("deploy", str(shop / "template.yaml"), check=False))
    lambay.cli("destroy", shop.name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--parameter", "Memory"], "is not KEY=VALUE"),
        (["--parameter", "Memory=much"], "Memory"),
        (["--parameter", "Nothing=1"], "Nothing"),
    ],
)
def test_unusable_parameters_are_named(lambay: Lambay, shop: Path, arguments: list[str], words: str) -> None:
    assert words in failed(lambay.cli("deploy", str(shop / "template.yaml"), *arguments, check=False))


def test_a_template_is_validated_without_a_server(lambay: Lambay, shop: Path) -> None:
    template = shop / "template.yaml"
    assert "nothing to say against it" in lambay.cli("validate", str(template)).stdout

    template.write_text(template.read_text().replace("    DependsOn: Target\n", "").replace("tcp", "udp"))
    done = lambay.cli("validate", "--json", str(template), check=False)

    assert done.returncode == 1
    found = {each["code"]: each for each in json.loads(done.stdout)}
    assert found["LB103"]["level"] == "warning"
    assert "from FunctionGroup" in found["LB104"]["message"]
    assert "SourceSecurityGroupId FunctionGroup" in found["LB104"]["fix"]
    lines = template.read_text().splitlines()
    assert lines[found["LB103"]["line"] - 1] == "  Counter:"


def test_cfn_lints_findings_are_among_them(lambay: Lambay, shop: Path) -> None:
    template = shop / "template.yaml"
    template.write_text(template.read_text().replace("GroupDescription: files", "GroupDescriptoin: files"))
    done = lambay.cli("validate", str(template), check=False)

    assert done.returncode == 1
    assert "GroupDescriptoin" in done.stdout
