"""CreateFunction, GetFunction, ListFunctions, updates and DeleteFunction."""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any

import pytest

from lambay.aws import AWSError
from lambay.functions.records import LATEST
from lambay.http import Request
from lambay.runtime import EnvironmentSpec, Invocation, Outcome

from .conftest import ACCESS_POINT, ACCOUNT, REGION, World, minimal, zipped

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


async def refused(world: World, operation: str, **input: Any) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world(operation, **input)
    return caught.value


async def test_a_created_function_is_pending_then_active(world: World) -> None:
    created = await world("CreateFunction", **minimal(Environment={"Variables": {"A": "1"}}))
    assert created["FunctionArn"] == ARN
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert "LastUpdateStatus" not in created
    await world.settle()
    shown = (await world("GetFunction", FunctionName="f"))["Configuration"]
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")
    assert shown["RevisionId"] != created["RevisionId"]
    assert shown["Environment"] == {"Variables": {"A": "1"}}
    assert (shown["Timeout"], shown["MemorySize"], shown["EphemeralStorage"]) == (3, 128, {"Size": 512})
    assert shown["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}


async def test_a_function_interrupted_while_pending_becomes_active_at_the_next_start(world: World) -> None:
    await world("CreateFunction", **minimal())
    await world.functions._room.lifecycle.stop()
    assert (await world("GetFunction", FunctionName="f"))["Configuration"]["State"] == "Pending"
    await world.restart()
    await world.settle()
    assert (await world("GetFunction", FunctionName="f"))["Configuration"]["State"] == "Active"


async def test_the_code_location_downloads_the_zip(world: World) -> None:
    archive = zipped()
    await world.create(Code={"ZipFile": archive})
    location = urllib.parse.urlsplit((await world("GetFunction", FunctionName="f"))["Code"]["Location"])
    answer = await world.functions.handle_code(Request("GET", location.path, location.query, {}))
    assert not isinstance(answer.body, bytes)
    assert b"".join([chunk async for chunk in answer.body]) == archive
    forged = await world.functions.handle_code(Request("GET", location.path, location.query + "0", {}))
    assert forged.status == 403


async def test_code_comes_from_s3(world: World) -> None:
    world.neighbours.objects["bucket", "key.zip"] = zipped()
    shown = await world.create(Code={"S3Bucket": "bucket", "S3Key": "key.zip"})
    assert shown["CodeSize"] == len(zipped())
    error = await refused(
        world, "CreateFunction", **minimal("g", Code={"S3Bucket": "bucket", "S3Key": "other"})
    )
    assert error.message == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key "
        "does not exist."
    )


