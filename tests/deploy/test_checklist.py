"""What goes wrong with functions and file systems is found, at its line, with its fix; a sound template has nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from lambay.aws import AWSError
from lambay.deploy.checklist import Finding, findings

Body = dict[str, Any]

SOUND = """
Parameters:
  Elsewhere: {Type: String}
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: 10.0.0.0/16}
  SubnetA:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: {Ref: Vpc}, CidrBlock: 10.0.1.0/24, AvailabilityZone: us-east-1a}
  SubnetB:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: {Ref: Vpc}, CidrBlock: 10.0.2.0/24, AvailabilityZone: us-east-1b}
  FunctionGroup:
    Type: AWS::EC2::SecurityGroup
    Properties: {GroupDescription: functions, VpcId: {Ref: Vpc}}
  FilesGroup:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: files
      VpcId: {Ref: Vpc}
      SecurityGroupIngress:
        - {IpProtocol: tcp, FromPort: 2049, ToPort: 2049, SourceSecurityGroupId: {Ref: FunctionGroup}}
  Files:
    Type: AWS::EFS::FileSystem
    Properties: {Encrypted: true, LifecyclePolicies: [{TransitionToIA: AFTER_30_DAYS}]}
  TargetA:
    Type: AWS::EFS::MountTarget
    Properties: {FileSystemId: {Ref: Files}, SubnetId: {Ref: SubnetA}, SecurityGroups: [{Ref: FilesGroup}]}
  TargetB:
    Type: AWS::EFS::MountTarget
    Properties: {FileSystemId: {Ref: Files}, SubnetId: {Ref: SubnetB}, SecurityGroups: [{Ref: FilesGroup}]}
  Point:
    Type: AWS::EFS::AccessPoint
    Properties:
      FileSystemId: {Ref: Files}
      PosixUser: {Uid: '1000', Gid: '1000'}
      RootDirectory: {Path: /shop, CreationInfo: {OwnerUid: '1000', OwnerGid: '1000', Permissions: '755'}}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {}
      Policies:
        - PolicyName: files
          PolicyDocument:
            Statement:
              - Effect: Allow
                Action: ['elasticfilesystem:ClientMount', 'elasticfilesystem:ClientWrite']
                Resource: {'Fn::GetAtt': [Files, Arn]}
  Shop:
    Type: AWS::Lambda::Function
    DependsOn: [TargetA, TargetB]
    Properties:
      Role: {'Fn::GetAtt': [Role, Arn]}
      Timeout: 60
      VpcConfig: {SubnetIds: [{Ref: SubnetA}, {Ref: SubnetB}], SecurityGroupIds: [{Ref: FunctionGroup}]}
      FileSystemConfigs: [{Arn: {'Fn::GetAtt': [Point, Arn]}, LocalMountPath: /mnt/efs}]
"""


def with_(change: Callable[[Body], object]) -> list[Finding]:
    """What is found once `change` was made to the sound template's resources."""
    body = yaml.safe_load(SOUND)
    change(body["Resources"])
    return findings(yaml.safe_dump(body, sort_keys=False))


def properties(body: Body, name: str) -> Body:
    found: Body = body[name]["Properties"]
    return found


def test_a_sound_template_has_nothing_against_it() -> None:
    assert findings(SOUND) == []


def remove(name: str, *keys: str) -> Callable[[Body], object]:
    def change(body: Body) -> None:
        place = properties(body, name)
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


def put(name: str, key: str, value: Any) -> Callable[[Body], object]:
    return lambda body: properties(body, name).update({key: value})


POINT = "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point"
STATEMENT = {"Effect": "Allow", "Action": "elasticfilesystem:ClientMount", "Resource": "*"}


