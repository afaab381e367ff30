"""Tags, life cycle, backup, replication and account preferences."""

import asyncio
import json
from typing import Any

import pytest

from lambay.aws import AWSError
from tests.efs.surroundings import ACCOUNT, KEY, REGION, House, call


async def lifecycle(house: House, identifier: str, *policies: dict[str, str]) -> dict[str, Any]:
    given = {"FileSystemId": identifier, "LifecyclePolicies": list(policies)}
    return await house.efs.put_lifecycle_configuration(call(), given)


async def test_life_cycle_policies_are_kept(house: House) -> None:
    identifier = await house.make(ThroughputMode="elastic")
    assert await house.efs.describe_lifecycle_configuration(call(), {"FileSystemId": identifier}) == {
        "LifecyclePolicies": []
    }
    policies = [
        {"TransitionToIA": "AFTER_30_DAYS"},
        {"TransitionToArchive": "AFTER_90_DAYS"},
        {"TransitionToPrimaryStorageClass": "AFTER_1_ACCESS"},
    ]
    assert await lifecycle(house, identifier, *policies) == {"LifecyclePolicies": policies}
    described = await house.efs.describe_lifecycle_configuration(call(), {"FileSystemId": identifier})
    assert described == {"LifecyclePolicies": policies}
    assert await lifecycle(house, identifier) == {"LifecyclePolicies": []}


@pytest.mark.parametrize(
    ("mode", "policies", "says"),
    [
        ("elastic", [{}], "malformed"),
        (
            "elastic",
            [{"TransitionToIA": "AFTER_7_DAYS", "TransitionToArchive": "AFTER_90_DAYS"}],
            "malformed",
        ),
        ("elastic", [{"TransitionToIA": "AFTER_7_DAYS"}, {"TransitionToIA": "AFTER_14_DAYS"}], "twice"),
        ("bursting", [{"TransitionToArchive": "AFTER_90_DAYS"}], "elastic"),
        (
            "elastic",
            [{"TransitionToIA": "AFTER_90_DAYS"}, {"TransitionToArchive": "AFTER_30_DAYS"}],
            "later",
        ),
        (
            "elastic",
            [{"TransitionToArchive": "AFTER_30_DAYS"}, {"TransitionToIA": "AFTER_30_DAYS"}],
            "later",
        ),
    ],
)
async def test_life_cycle_policies_that_cannot_be(
    house: House, mode: str, policies: list[dict[str, str]], says: str
) -> None:
    identifier = await house.make(ThroughputMode=mode)
    with pytest.raises(AWSError, match=says) as refused:
        await lifecycle(house, identifier, *policies)
    assert refused.value.code == "BadRequest"


async def test_backups_are_switched(house: House) -> None:
    identifier = await house.make()
    with pytest.raises(AWSError, match="PolicyNotFound"):
        await house.efs.describe_backup_policy(call(), {"FileSystemId": identifier})
    for wanted, meanwhile in (("ENABLED", "ENABLING"), ("DISABLED", "DISABLING")):
        given = {"FileSystemId": identifier, "BackupPolicy": {"Status": wanted}}
        assert await house.efs.put_backup_policy(call(), given) == {"BackupPolicy": {"Status": meanwhile}}
        described = await house.efs.describe_backup_policy(call(), {"FileSystemId": identifier})
        assert described == {"BackupPolicy": {"Status": wanted}}
    with pytest.raises(AWSError, match="BadRequest"):
        await house.efs.put_backup_policy(
            call(), {"FileSystemId": identifier, "BackupPolicy": {"Status": "ENABLING"}}
        )


async def test_only_long_ids_are_to_be_had(house: House) -> None:
    long = {
        "ResourceIdPreference": {"ResourceIdType": "LONG_ID", "Resources": ["FILE_SYSTEM", "MOUNT_TARGET"]}
    }
    assert await house.efs.describe_account_preferences(call(), {}) == long
    assert await house.efs.put_account_preferences(call(), {"ResourceIdType": "LONG_ID"}) == long
    assert await house.efs.describe_account_preferences(call(), {}) == long
    with pytest.raises(AWSError, match="BadRequest"):
        await house.efs.put_account_preferences(call(), {"ResourceIdType": "SHORT_ID"})


async def tags(house: House, resource: str) -> dict[str, str]:
    output = await house.efs.list_tags_for_resource(call(), {"ResourceId": resource})
    return {tag["Key"]: tag["Value"] for tag in output["Tags"]}


async def test_tags_of_file_systems_and_access_points(house: House) -> None:
    identifier = await house.make(Tags=[{"Key": "a", "Value": "1"}])
    access_point = await house.make_access_point(identifier, Tags=[{"Key": "a", "Value": "1"}])
    arn = (await house.describe(identifier))["FileSystemArn"]
    for resource in (identifier, arn, access_point["AccessPointId"], access_point["AccessPointArn"]):
        await house.efs.tag_resource(
            call(),
            {"ResourceId": resource, "Tags": [{"Key": "a", "Value": "2"}, {"Key": "Name", "Value": "n"}]},
        )
        assert await tags(house, resource) == {"a": "2", "Name": "n"}
        await house.efs.untag_resource(call(), {"ResourceId": resource, "TagKeys": ["Name", "absent"]})
        assert await tags(house, resource) == {"a": "2"}


