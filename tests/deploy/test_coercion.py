"""Properties are read by the registry's schemas: kinds, faults, what replaces, where tags go."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.deploy import schemas
from lambay.deploy.schemas import Schema
from lambay.deploy.types.registry import resource_type, resource_types


def schema(name: str) -> Schema:
    found = schemas.schema(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(resource_types()))
def test_every_type_is_one_of_aws_or_a_spelling_that_circulates(name: str) -> None:
    own = {"AWS::CDK::Metadata", "AWS::Lambda::ProvisionedConcurrencyConfig"}

    assert name in schemas.known_types() | own


def test_texts_become_numbers_and_numbers_texts() -> None:
    group = schema("AWS::EC2::SecurityGroup").coerce(
        {"SecurityGroupIngress": [{"IpProtocol": -1, "FromPort": "2049", "ToPort": 2049}]}
    )
    point = schema("AWS::EFS::AccessPoint").coerce({"PosixUser": {"Uid": 1000, "Gid": "1000"}})

    assert group["SecurityGroupIngress"] == [{"IpProtocol": "-1", "FromPort": 2049, "ToPort": 2049}]
    assert point == {"PosixUser": {"Uid": "1000", "Gid": "1000"}}
    assert schema("AWS::EFS::FileSystem").coerce({"Encrypted": "true"}) == {"Encrypted": True}


@pytest.mark.parametrize(
    ("properties", "fault"),
    [
        ({}, "#: required key [FileSystemId] not found"),
        ({"FileSystemId": "fs-1", "Path": "/"}, "#: extraneous key [Path] is not permitted"),
        (
            {"FileSystemId": "fs-1", "RootDirectory": {"CreationInfo": {"OwnerUid": "1", "OwnerGid": "1"}}},
            "#/RootDirectory/CreationInfo: required key [Permissions] not found",
        ),
    ],
)
def test_a_fault_names_its_place(properties: dict[str, Any], fault: str) -> None:
    assert schema("AWS::EFS::AccessPoint").faults(properties) == [fault]


@pytest.mark.parametrize(
    ("name", "before", "after", "replaced"),
    [
        (
            "AWS::EFS::AccessPoint",
            {"RootDirectory": {"Path": "/a"}},
            {"RootDirectory": {"Path": "/b"}},
            {"RootDirectory"},
        ),
        ("AWS::EFS::FileSystem", {"ThroughputMode": "bursting"}, {"ThroughputMode": "elastic"}, set()),
        ("AWS::EFS::FileSystem", {"PerformanceMode": "maxIO"}, {}, {"PerformanceMode"}),
        ("AWS::Lambda::Function", {"MemorySize": 128}, {"MemorySize": 256}, set()),
        ("AWS::Lambda::Function", {"FunctionName": "a"}, {"FunctionName": "b"}, {"FunctionName"}),
        ("AWS::EC2::SubnetRouteTableAssociation", {"SubnetId": "a"}, {"SubnetId": "b"}, {"SubnetId"}),
    ],
)
def test_which_change_replaces(
    name: str, before: dict[str, Any], after: dict[str, Any], replaced: set[str]
) -> None:
    assert resource_type(name).replaced_by(before, after) == replaced


def test_a_stacks_tags_join_the_resources_own() -> None:
    tags = {"team": "files", "stage": "test"}

    queue = schema("AWS::SQS::Queue").tagged({"Tags": [{"Key": "team", "Value": "queues"}]}, tags)
    parameter = schema("AWS::SSM::Parameter").tagged({}, tags)
    files = schema("AWS::EFS::FileSystem").tagged({}, {"team": "files"})

    assert queue["Tags"] == [{"Key": "team", "Value": "queues"}, {"Key": "stage", "Value": "test"}]
    assert parameter["Tags"] == tags
    assert files["FileSystemTags"] == [{"Key": "team", "Value": "files"}]
