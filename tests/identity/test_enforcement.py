"""boto3 against the real front door with IAM enforced: users, groups, roles, boundaries and sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import ACCOUNT
from .test_clients import Server, code_of, trust

GROUPS = f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path, iam="enforce")
    await server.start()
    yield server
    await server.stop()


def policy(action: Any, resource: Any = "*", effect: str = "Allow") -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def user(server: Server, name: str = "ann") -> Any:
    """Makes a user; clients of a service come from what is returned."""
    iam = server.client("iam")
    iam.create_user(UserName=name, Tags=[{"Key": "team", "Value": "blue"}])
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return lambda service: server.client(service, key["AccessKeyId"], key["SecretAccessKey"])


def refused(call: Any, **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**given)
    assert code_of(caught)[0] in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
    return str(caught.value.response["Error"]["Message"])


async def test_a_user_without_policies_may_nothing_but_ask_who_it_is(server):
    def act():
        ann = user(server)
        assert ann("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann"
        assert refused(ann("logs").create_log_group, logGroupName="/a") == (
            f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: logs:CreateLogGroup on "
            f"resource: {GROUPS}:/a:log-stream: because no identity-based policy allows the "
            "logs:CreateLogGroup action"
        )
        refused(ann("iam").list_users)
        refused(ann("s3").list_buckets)
        assert "Encoded authorization failure message" in refused(ann("ec2").describe_vpcs)
        assert server.client("logs").describe_log_groups()["logGroups"] == []

    await asyncio.to_thread(act)


async def test_policies_of_users_and_groups_count_as_soon_as_they_are_attached(server):
    def act():
        iam = server.client("iam")
        ann = user(server)
        iam.put_user_policy(
            UserName="ann", PolicyName="own", PolicyDocument=policy("logs:*", f"{GROUPS}:/a/*:*")
        )
        ann("logs").create_log_group(logGroupName="/a/b")
        refused(ann("logs").create_log_group, logGroupName="/b")
        iam.create_group(GroupName="writers")
        iam.put_group_policy(
            GroupName="writers", PolicyName="more", PolicyDocument=policy("logs:CreateLogGroup")
        )
        iam.add_user_to_group(GroupName="writers", UserName="ann")
        ann("logs").create_log_group(logGroupName="/b")
        iam.attach_group_policy(GroupName="writers", PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
        assert ann("iam").list_users()["Users"]
        iam.remove_user_from_group(GroupName="writers", UserName="ann")
        refused(ann("logs").create_log_group, logGroupName="/c")
        refused(ann("iam").list_users)
        iam.delete_user_policy(UserName="ann", PolicyName="own")
        refused(ann("logs").create_log_group, logGroupName="/a/c")

    await asyncio.to_thread(act)


async def test_a_managed_policys_default_version_counts(server):
    def act():
        iam = server.client("iam")
        ann = user(server)
        arn = iam.create_policy(PolicyName="p", PolicyDocument=policy("logs:*"))["Policy"]["Arn"]
        iam.attach_user_policy(UserName="ann", PolicyArn=arn)
        ann("logs").create_log_group(logGroupName="/a")
        version = iam.create_policy_version(
            PolicyArn=arn, PolicyDocument=policy("logs:*", effect="Deny"), SetAsDefault=False
        )["PolicyVersion"]["VersionId"]
        ann("logs").create_log_group(logGroupName="/b")
        iam.set_default_policy_version(PolicyArn=arn, VersionId=version)
        message = refused(ann("logs").create_log_group, logGroupName="/c")
        assert message.endswith("with an explicit deny in an identity-based policy")
        iam.detach_user_policy(UserName="ann", PolicyArn=arn)
        assert "no identity-based policy" in refused(ann("logs").create_log_group, logGroupName="/d")

    await asyncio.to_thread(act)


async def test_a_role_its_boundary_and_its_sessions(server):
    def act():
        iam = server.client("iam")
        limit = iam.create_policy(PolicyName="limit", PolicyDocument=policy("logs:*"))["Policy"]["Arn"]
        role = iam.create_role(
            RoleName="r", AssumeRolePolicyDocument=trust(), PermissionsBoundary=limit, Path="/team/"
        )["Role"]["Arn"]
        iam.put_role_policy(RoleName="r", PolicyName="own", PolicyDocument=policy("*"))

        def session(by: Any = None, **passed: Any) -> Any:
            sts = (by or server.client)("sts")
            given = sts.assume_role(RoleArn=role, RoleSessionName="me", **passed)["Credentials"]
            return lambda service: server.client_of(service, given)

        session()("logs").create_log_group(logGroupName="/a")
        assert "because no permissions boundary allows" in refused(session()("iam").list_users)
        narrow = session(Policy=policy("logs:Describe*"))
        assert narrow("logs").describe_log_groups()["logGroups"]
        assert "because no session policy allows" in refused(
            narrow("logs").create_log_group, logGroupName="/b"
        )
        iam.delete_role_permissions_boundary(RoleName="r")
        assert session()("iam").list_roles()["Roles"]

        ann = user(server)
        refused(ann("sts").assume_role, RoleArn=role, RoleSessionName="me")
        iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=policy("sts:AssumeRole", role))
        session(ann)("logs").create_log_group(logGroupName="/c")

    await asyncio.to_thread(act)


async def test_objects_are_permitted_one_by_one(server):
    def act():
        root = server.client("s3")
        root.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        root.put_object(Bucket="bucket", Key="ann/x", Body=b"x")
        root.put_object(Bucket="bucket", Key="bob/x", Body=b"x")
        ann = user(server)
        server.client("iam").put_user_policy(
            UserName="ann",
            PolicyName="own",
            PolicyDocument=policy("s3:GetObject", "arn:aws:s3:::bucket/${aws:username}/*"),
        )
        assert ann("s3").get_object(Bucket="bucket", Key="ann/x")["Body"].read() == b"x"
        refused(ann("s3").get_object, Bucket="bucket", Key="bob/x")
        refused(ann("s3").put_object, Bucket="bucket", Key="ann/x", Body=b"y")

    await asyncio.to_thread(act)


async def test_tags_of_the_user_count(server):
    def act():
        condition = {"StringEquals": {"aws:PrincipalTag/team": "blue"}}
        document = json.loads(policy("logs:*"))
        document["Statement"][0]["Condition"] = condition
        ann = user(server)
        iam = server.client("iam")
        iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=json.dumps(document))
        ann("logs").create_log_group(logGroupName="/a")
        iam.tag_user(UserName="ann", Tags=[{"Key": "team", "Value": "red"}])
        refused(ann("logs").create_log_group, logGroupName="/b")

    await asyncio.to_thread(act)