async def test_the_old_operations_see_the_same_tags(house: House) -> None:
    identifier = await house.make()
    await house.efs.create_tags(
        call(), {"FileSystemId": identifier, "Tags": [{"Key": f"k{n}", "Value": str(n)} for n in range(3)]}
    )
    assert await tags(house, identifier) == {"k0": "0", "k1": "1", "k2": "2"}
    first = await house.efs.describe_tags(call(), {"FileSystemId": identifier, "MaxItems": 2})
    second = await house.efs.describe_tags(
        call(), {"FileSystemId": identifier, "MaxItems": 2, "Marker": first["NextMarker"]}
    )
    assert {tag["Key"] for tag in first["Tags"] + second["Tags"]} == {"k0", "k1", "k2"}
    await house.efs.delete_tags(call(), {"FileSystemId": identifier, "TagKeys": ["k0", "k1"]})
    assert await tags(house, identifier) == {"k2": "2"}


async def test_a_page_of_the_longest_tag_key_has_a_token_that_fits(house: House) -> None:
    long = [{"Key": "ü" * 127 + str(number), "Value": ""} for number in range(3)]
    identifier = await house.make(Tags=long)
    output = await house.efs.list_tags_for_resource(call(), {"ResourceId": identifier, "MaxResults": 1})
    assert len(output["NextToken"]) <= 128


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("fs-00000000", "FileSystemNotFound"),
        ("fsap-00000000", "AccessPointNotFound"),
        ("fsmt-0", "BadRequest"),
    ],
)
async def test_tags_of_nothing(house: House, resource: str, code: str) -> None:
    for operation in (
        house.efs.tag_resource(call(), {"ResourceId": resource, "Tags": []}),
        house.efs.untag_resource(call(), {"ResourceId": resource, "TagKeys": ["a"]}),
        house.efs.list_tags_for_resource(call(), {"ResourceId": resource}),
    ):
        with pytest.raises(AWSError) as refused:
            await operation
        assert refused.value.code == code


async def test_a_resource_has_fifty_tags_at_most(house: House) -> None:
    identifier = await house.make(Tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)])
    await house.efs.tag_resource(call(), {"ResourceId": identifier, "Tags": [{"Key": "k0", "Value": "new"}]})
    with pytest.raises(AWSError, match="50"):
        await house.efs.tag_resource(
            call(), {"ResourceId": identifier, "Tags": [{"Key": "k50", "Value": ""}]}
        )


async def replicate(house: House, source: str, **destination: Any) -> dict[str, Any]:
    given = {"SourceFileSystemId": source, "Destinations": [destination]}
    return await house.efs.create_replication_configuration(call(), given)


async def test_replication_makes_an_encrypted_destination_in_the_other_region(house: House) -> None:
    source = await house.make()
    created = await replicate(house, source, Region="us-east-1")
    (destination,) = created["Destinations"]
    assert created["SourceFileSystemRegion"] == REGION
    assert created["SourceFileSystemArn"].endswith(f"{ACCOUNT}:file-system/{source}")
    assert (destination["Status"], destination["Region"]) == ("ENABLED", "us-east-1")
    assert "does not copy" in destination["StatusMessage"]
    there = call(region="us-east-1")
    (described,) = (
        await house.efs.describe_file_systems(there, {"FileSystemId": destination["FileSystemId"]})
    )["FileSystems"]
    assert (described["Encrypted"], described["KmsKeyId"]) == (True, KEY)
    assert described["FileSystemProtection"] == {"ReplicationOverwriteProtection": "REPLICATING"}
    assert destination["FileSystemId"] in house.fsd.volumes
    mounted = await house.efs.mount_source(destination["FileSystemId"], account=ACCOUNT, region="us-east-1")
    assert mounted.read_only


async def test_a_replication_is_found_from_both_ends(house: House) -> None:
    source = await house.make()
    created = await replicate(house, source, Region=REGION)
    destination = created["Destinations"][0]["FileSystemId"]
    for asked in ({}, {"FileSystemId": source}, {"FileSystemId": destination}):
        output = await house.efs.describe_replication_configurations(call(), asked)
        assert output["Replications"] == [created]
    with pytest.raises(AWSError, match="ReplicationNotFound"):
        await house.efs.describe_replication_configurations(call(), {"FileSystemId": await house.make()})