def allow(**statement: Any) -> Callable[[Body], object]:
    document = {"Statement": [STATEMENT | statement]}
    return put("Role", "Policies", [{"PolicyName": "files", "PolicyDocument": document}])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (remove("Shop", "VpcConfig"), "LB101", "no VpcConfig"),
        (lambda body: [body.pop("TargetB"), body["Shop"].update(DependsOn="TargetA")], "LB102", "SubnetB"),
        (lambda body: body["Shop"].pop("DependsOn"), "LB103", "TargetA, TargetB"),
        (
            remove("FilesGroup", "SecurityGroupIngress"),
            "LB104",
            "no inbound rule for TCP 2049 from FunctionGroup",
        ),
        (
            put(
                "FunctionGroup",
                "SecurityGroupEgress",
                [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}],
            ),
            "LB105",
            "none for TCP 2049",
        ),
        (
            put(
                "FilesGroup",
                "SecurityGroupIngress",
                [{"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "CidrIp": "0.0.0.0/0"}],
            ),
            "LB106",
            "open to 0.0.0.0/0",
        ),
        (
            put(
                "FunctionGroup",
                "SecurityGroupEgress",
                [
                    {
                        "IpProtocol": "tcp",
                        "FromPort": 2049,
                        "ToPort": 2049,
                        "DestinationSecurityGroupId": {"Ref": "FilesGroup"},
                    }
                ],
            ),
            "LB107",
            "circular",
        ),
        (remove("Files", "Encrypted"), "LB201", "not encrypted"),
        (put("Files", "PerformanceMode", "maxIO"), "LB202", "takes longer"),
        (put("Files", "LifecyclePolicy", []), "LB203", "LifecyclePolicies"),
        (remove("Files", "LifecyclePolicies"), "LB204", "no lifecycle policy"),
        (put("Point", "RootDirectory", {"Path": "/"}), "LB205", "whole file system"),
        (remove("Point", "RootDirectory", "CreationInfo"), "LB206", "not made when it is missing"),
        (remove("Point", "PosixUser"), "LB207", "no PosixUser"),
        (put("Point", "PosixUser", {"Uid": "0", "Gid": "0"}), "LB208", "root"),
        (put("Point", "PosixUser", {"Uid": "1001", "Gid": "1001"}), "LB209", "can't write there"),
        (
            put(
                "Shop",
                "FileSystemConfigs",
                [{"Arn": {"Fn::GetAtt": ["Files", "Arn"]}, "LocalMountPath": "/mnt/efs"}],
            ),
            "LB210",
            "access points only",
        ),
        (
            put(
                "Shop", "FileSystemConfigs", [{"Arn": f"{POINT}/fsap-12345678", "LocalMountPath": "/mnt/efs"}]
            ),
            "LB211",
            "not the ARN of an access point",
        ),
        (
            put("Role", "ManagedPolicyArns", ["arn:aws:iam::aws:policy/AmazonElasticFileSystemFullAccess"]),
            "LB301",
            "delete file systems",
        ),
        (allow(Action="elasticfilesystem:*"), "LB302", "far more"),
        (allow(Resource={"Fn::GetAtt": ["Point", "Arn"]}), "LB305", "never matches"),
        (allow(), "LB306", "every file system"),
        (lambda body: body.update(Other=copy.deepcopy(body["Shop"])), "LB303", "share Role"),
        (put("Shop", "Timeout", 3), "LB307", "3 s"),
        (
            lambda body: body.update(
                Pc={"Type": "AWS::Lambda::ProvisionedConcurrencyConfig", "Properties": {}}
            ),
            "LB304",
            "no type",
        ),
    ],
)
def test_one_fault_is_one_kind_of_finding_with_its_fix(
    change: Callable[[Body], object], code: str, words: str
) -> None:
    found = with_(change)

    assert {each.code for each in found} == {code}
    assert words in found[0].message
    assert all(each.fix for each in found)


def test_maxio_with_elastic_throughput_is_an_error() -> None:
    def change(body: Body) -> None:
        properties(body, "Files").update(PerformanceMode="maxIO", ThroughputMode="elastic")

    assert [(each.code, each.level) for each in with_(change)] == [("LB202", "error")]


def test_a_rule_of_its_own_opens_the_port_as_an_inline_one_does() -> None:
    def change(body: Body) -> None:
        (rule,) = properties(body, "FilesGroup").pop("SecurityGroupIngress")
        body["Rule"] = {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {"GroupId": {"Fn::GetAtt": ["FilesGroup", "GroupId"]}, **rule},
        }

    assert with_(change) == []


