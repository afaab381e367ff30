"""AWS::IAM::*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambay.aws import AWSError
from lambay.deploy.types.base import (
    At,
    Made,
    Properties,
    ResourceType,
    as_list,
    changed,
    gone,
    tag_changes,
    tag_map,
    take,
)
from lambay.deploy.types.ec2 import as_json as to_json


def as_json(document: Any) -> str | None:
    """A policy's text. Without a Version, as SAM's policy templates are, it is taken for one of today's."""
    if isinstance(document, dict) and "Version" not in document:
        document = {"Version": "2012-10-17", **document}
    return to_json(document)


class Holder(ResourceType):
    """A user, group or role: something that policies are attached to. `kind` is IAM's word for it."""

    kind: str

    def attributes_of(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {"Arn": described["Arn"]}

    async def settle(self, at: At, name: str, properties: Properties, before: Properties) -> None:
        """The attached and the inline policies, from `before` to `properties`."""
        who = {f"{self.kind}Name": name}
        old, new = set(as_list(before.get("ManagedPolicyArns"))), as_list(properties.get("ManagedPolicyArns"))
        for arn in new:
            if arn not in old:
                await at.call("iam", f"Attach{self.kind}Policy", **who, PolicyArn=arn)
        for arn in sorted(old - set(new)):
            await gone(at.call("iam", f"Detach{self.kind}Policy", **who, PolicyArn=arn))
        inline = {
            policy["PolicyName"]: policy["PolicyDocument"] for policy in as_list(properties.get("Policies"))
        }
        earlier = {
            policy["PolicyName"]: policy["PolicyDocument"] for policy in as_list(before.get("Policies"))
        }
        for policy, document in inline.items():
            if earlier.get(policy) != document:
                text = as_json(document)
                await at.call("iam", f"Put{self.kind}Policy", **who, PolicyName=policy, PolicyDocument=text)
        for policy in sorted(set(earlier) - set(inline)):
            await gone(at.call("iam", f"Delete{self.kind}Policy", **who, PolicyName=policy))
        if self.kind != "Group" and changed(before, properties, "PermissionsBoundary"):
            boundary = properties.get("PermissionsBoundary")
            if boundary is not None:
                operation = f"Put{self.kind}PermissionsBoundary"
                await at.call("iam", operation, **who, PermissionsBoundary=boundary)
            elif before.get("PermissionsBoundary"):
                await gone(at.call("iam", f"Delete{self.kind}PermissionsBoundary", **who))
        if before and self.kind != "Group":
            put, removed = tag_changes(tag_map(before.get("Tags")), tag_map(properties.get("Tags")))
            if put:
                tags = [{"Key": key, "Value": value} for key, value in put.items()]
                await at.call("iam", f"Tag{self.kind}", **who, Tags=tags)
            if removed:
                await at.call("iam", f"Untag{self.kind}", **who, TagKeys=removed)

    async def described(self, at: At, name: str) -> Made:
        answer = await at.call("iam", f"Get{self.kind}", **{f"{self.kind}Name": name})
        return Made(name, self.attributes_of(answer[self.kind]))

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """With the policies that CloudFormation attached; those of others keep it, as in AWS."""
        who = {f"{self.kind}Name": id}
        for policy in as_list(properties.get("Policies")):
            await gone(at.call("iam", f"Delete{self.kind}Policy", **who, PolicyName=policy["PolicyName"]))
        for arn in as_list(properties.get("ManagedPolicyArns")):
            await gone(at.call("iam", f"Detach{self.kind}Policy", **who, PolicyArn=arn))
        await self.empty(at, id)
        await gone(at.call("iam", f"Delete{self.kind}", **who))

    async def empty(self, at: At, id: str) -> None:
        """What else keeps it from being deleted."""

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get(f"{self.kind}Name") or at.name(64)]