@pytest.mark.parametrize(
    ("input", "code", "text"),
    [
        (
            {"Runtime": "python9"},
            "InvalidParameterValueException",
            "Value python9 at 'runtime' failed to satisfy",
        ),
        ({"Runtime": "python3.7"}, "InvalidParameterValueException", "is no longer supported for creating"),
        ({"Runtime": "java21"}, "InvalidParameterValueException", "install a Java 21 runtime"),
        ({"Handler": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory parameters"),
        (
            {"Timeout": 901},
            "ValidationException",
            "'timeout' failed to satisfy constraint: Member must have value less",
        ),
        ({"MemorySize": 10241}, "ValidationException", "at 'memorySize'"),
        (
            {"PackageType": "Image"},
            "InvalidParameterValueException",
            "Please don't provide Handler or Runtime or Layer",
        ),
        (
            {"Architectures": ["arm64"]},
            "InvalidParameterValueException",
            "arm64 functions can't run on this host",
        ),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "InvalidParameterValueException", "SnapStart"),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            "InvalidParameterValueException",
            "Reserved keys used in this request: AWS_REGION",
        ),
        (
            {"Environment": {"Variables": {"BIG": "x" * 4096}}},
            "InvalidParameterValueException",
            'exceeded the 4KB limit. String measured: {"BIG":"xx',
        ),
        (
            {"Role": f"arn:aws:iam::{ACCOUNT}:role/missing"},
            "InvalidParameterValueException",
            "The role defined for the function cannot be assumed by Lambda.",
        ),
        ({"Role": "arn:aws:iam::999999999999:role/r"}, "AccessDeniedException", "Cross-account pass role"),
        ({"VpcConfig": {"SubnetIds": ["subnet-a"]}}, "InvalidParameterValueException", "must coexist"),
        (
            {"VpcConfig": {"SubnetIds": ["subnet-0"], "SecurityGroupIds": ["sg-1"]}},
            "InvalidParameterValueException",
            "Error occurred while DescribeSubnets. EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error "
            "Message: "
            "The subnet ID 'subnet-0' does not exist",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-0"]}},
            "InvalidParameterValueException",
            "Error occurred while DescribeSecurityGroups. EC2 Error Code: InvalidGroup.NotFound.",
        ),
        (
            {"FileSystemConfigs": [{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/efs"}]},
            "InvalidParameterValueException",
            f"Function must be configured to execute in a VPC to reference access point {ACCESS_POINT}.",
        ),
        (
            {"LoggingConfig": {"LogFormat": "Text", "SystemLogLevel": "INFO"}},
            "InvalidParameterValueException",
            "LogLevel is not supported when LogFormat is set to",
        ),
        ({"DurableConfig": {"ExecutionTimeout": 5}}, "InvalidParameterValueException", "DurableConfig"),
        ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
        (
            {"Code": {"ZipFile": b"no zip"}},
            "InvalidParameterValueException",
            "Could not unzip uploaded file.",
        ),
        (
            {"FunctionName": "a" * 65},
            "InvalidParameterValueException",
            "Member must have length less than or equal to 64",
        ),
    ],
)
async def test_what_lambda_refuses_is_refused_in_its_words(
    world: World, input: dict[str, Any], code: str, text: str
) -> None:
    error = await refused(world, "CreateFunction", **{**minimal(), **input})
    assert (error.code, text in error.message) == (code, True), error.message
    assert (await world("ListFunctions"))["Functions"] == []


async def test_a_role_that_does_not_trust_lambda_is_refused(world: World) -> None:
    world.neighbours.trusted = "ec2.amazonaws.com"
    error = await refused(world, "CreateFunction", **minimal())
    assert error.message == "The role defined for the function cannot be assumed by Lambda."


async def test_a_file_system_needs_a_mount_target_in_each_zone(world: World) -> None:
    mounted = [{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/efs"}]
    vpc = {"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-1"]}
    shown = await world.create(VpcConfig=vpc, FileSystemConfigs=mounted)
    assert shown["FileSystemConfigs"] == mounted
    assert shown["VpcConfig"] == {**vpc, "VpcId": "vpc-1", "Ipv6AllowedForDualStack": False}
    error = await refused(
        world,
        "UpdateFunctionConfiguration",
        FunctionName="f",
        VpcConfig={"SubnetIds": ["subnet-a", "subnet-c"], "SecurityGroupIds": ["sg-1"]},
    )
    assert "mount targets" in error.message
    error = await refused(
        world,
        "UpdateFunctionConfiguration",
        FunctionName="f",
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
    )
    assert "must be configured to execute in a VPC" in error.message


async def test_s3_files_access_points_are_refused(world: World) -> None:
    file_system = f"arn:aws:s3files:{REGION}:{ACCOUNT}:file-system/fs-0123456789abcdef0"
    arn = f"{file_system}/access-point/fsap-0123456789abcdef0"
    error = await refused(
        world, "CreateFunction", **minimal(FileSystemConfigs=[{"Arn": arn, "LocalMountPath": "/mnt/efs"}])
    )
    assert "S3 Files" in error.message


async def test_a_function_is_made_once(world: World) -> None:
    await world.create()
    error = await refused(world, "CreateFunction", **minimal())
    assert (error.code, error.message) == ("ResourceConflictException", "Function already exist: f")


async def test_every_form_of_the_name_finds_the_function(world: World) -> None:
    await world.create()
    await world("PublishVersion", FunctionName="f")
    for form in ("f", f"{ACCOUNT}:function:f", f"{ACCOUNT}:f", ARN, "function:f"):
        assert (await world("GetFunctionConfiguration", FunctionName=form))["FunctionArn"] == ARN
        assert (await world("GetFunctionConfiguration", FunctionName=f"{form}:1"))[
            "FunctionArn"
        ] == f"{ARN}:1"
    error = await refused(world, "GetFunction", FunctionName="f:1", Qualifier="2")
    assert (
        error.message
        == "The derived qualifier from the function name does not match the specified qualifier."
    )
    error = await refused(world, "GetFunction", FunctionName=ARN.replace(REGION, "eu-west-1"))
    assert error.message == f"Functions from 'eu-west-1' are not reachable in this region ('{REGION}')"
    error = await refused(world, "GetFunction", FunctionName=ARN.replace(ACCOUNT, "1" * 12))
    assert error.code == "AccessDeniedException"
    error = await refused(world, "GetFunction", FunctionName="f", Qualifier="9")
    assert error.message == f"Function not found: {ARN}:9"


async def test_an_update_is_in_progress_then_successful(world: World) -> None:
    before = await world.create()
    updated = await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=30, Description="d")
    assert (updated["LastUpdateStatus"], updated["State"]) == ("InProgress", "Active")
    error = await refused(world, "UpdateFunctionConfiguration", FunctionName="f", Timeout=31)
    assert (error.code, error.message) == (
        "ResourceConflictException",
        f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}",
    )
    await world.settle()
    after = await world("GetFunctionConfiguration", FunctionName="f")
    assert (after["LastUpdateStatus"], after["Timeout"], after["Description"]) == ("Successful", 30, "d")
    assert "LastUpdateStatusReason" not in after
    assert after["Handler"] == before["Handler"]
    assert len({before["RevisionId"], updated["RevisionId"], after["RevisionId"]}) == 3
    assert world.fleet.drained == [f"{ARN}:{LATEST}#{world.fleet.drained[0].rsplit('#')[1]}"]


async def test_an_update_with_another_revision_is_refused(world: World) -> None:
    await world.create()
    error = await refused(
        world, "UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"a.py": ""}), RevisionId="stale"
    )
    assert error.code == "PreconditionFailedException"


async def test_a_dry_run_changes_nothing(world: World) -> None:
    before = await world.create()
    shown = await world("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"a.py": ""}), DryRun=True)
    assert shown["CodeSha256"] != before["CodeSha256"]
    assert await world("GetFunctionConfiguration", FunctionName="f") == before


async def test_code_that_nothing_uses_is_removed_and_used_code_stays(world: World) -> None:
    await world.create()
    await world("PublishVersion", FunctionName="f")
    for text in ("one", "two"):
        await world("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"a.py": text}))
        await world.settle()
    code = world.settings.data_dir / "code"
    assert len(list(code.glob("*.zip"))) == len([path for path in code.iterdir() if path.is_dir()]) == 2
    await world("DeleteFunction", FunctionName="f")
    await world.settle()
    assert [path.name for path in code.iterdir()] == [".boot"]


async def test_code_stays_while_an_invocation_uses_it(world: World) -> None:
    await world.create()
    gate = asyncio.Event()
    seen: list[bool] = []

    async def hold(spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        await gate.wait()
        seen.append((spec.code / "index.py").exists())
        return Outcome(payload=b"null")

    world.fleet.handler = hold
    running = asyncio.create_task(world("Invoke", FunctionName="f"))
    await world.until(lambda: len(world.fleet.runs) == 1)
    await world("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"index.py": "new"}))
    await world.until(lambda: len(world.fleet.drained) == 1)
    # What another function leaves is removed meanwhile.
    await world("CreateFunction", **minimal("g", Code={"ZipFile": zipped({"index.py": "other"})}))
    await world("DeleteFunction", FunctionName="g")
    await world.until(lambda: len(list((world.settings.data_dir / "code").glob("*.zip"))) == 2)
    gate.set()
    await running
    assert seen == [True]
    await world.settle()
    assert len(list((world.settings.data_dir / "code").glob("*.zip"))) == 1


async def test_a_deleted_function_is_gone(world: World) -> None:
    await world.create()
    assert await world("DeleteFunction", FunctionName="f") == {"StatusCode": 204}
    error = await refused(world, "GetFunction", FunctionName="f")
    assert (error.code, error.message) == ("ResourceNotFoundException", f"Function not found: {ARN}")
    error = await refused(world, "DeleteFunction", FunctionName="f")
    assert error.message == f"Function not found: {ARN}"


async def test_latest_and_aliases_are_not_deleted_as_versions(world: World) -> None:
    await world.create()
    error = await refused(world, "DeleteFunction", FunctionName="f", Qualifier="$LATEST")
    assert error.message == "$LATEST version cannot be deleted without deleting the function."
    error = await refused(world, "DeleteFunction", FunctionName="f:alias")
    assert error.message == "Deletion of aliases is not currently supported."


async def test_lists_are_paged(world: World) -> None:
    for name in ("a", "a-b", "c"):
        await world.create(name, Publish=True)
    first = await world("ListFunctions", MaxItems=2)
    second = await world("ListFunctions", MaxItems=2, Marker=first["NextMarker"])
    names = [shown["FunctionName"] for page in (first, second) for shown in page["Functions"]]
    assert sorted(names) == ["a", "a-b", "c"]
    assert "NextMarker" not in second
    assert "State" not in first["Functions"][0]
    everything = await world("ListFunctions", FunctionVersion="ALL")
    assert [shown["Version"] for shown in everything["Functions"]] == ["$LATEST", "1"] * 3


async def test_records_survive_a_restart(world: World) -> None:
    before = await world.create(
        VpcConfig={"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-1"]},
        FileSystemConfigs=[{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/efs"}],
        Tags={"team": "a"},
    )
    await world.restart()
    assert await world("GetFunctionConfiguration", FunctionName="f") == before
    assert (await world("GetFunction", FunctionName="f"))["Tags"] == {"team": "a"}


# -- interfaces ---------------------------------------------------------------------------------------------

VPC = {"SubnetIds": ["subnet-a", "subnet-c"], "SecurityGroupIds": ["sg-1"]}


async def test_functions_of_one_subnet_and_groups_share_an_interface(world: World) -> None:
    await world.create("f", VpcConfig=VPC)
    await world.create("g", VpcConfig={"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-1"]})
    subnets = [interface.subnet for interface in world.network.interfaces.values()]
    assert subnets == ["subnet-a", "subnet-c"]
    await world("DeleteFunction", FunctionName="f")
    await world.settle()
    assert [interface.subnet for interface in world.network.interfaces.values()] == ["subnet-a"]
    await world(
        "UpdateFunctionConfiguration", FunctionName="g", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}
    )
    await world.settle()
    assert world.network.interfaces == {}


async def test_a_function_without_an_address_fails_with_the_reason(world: World) -> None:
    world.network.full.add("subnet-c")
    shown = await world.create("f", VpcConfig=VPC)
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "SubnetOutOfIPAddresses")
    error = await refused(world, "Invoke", FunctionName="f")
    assert error.code == "SubnetIPAddressLimitReachedException"


async def test_an_update_mends_a_failed_function(world: World) -> None:
    world.network.full.add("subnet-c")
    await world.create("f", VpcConfig=VPC)
    subnet = {"SubnetIds": ["subnet-a"], "SecurityGroupIds": ["sg-1"]}
    await world("UpdateFunctionConfiguration", FunctionName="f", VpcConfig=subnet)
    await world.settle()
    shown = await world("GetFunctionConfiguration", FunctionName="f")
    assert (shown["State"], shown["LastUpdateStatus"], "StateReason" in shown) == (
        "Active",
        "Successful",
        False,
    )
    world.network.full.add("subnet-a")
    world.network.interfaces.clear()
    await world("UpdateFunctionConfiguration", FunctionName="f", VpcConfig=VPC)
    await world.settle()
    shown = await world("GetFunctionConfiguration", FunctionName="f")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Failed")
    assert shown["LastUpdateStatusReasonCode"] == "SubnetOutOfIPAddresses"


async def test_until_an_update_has_worked_the_earlier_build_runs(world: World) -> None:
    await world.create("f", Timeout=1)
    await world("Invoke", FunctionName="f")
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=2)
    await world("Invoke", FunctionName="f")
    await world.settle()
    await world("Invoke", FunctionName="f")
    world.network.full |= {"subnet-a", "subnet-c"}
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=3, VpcConfig=VPC)
    await world.settle()
    await world("Invoke", FunctionName="f")
    await world.restart()
    await world.settle()
    await world("Invoke", FunctionName="f")
    assert [spec.timeout_s for spec, _ in world.fleet.runs] == [1, 1, 2, 2, 2]
    assert (await world("GetFunctionConfiguration", FunctionName="f"))["LastUpdateStatus"] == "Failed"
    world.network.full.clear()
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=4)
    await world.settle()
    await world("Invoke", FunctionName="f")
    assert world.fleet.runs[-1][0].timeout_s == 4
    assert len({spec.key for spec, _ in world.fleet.runs}) == 3


async def test_interfaces_are_the_same_after_a_restart(world: World) -> None:
    await world.create("f", VpcConfig=VPC)
    before = dict(world.network.interfaces)
    world.network.interfaces.clear()
    await world.restart()
    await world.settle()
    assert world.network.interfaces == before
