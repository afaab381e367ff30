"""Permissions boundaries: of users, which moto's IAM does not have, and of policies that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from .clients import connect, opened

READING = "arn:aws:iam::aws:policy/ReadOnlyAccess"
WRITING = "arn:aws:iam::aws:policy/PowerUserAccess"


def boundary(arn: str) -> dict[str, str]:
    return {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": arn}


async def test_a_user_has_the_boundary_that_was_put_last_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        made = await iam.create_user(UserName="ann", PermissionsBoundary=READING)
        assert made["User"]["PermissionsBoundary"] == boundary(READING)
        await iam.create_user(UserName="ben")
        await iam.put_user_permissions_boundary(UserName="ann", PermissionsBoundary=WRITING)
        await iam.put_user_permissions_boundary(UserName="ben", PermissionsBoundary=READING)
        await iam.delete_user_permissions_boundary(UserName="ben")
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        assert (await iam.get_user(UserName="ann"))["User"]["PermissionsBoundary"] == boundary(WRITING)
        assert "PermissionsBoundary" not in (await iam.get_user(UserName="ben"))["User"]


async def test_a_boundary_is_a_policy_that_exists(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        nothing = "arn:aws:iam::111122223333:policy/nothing"
        with pytest.raises(ClientError, match=f"NoSuchEntity.*{nothing} does not exist or is not attachable"):
            await iam.create_user(UserName="ann", PermissionsBoundary=nothing)
        with pytest.raises(ClientError, match=r"NoSuchEntity.*ann"):
            await iam.get_user(UserName="ann")


async def test_a_role_s_boundary_is_a_policy_that_exists(tmp_path: Path) -> None:
    async with opened(tmp_path) as neighbours:
        iam = connect(neighbours, "iam")
        nothing = "arn:aws:iam::111122223333:policy/nothing"
        refusal = f"NoSuchEntity.*Scope ARN: {nothing} does not exist or is not attachable"
        role = {"RoleName": "worker", "AssumeRolePolicyDocument": "{}"}
        with pytest.raises(ClientError, match=refusal):
            await iam.create_role(**role, PermissionsBoundary=nothing)
        with pytest.raises(ClientError, match=r"NoSuchEntity.*worker"):
            await iam.get_role(RoleName="worker")
        made = await iam.create_role(**role, PermissionsBoundary=READING)
        assert made["Role"]["PermissionsBoundary"] == boundary(READING)
        with pytest.raises(ClientError, match=refusal):
            await iam.put_role_permissions_boundary(RoleName="worker", PermissionsBoundary=nothing)
        await iam.put_role_permissions_boundary(RoleName="worker", PermissionsBoundary=WRITING)
    async with opened(tmp_path) as neighbours:
        kept = await connect(neighbours, "iam").get_role(RoleName="worker")
        assert kept["Role"]["PermissionsBoundary"] == boundary(WRITING)