def test_a_mount_target_in_another_subnet_of_the_zone_serves() -> None:
    def change(body: Body) -> None:
        body["Aside"] = {"Type": "AWS::EC2::Subnet", "Properties": {"AvailabilityZone": "us-east-1b"}}
        properties(body, "TargetB")["SubnetId"] = {"Ref": "Aside"}

    assert with_(change) == []


def test_nothing_is_claimed_of_what_comes_by_parameter() -> None:
    def change(body: Body) -> None:
        for subnet, target in (("SubnetA", "TargetA"), ("SubnetB", "TargetB")):
            properties(body, target)["SubnetId"] = {"Ref": f"{subnet}Id"}
            properties(body, target)["SecurityGroups"] = [{"Ref": "Elsewhere"}]
        properties(body, "Shop")["VpcConfig"] = {
            "SubnetIds": {"Ref": "SubnetIds"},
            "SecurityGroupIds": [{"Ref": "Elsewhere"}],
        }

    assert with_(change) == []


def test_globals_count_for_serverless_functions() -> None:
    found = findings(
        """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Timeout: 5}}
Resources:
  Files: {Type: AWS::EFS::FileSystem, Properties: {Encrypted: true, LifecyclePolicies: []}}
  Point:
    Type: AWS::EFS::AccessPoint
    Properties:
      FileSystemId: !Ref Files
      PosixUser: {Uid: 1, Gid: 1}
      RootDirectory: {Path: /a, CreationInfo: {OwnerUid: 1, OwnerGid: 1, Permissions: '755'}}
  Shop:
    Type: AWS::Serverless::Function
    Properties:
      FileSystemConfigs: [{Arn: !GetAtt Point.Arn, LocalMountPath: /mnt/efs}]
"""
    )

    assert [(each.code, each.line) for each in found] == [("LB307", 14), ("LB101", 15)]


def test_a_finding_stands_at_its_line() -> None:
    text = SOUND.replace("Timeout: 60", "Timeout: 6")
    (finding,) = findings(text)

    assert text.splitlines()[finding.line - 1].strip() == "Timeout: 6"


@pytest.mark.parametrize("text", ["", "a: [", "- 1", '{"Resources": [}'])
def test_what_is_no_template_is_told_so(text: str) -> None:
    with pytest.raises(AWSError, match="ValidationError"):
        findings(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("Resources:\n  F: {Type: AWS::Serverless::Function}", 2, "is SAM's: give the template Transform"),
        ("Resources:\n  D: {Type: AWS::RDS::DBProxyTargetGroup}", 2, "that Lambay does not have"),
        ("Resources:\n  F: {Type: AWS::EFS::Filesystem}", 2, "near: AWS::EFS::FileSystem"),
        (
            "Transform: AWS::Serverless-2016-10-31\nResources:\n  A: {Type: AWS::Serverless::HttpApi}",
            3,
            "AWS::ApiGatewayV2::Api is a type of AWS that Lambay does not have",
        ),
        (
            "Transform: [AWS::Serverless-2016-10-31]\nResources:\n  F:\n    Type: AWS::Serverless::Function\n"
            "    Properties:\n      Events:\n        Call: {Type: HttpApi}",
            7,
            "event Call of F: AWS::ApiGatewayV2::Api is a type of AWS that Lambay does not have",
        ),
    ],
)
def test_a_type_that_is_not_there_is_an_error_at_its_line(text: str, line: int, words: str) -> None:
    (found,) = [each for each in findings(text) if each.level == "error"]

    assert (found.code, found.line) == ("LB401", line)
    assert words in found.message
    assert found.fix


def test_types_that_sam_makes_of_what_is_there_are_sound() -> None:
    text = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Table: {Type: AWS::Serverless::SimpleTable}
  Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: layer}}
  Mine: {Type: Custom::Thing}
  Queued:
    Type: AWS::Serverless::Function
    Properties: {Timeout: 30, Events: {Message: {Type: SQS, Properties: {Queue: arn}}}}
"""
    assert [each for each in findings(text) if each.level == "error"] == []