async def test_a_deleted_replication_leaves_a_writable_destination(house: House) -> None:
    source = await house.make()
    destination = (await replicate(house, source, Region=REGION))["Destinations"][0]["FileSystemId"]
    for part in (source, destination):
        with pytest.raises(AWSError, match="FileSystemInUse"):
            await house.efs.delete_file_system(call(), {"FileSystemId": part})
    with pytest.raises(AWSError, match="ReplicationAlreadyExists"):
        await house.efs.update_file_system_protection(
            call(), {"FileSystemId": destination, "ReplicationOverwriteProtection": "DISABLED"}
        )
    await house.efs.delete_replication_configuration(call(), {"SourceFileSystemId": source})
    protection = (await house.describe(destination))["FileSystemProtection"]
    assert protection == {"ReplicationOverwriteProtection": "ENABLED"}
    with pytest.raises(AWSError, match="ReplicationNotFound"):
        await house.efs.delete_replication_configuration(call(), {"SourceFileSystemId": source})
    await house.efs.delete_file_system(call(), {"FileSystemId": destination})


async def test_a_source_that_goes_away_meanwhile_leaves_no_destination(house: House) -> None:
    source = await house.make()
    replication = asyncio.create_task(replicate(house, source, Region=REGION))
    await asyncio.sleep(0)
    await house.efs.delete_file_system(call(), {"FileSystemId": source})
    with pytest.raises(AWSError, match=r"IncorrectFileSystemLifeCycleState|FileSystemNotFound"):
        await replication
    await house.gone()
    assert (await house.efs.describe_file_systems(call(), {}))["FileSystems"] == []


async def test_an_existing_destination_has_to_be_open_for_it(house: House) -> None:
    source = await house.make()
    destination = await house.make()
    with pytest.raises(AWSError, match="protection"):
        await replicate(house, source, FileSystemId=destination)
    await house.efs.update_file_system_protection(
        call(), {"FileSystemId": destination, "ReplicationOverwriteProtection": "DISABLED"}
    )
    created = await replicate(house, source, FileSystemId=destination, RoleArn="arn:aws:iam::1:role/r")
    assert created["Destinations"][0]["RoleArn"] == "arn:aws:iam::1:role/r"
    with pytest.raises(AWSError, match="ReplicationAlreadyExists"):
        await replicate(house, source, Region=REGION)
    with pytest.raises(AWSError, match="ReplicationAlreadyExists"):
        await replicate(house, await house.make(), FileSystemId=destination)


async def test_an_encrypted_source_needs_an_encrypted_destination(house: House) -> None:
    source, destination = await house.make(Encrypted=True), await house.make()
    await house.efs.update_file_system_protection(
        call(), {"FileSystemId": destination, "ReplicationOverwriteProtection": "DISABLED"}
    )
    with pytest.raises(AWSError, match="ConflictException"):
        await replicate(house, source, FileSystemId=destination)


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ({}, "BadRequest"),
        ({"FileSystemId": "fs-00000000"}, "FileSystemNotFound"),
        ({"FileSystemId": "fs-00000000", "KmsKeyId": KEY}, "BadRequest"),
        ({"Region": REGION, "AvailabilityZoneName": "eu-west-1z"}, "UnsupportedAvailabilityZone"),
        ({"Region": REGION, "KmsKeyId": "alias/nobody"}, "BadRequest"),
    ],
)
async def test_destinations_that_cannot_be(house: House, destination: dict[str, str], code: str) -> None:
    source = await house.make()
    with pytest.raises(AWSError) as refused:
        await replicate(house, source, **destination)
    assert refused.value.code == code


async def test_a_replication_has_one_destination_and_it_is_another(house: House) -> None:
    source = await house.make()
    with pytest.raises(AWSError, match="ValidationException"):
        await house.efs.create_replication_configuration(
            call(), {"SourceFileSystemId": source, "Destinations": [{"Region": REGION}, {"Region": REGION}]}
        )
    with pytest.raises(AWSError, match="itself"):
        await replicate(house, source, FileSystemId=source)


async def test_what_is_stored_only_is_said(house: House) -> None:
    identifier = await house.make(
        Encrypted=True,
        Backup=True,
        Tags=[{"Key": "Name", "Value": "n"}],
    )
    await lifecycle(house, identifier, {"TransitionToIA": "AFTER_30_DAYS"})
    await replicate(house, identifier, Region=REGION)
    plain = await house.make(ThroughputMode="elastic")
    # Mounts are decided by it.
    everybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "elasticfilesystem:ClientMount"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    await house.efs.put_file_system_policy(call(), {"FileSystemId": plain, "Policy": policy})
    summary = await house.efs.summary()
    listed = {each["id"]: each for each in summary["file_systems"]}
    notes = " | ".join(listed[identifier]["stored_not_enforced"])
    assert all(word in notes for word in ("TransitionToIA", "backup", "replication", "encryption"))
    assert "throughput" not in notes
    assert listed[plain]["stored_not_enforced"] == []
    assert (listed[identifier]["name"], listed[plain]["bytes"]) == ("n", 6144)
