from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.efs import Limits
from lambay.efs.paging import page_of
from tests.efs.surroundings import ACCOUNT, REGION, House, call, opened

POSIX = {"Uid": 1001, "Gid": 1002, "SecondaryGids": [5, 6]}
ROOT = {"Path": "/models", "CreationInfo": {"OwnerUid": 1001, "OwnerGid": 1002, "Permissions": "0750"}}


async def test_an_access_point_is_as_it_was_asked_for(house: House) -> None:
    identifier = await house.make()
    created = await house.make_access_point(
        identifier,
        ClientToken="t",
        PosixUser=POSIX,
        RootDirectory=ROOT,
        Tags=[{"Key": "Name", "Value": "models"}],
    )
    assert created == {
        "ClientToken": "t",
        "Name": "models",
        "Tags": [{"Key": "Name", "Value": "models"}],
        "AccessPointId": created["AccessPointId"],
        "AccessPointArn": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/"
        + created["AccessPointId"],
        "FileSystemId": identifier,
        "PosixUser": POSIX,
        "RootDirectory": ROOT,
        "OwnerId": ACCOUNT,
        "LifeCycleState": "creating",
    }
    for name in (created["AccessPointId"], created["AccessPointArn"]):
        (described,) = (await _describe(house, AccessPointId=name))["AccessPoints"]
        assert described == created | {"LifeCycleState": "available"}


async def test_a_bare_access_point_is_the_root_without_an_identity(house: House) -> None:
    created = await house.make_access_point(await house.make())
    assert created["RootDirectory"] == {"Path": "/"}
    assert "PosixUser" not in created
    assert "Name" not in created


async def test_the_same_token_finds_the_existing_access_point(house: House) -> None:
    identifier = await house.make()
    created = await house.make_access_point(identifier, ClientToken="t")
    with pytest.raises(AWSError, match="AccessPointAlreadyExists") as refused:
        await house.make_access_point(identifier, ClientToken="t")
    assert refused.value.members["AccessPointId"] == created["AccessPointId"]
    await house.efs.delete_access_point(call(), {"AccessPointId": created["AccessPointArn"]})
    await house.make_access_point(identifier, ClientToken="t")


@pytest.mark.parametrize("path", ["models", "/a//b", "/a/../b", "/a/./b", "/1/2/3/4/5", "//"])
async def test_paths_that_are_no_root_directory(house: House, path: str) -> None:
    with pytest.raises(AWSError, match="BadRequest"):
        await house.make_access_point(await house.make(), RootDirectory={"Path": path})


async def test_the_limit_of_access_points(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(access_points=2)) as house:
        identifier, other = await house.make(), await house.make()
        first = await house.make_access_point(identifier)
        await house.make_access_point(identifier)
        with pytest.raises(AWSError, match="AccessPointLimitExceeded"):
            await house.make_access_point(identifier)
        await house.make_access_point(other)
        await house.efs.delete_access_point(call(), {"AccessPointId": first["AccessPointId"]})
        await house.make_access_point(identifier)


async def test_what_does_not_exist_is_not_found(house: House) -> None:
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await house.make_access_point("fs-00000000")
    with pytest.raises(AWSError, match="AccessPointNotFound"):
        await _describe(house, AccessPointId="fsap-00000000")
    with pytest.raises(AWSError, match="AccessPointNotFound"):
        await house.efs.delete_access_point(call(), {"AccessPointId": "fsap-00000000"})
    with pytest.raises(AWSError, match="FileSystemNotFound"):
        await _describe(house, FileSystemId="fs-00000000")


async def test_access_points_are_listed_by_file_system_and_by_page(house: House) -> None:
    identifier, other = await house.make(), await house.make()
    made = {(await house.make_access_point(identifier))["AccessPointId"] for _ in range(5)}
    await house.make_access_point(other)
    seen: list[str] = []
    asked: dict[str, Any] = {"FileSystemId": identifier, "MaxResults": 2}
    while True:
        output = await _describe(house, **asked)
        seen += [each["AccessPointId"] for each in output["AccessPoints"]]
        if "NextToken" not in output:
            break
        asked["NextToken"] = output["NextToken"]
    assert (set(seen), len(seen)) == (made, 5)
    assert len((await _describe(house))["AccessPoints"]) == 6
    with pytest.raises(AWSError, match="mutually exclusive"):
        await _describe(house, FileSystemId=identifier, AccessPointId=seen[0])


@given(st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)), st.integers(1, 10))
def test_pages_partition_any_list(items: set[str], size: int) -> None:
    seen: list[str] = []
    marker: str | None = None
    while True:
        page, marker = page_of(sorted(items), str, marker, size)
        seen += page
        assert len(page) <= size
        if marker is None:
            break
    assert sorted(seen) == sorted(items)


async def _describe(house: House, **given: Any) -> dict[str, Any]:
    return await house.efs.describe_access_points(call(), given)
