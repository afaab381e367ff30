"""Published versions and aliases."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.aws import AWSError

from .conftest import ACCOUNT, REGION, World, minimal, zipped

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


async def refused(world: World, operation: str, **input: Any) -> AWSError:
    with pytest.raises(AWSError) as caught:
        await world(operation, FunctionName="f", **input)
    return caught.value


@pytest.fixture
async def two(world: World) -> World:
    """A function with the versions 1 and 2."""
    await world.create()
    await world("PublishVersion", FunctionName="f", Description="first")
    await world("UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
    await world.settle()
    await world("PublishVersion", FunctionName="f")
    return world


async def test_a_version_is_an_immutable_copy(two: World) -> None:
    first = await two("GetFunctionConfiguration", FunctionName="f:1")
    second = await two("GetFunctionConfiguration", FunctionName="f:2")
    assert (first["Timeout"], first["Description"], first["FunctionArn"]) == (3, "first", f"{ARN}:1")
    assert (second["Timeout"], second["State"]) == (9, "Active")
    listed = await two("ListVersionsByFunction", FunctionName="f")
    assert [version["FunctionArn"] for version in listed["Versions"]] == [
        f"{ARN}:$LATEST",
        f"{ARN}:1",
        f"{ARN}:2",
    ]


async def test_publishing_without_a_change_gives_the_same_version(two: World) -> None:
    assert (await two("PublishVersion", FunctionName="f"))["Version"] == "2"
    await two("UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
    await two.settle()
    assert (await two("PublishVersion", FunctionName="f"))["Version"] == "2"
    await two("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"a.py": ""}))
    await two.settle()
    assert (await two("PublishVersion", FunctionName="f"))["Version"] == "3"


async def test_version_numbers_are_not_used_twice(two: World) -> None:
    await two("DeleteFunction", FunctionName="f", Qualifier="2")
    assert (await two("PublishVersion", FunctionName="f"))["Version"] == "3"


async def test_a_version_published_with_the_function_becomes_active_with_it(world: World) -> None:
    created = await world("CreateFunction", **minimal(Publish=True))
    assert (created["Version"], created["FunctionArn"], created["State"]) == ("1", ARN, "Pending")
    await world.settle()
    shown = await world("GetFunctionConfiguration", FunctionName="f:1")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")


async def test_a_version_published_with_an_update_is_pending_until_it_is_done(world: World) -> None:
    await world.create()
    updated = await world("UpdateFunctionCode", FunctionName="f", ZipFile=zipped({"a.py": ""}), Publish=True)
    assert (updated["Version"], updated["FunctionArn"], updated["State"]) == ("1", f"{ARN}:1", "Pending")
    assert (await world("GetFunctionConfiguration", FunctionName="f"))["LastUpdateStatus"] == "InProgress"
    await world.settle()
    assert (await world("GetFunctionConfiguration", FunctionName="f:1"))["State"] == "Active"


async def test_publishing_checks_the_hash_and_the_revision(world: World) -> None:
    shown = await world.create()
    error = await refused(world, "PublishVersion", CodeSha256="other")
    assert error.message == (
        f"CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({shown['CodeSha256']}). "
        "Please try again with the CodeSHA256 in $LATEST."
    )
    error = await refused(world, "PublishVersion", RevisionId="other")
    assert error.code == "PreconditionFailedException"
    published = await world(
        "PublishVersion", FunctionName="f", CodeSha256=shown["CodeSha256"], RevisionId=shown["RevisionId"]
    )
    assert published["Version"] == "1"


async def test_an_alias_is_made_moved_and_deleted(two: World) -> None:
    made = await two("CreateAlias", FunctionName="f", Name="live", FunctionVersion="1")
    assert (made["AliasArn"], made["Description"]) == (f"{ARN}:live", "")
    shown = await two("GetFunctionConfiguration", FunctionName="f", Qualifier="live")
    assert (shown["Version"], shown["FunctionArn"]) == ("1", f"{ARN}:live")
    moved = await two(
        "UpdateAlias", FunctionName="f", Name="live", FunctionVersion="2", RevisionId=made["RevisionId"]
    )
    assert moved["FunctionVersion"] == "2"
    assert moved["RevisionId"] != made["RevisionId"]
    error = await refused(two, "UpdateAlias", Name="live", RevisionId=made["RevisionId"])
    assert error.code == "PreconditionFailedException"
    error = await refused(two, "DeleteFunction", Qualifier="2")
    assert error.message == "Unable to delete version because the following aliases reference it: [live]"
    listed = await two("ListAliases", FunctionName="f", FunctionVersion="2")
    assert [alias["Name"] for alias in listed["Aliases"]] == ["live"]
    assert await two("DeleteAlias", FunctionName="f", Name="live") == {}
    assert await two("DeleteAlias", FunctionName="f", Name="live") == {}
    error = await refused(two, "GetAlias", Name="live")
    assert error.message == f"Cannot find alias arn: {ARN}:live"


@pytest.mark.parametrize(
    ("input", "code", "text"),
    [
        ({"FunctionVersion": "9"}, "ResourceNotFoundException", f"Function not found: {ARN}:9"),
        ({"Name": "live"}, "ResourceConflictException", f"Alias already exists: {ARN}:live"),
        ({"Name": "1"}, "ValidationException", "(?!^[0-9]+$)"),
        (
            {"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}},
            "InvalidParameterValueException",
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}}},
            "InvalidParameterValueException",
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            {"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}},
            "InvalidParameterValueException",
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
    ],
)
async def test_aliases_that_cannot_be(two: World, input: dict[str, Any], code: str, text: str) -> None:
    await two("CreateAlias", FunctionName="f", Name="live", FunctionVersion="1")
    error = await refused(two, "CreateAlias", **{"Name": "new", "FunctionVersion": "1", **input})
    assert (error.code, text in error.message) == (code, True), error.message