class Role(Holder):
    name = "AWS::IAM::Role"
    kind = "Role"

    def attributes_of(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {"Arn": described["Arn"], "RoleId": described["RoleId"]}

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("RoleName") or at.name(64)
        await at.call(
            "iam",
            "CreateRole",
            RoleName=name,
            AssumeRolePolicyDocument=as_json(properties["AssumeRolePolicyDocument"]),
            **take(properties, "Description", "MaxSessionDuration", "Path", "PermissionsBoundary", "Tags"),
        )
        await self.settle(at, name, properties, take(properties, "PermissionsBoundary"))
        return await self.described(at, name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        if changed(before, properties, "AssumeRolePolicyDocument"):
            document = as_json(properties["AssumeRolePolicyDocument"])
            await at.call("iam", "UpdateAssumeRolePolicy", RoleName=id, PolicyDocument=document)
        if changed(before, properties, "Description", "MaxSessionDuration"):
            seconds = properties.get("MaxSessionDuration", 3600)
            text = properties.get("Description", "")
            await at.call("iam", "UpdateRole", RoleName=id, Description=text, MaxSessionDuration=seconds)
        await self.settle(at, id, properties, before)
        return await self.described(at, id)


class User(Holder):
    name = "AWS::IAM::User"
    kind = "User"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("UserName") or at.name(64)
        await at.call(
            "iam", "CreateUser", UserName=name, **take(properties, "Path", "PermissionsBoundary", "Tags")
        )
        if "LoginProfile" in properties:
            await at.call("iam", "CreateLoginProfile", UserName=name, **properties["LoginProfile"])
        for group in as_list(properties.get("Groups")):
            await at.call("iam", "AddUserToGroup", GroupName=group, UserName=name)
        await self.settle(at, name, properties, take(properties, "PermissionsBoundary"))
        return await self.described(at, name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        old, new = set(as_list(before.get("Groups"))), set(as_list(properties.get("Groups")))
        for group in sorted(new - old):
            await at.call("iam", "AddUserToGroup", GroupName=group, UserName=id)
        for group in sorted(old - new):
            await gone(at.call("iam", "RemoveUserFromGroup", GroupName=group, UserName=id))
        await self.settle(at, id, properties, before)
        return await self.described(at, id)

    async def empty(self, at: At, id: str) -> None:
        await gone(at.call("iam", "DeleteLoginProfile", UserName=id))
        try:
            groups = (await at.call("iam", "ListGroupsForUser", UserName=id))["Groups"]
        except AWSError:
            return
        for group in groups:
            await gone(at.call("iam", "RemoveUserFromGroup", GroupName=group["GroupName"], UserName=id))


class Group(Holder):
    name = "AWS::IAM::Group"
    kind = "Group"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("GroupName") or at.name(128)
        await at.call("iam", "CreateGroup", GroupName=name, **take(properties, "Path"))
        await self.settle(at, name, properties, {})
        return await self.described(at, name)

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self.settle(at, id, properties, before)
        return await self.described(at, id)

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("GroupName") or at.name(128)]


class Policy(ResourceType):
    """An inline policy put into roles, users and groups."""

    name = "AWS::IAM::Policy"

    async def create(self, at: At, properties: Properties) -> Made:
        await self._put(at, properties, {})
        id = at.name(128)
        return Made(id, {"Id": id})

    async def _put(self, at: At, properties: Properties, before: Properties) -> None:
        name, document = properties["PolicyName"], as_json(properties["PolicyDocument"])
        for kind in ("Role", "User", "Group"):
            new, old = as_list(properties.get(f"{kind}s")), as_list(before.get(f"{kind}s"))
            for holder in new:
                await at.call(
                    "iam",
                    f"Put{kind}Policy",
                    **{f"{kind}Name": holder},
                    PolicyName=name,
                    PolicyDocument=document,
                )
            renamed = before.get("PolicyName") not in (None, name)
            for holder in old:
                if holder not in new or renamed:
                    await _take_away(at, kind, holder, before["PolicyName"])

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._put(at, properties, before)
        return Made(id, {"Id": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        for kind in ("Role", "User", "Group"):
            for holder in as_list(properties.get(f"{kind}s")):
                await _take_away(at, kind, holder, properties["PolicyName"])

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [at.name(128)]


class HolderPolicy(ResourceType):
    """AWS::IAM::RolePolicy and its like: one inline policy of one holder."""

    kind: str

    async def create(self, at: At, properties: Properties) -> Made:
        return await self.update(
            at, f"{properties['PolicyName']}|{properties[f'{self.kind}Name']}", properties, {}
        )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        given = {**properties, "PolicyDocument": as_json(properties.get("PolicyDocument", {}))}
        await at.call("iam", f"Put{self.kind}Policy", **given)
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await _take_away(at, self.kind, properties[f"{self.kind}Name"], properties["PolicyName"])


class RolePolicy(HolderPolicy):
    name = "AWS::IAM::RolePolicy"
    kind = "Role"


class UserPolicy(HolderPolicy):
    name = "AWS::IAM::UserPolicy"
    kind = "User"


class GroupPolicy(HolderPolicy):
    name = "AWS::IAM::GroupPolicy"
    kind = "Group"


async def _take_away(at: At, kind: str, holder: str, policy: str) -> None:
    await gone(at.call("iam", f"Delete{kind}Policy", **{f"{kind}Name": holder}, PolicyName=policy))


class ManagedPolicy(ResourceType):
    name = "AWS::IAM::ManagedPolicy"

    async def create(self, at: At, properties: Properties) -> Made:
        made = await at.call(
            "iam",
            "CreatePolicy",
            PolicyName=properties.get("ManagedPolicyName") or at.name(128),
            PolicyDocument=as_json(properties["PolicyDocument"]),
            **take(properties, "Description", "Path", "Tags"),
        )
        arn = made["Policy"]["Arn"]
        await self._attach(at, arn, properties, {})
        return Made(arn, {"PolicyArn": arn, "PolicyId": made["Policy"]["PolicyId"]})

    async def _attach(self, at: At, arn: str, properties: Properties, before: Properties) -> None:
        for kind in ("Role", "User", "Group"):
            new, old = as_list(properties.get(f"{kind}s")), as_list(before.get(f"{kind}s"))
            for holder in new:
                if holder not in old:
                    await at.call("iam", f"Attach{kind}Policy", **{f"{kind}Name": holder}, PolicyArn=arn)
            for holder in old:
                if holder not in new:
                    await gone(
                        at.call("iam", f"Detach{kind}Policy", **{f"{kind}Name": holder}, PolicyArn=arn)
                    )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        if changed(before, properties, "PolicyDocument"):
            await self._drop_versions(at, id)
            document = as_json(properties["PolicyDocument"])
            await at.call(
                "iam", "CreatePolicyVersion", PolicyArn=id, PolicyDocument=document, SetAsDefault=True
            )
        await self._attach(at, id, properties, before)
        described = (await at.call("iam", "GetPolicy", PolicyArn=id))["Policy"]
        return Made(id, {"PolicyArn": id, "PolicyId": described["PolicyId"]})

    async def _drop_versions(self, at: At, arn: str) -> None:
        """All but the default one: five are the most that a policy has."""
        for version in (await at.call("iam", "ListPolicyVersions", PolicyArn=arn))["Versions"]:
            if not version["IsDefaultVersion"]:
                await gone(
                    at.call("iam", "DeletePolicyVersion", PolicyArn=arn, VersionId=version["VersionId"])
                )

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        async def whole() -> None:
            await self._attach(at, id, {}, properties)
            await self._drop_versions(at, id)
            await at.call("iam", "DeletePolicy", PolicyArn=id)

        await gone(whole())

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        name = properties.get("ManagedPolicyName") or at.name(128)
        path = properties.get("Path", "/")
        return [f"arn:aws:iam::{at.account}:policy{path}{name}"]


class InstanceProfile(ResourceType):
    name = "AWS::IAM::InstanceProfile"

    async def create(self, at: At, properties: Properties) -> Made:
        name = properties.get("InstanceProfileName") or at.name(128)
        made = await at.call(
            "iam", "CreateInstanceProfile", InstanceProfileName=name, **take(properties, "Path")
        )
        for role in as_list(properties.get("Roles")):
            await at.call("iam", "AddRoleToInstanceProfile", InstanceProfileName=name, RoleName=role)
        return Made(name, {"Arn": made["InstanceProfile"]["Arn"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        for role in as_list(before.get("Roles")):
            await gone(at.call("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=id, RoleName=role))
        for role in as_list(properties.get("Roles")):
            await at.call("iam", "AddRoleToInstanceProfile", InstanceProfileName=id, RoleName=role)
        made = await at.call("iam", "GetInstanceProfile", InstanceProfileName=id)
        return Made(id, {"Arn": made["InstanceProfile"]["Arn"]})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        for role in as_list(properties.get("Roles")):
            await gone(at.call("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=id, RoleName=role))
        await gone(at.call("iam", "DeleteInstanceProfile", InstanceProfileName=id))

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        return [properties.get("InstanceProfileName") or at.name(128)]


class AccessKey(ResourceType):
    name = "AWS::IAM::AccessKey"

    async def create(self, at: At, properties: Properties) -> Made:
        made = (await at.call("iam", "CreateAccessKey", UserName=properties["UserName"]))["AccessKey"]
        id = made["AccessKeyId"]
        if properties.get("Status", "Active") != "Active":
            await self._set(at, id, properties)
        return Made(id, {"Id": id, "SecretAccessKey": made["SecretAccessKey"]})

    async def _set(self, at: At, id: str, properties: Properties) -> None:
        status = properties.get("Status", "Active")
        await at.call(
            "iam", "UpdateAccessKey", UserName=properties["UserName"], AccessKeyId=id, Status=status
        )

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        await self._set(at, id, properties)
        return Made(id)

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("iam", "DeleteAccessKey", UserName=properties["UserName"], AccessKeyId=id))


class ServiceLinkedRole(ResourceType):
    name = "AWS::IAM::ServiceLinkedRole"

    async def create(self, at: At, properties: Properties) -> Made:
        made = (await at.call("iam", "CreateServiceLinkedRole", **properties))["Role"]
        return Made(made["RoleName"], {"RoleName": made["RoleName"]})

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        described = properties.get("Description", "")
        await at.call("iam", "UpdateRole", RoleName=id, Description=described)
        return Made(id, {"RoleName": id})

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        await gone(at.call("iam", "DeleteRole", RoleName=id))


TYPES: tuple[ResourceType, ...] = (
    Role(),
    User(),
    Group(),
    Policy(),
    RolePolicy(),
    UserPolicy(),
    GroupPolicy(),
    ManagedPolicy(),
    InstanceProfile(),
    AccessKey(),
    ServiceLinkedRole(),
)
