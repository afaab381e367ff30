"""File systems and access points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lambay.deploy.checklist.finding import Finding
from lambay.deploy.checklist.stack import Stack, mapping, shown

# Lambda API Reference, FileSystemConfig.
_ACCESS_POINT = re.compile(
    r"arn:aws[a-zA-Z-]*:elasticfilesystem:[a-z0-9-]+:\d{12}:access-point/fsap-[a-f0-9]{17}"
)


def check(stack: Stack) -> Iterator[Finding]:
    yield from _file_systems(stack)
    yield from _access_points(stack)
    yield from _direct_mounts(stack)


def _file_systems(stack: Stack) -> Iterator[Finding]:
    for each in stack.of_type("AWS::EFS::FileSystem"):
        given = each.properties
        if str(given.get("Encrypted", "")).lower() != "true" and not isinstance(given.get("Encrypted"), dict):
            yield Finding(
                stack.line(each.name),
                "LB201",
                "warning",
                f"{each.name} is not encrypted at rest, which can't be changed once it is made.",
                "Add Encrypted: true.",
            )
        if given.get("PerformanceMode") == "maxIO":
            refused = given.get("ThroughputMode") == "elastic"
            yield Finding(
                stack.line(each.name, "Properties", "PerformanceMode"),
                "LB202",
                "error" if refused else "note",
                f"{each.name} combines maxIO with elastic throughput, which EFS refuses."
                if refused
                else f"{each.name} is maxIO: each operation takes longer, and it can't be changed once it is made.",
                "Take PerformanceMode: generalPurpose unless thousands of clients work in parallel.",
            )
        if "LifecyclePolicy" in given:
            yield Finding(
                stack.line(each.name, "Properties", "LifecyclePolicy"),
                "LB203",
                "warning",
                f"{each.name}: the property is LifecyclePolicies in AWS; LifecyclePolicy is no property there.",
                "Rename it to LifecyclePolicies.",
            )
        elif "LifecyclePolicies" not in given:
            yield Finding(
                stack.line(each.name),
                "LB204",
                "note",
                f"{each.name} has no lifecycle policy: what nobody reads stays in the most expensive class.",
                "Add LifecyclePolicies, such as - TransitionToIA: AFTER_30_DAYS.",
            )


def _access_points(stack: Stack) -> Iterator[Finding]:
    for each in stack.of_type("AWS::EFS::AccessPoint"):
        root = mapping(each.properties.get("RootDirectory"))
        path = root.get("Path", "/")
        if path == "/":
            yield Finding(
                stack.line(each.name, "Properties", "RootDirectory"),
                "LB205",
                "warning",
                f"{each.name} gives away the whole file system: its root directory is /.",
                "Set RootDirectory.Path to a directory of the application's own, with CreationInfo.",
            )
        elif "CreationInfo" not in root:
            yield Finding(
                stack.line(each.name, "Properties", "RootDirectory"),
                "LB206",
                "warning",
                f"{each.name}: {shown(path)} is not made when it is missing, and then every mount fails.",
                "Add RootDirectory.CreationInfo with OwnerUid, OwnerGid and Permissions.",
            )
        yield from _identity(stack, each.name, each.properties, root)


def _identity(stack: Stack, name: str, given: Any, root: Any) -> Iterator[Finding]:
    user = mapping(given.get("PosixUser"))
    if not user:
        yield Finding(
            stack.line(name),
            "LB207",
            "warning",
            f"{name} has no PosixUser: functions act with the identity of their sandbox.",
            "Add PosixUser with the Uid and Gid that own the files.",
        )
        return
    if str(user.get("Uid")) == "0":
        yield Finding(
            stack.line(name, "Properties", "PosixUser"),
            "LB208",
            "warning",
            f"{name} acts as root on the file system.",
            "Take an unprivileged Uid and Gid, such as 1000.",
        )
    made = mapping(root.get("CreationInfo"))
    owner, mode = made.get("OwnerUid"), str(made.get("Permissions", ""))
    if (
        owner is None
        or isinstance(owner, dict)
        or isinstance(user.get("Uid"), dict)
        or str(user.get("Uid")) == "0"
    ):
        return
    group = str(made.get("OwnerGid")) == str(user.get("Gid"))
    digits = mode[-3:]
    if str(owner) != str(user.get("Uid")) and len(digits) == 3 and digits.isdecimal():
        rights = int(digits[1] if group else digits[2])
        if not rights & 2:
            yield Finding(
                stack.line(name, "Properties", "RootDirectory", "CreationInfo"),
                "LB209",
                "warning",
                f"{name}: its root directory is owned by {owner}:{made.get('OwnerGid')} mode {mode}; PosixUser is "
                f"{user.get('Uid')} and can't write there.",
                "Let CreationInfo.OwnerUid be the PosixUser's Uid.",
            )


def _direct_mounts(stack: Stack) -> Iterator[Finding]:
    for function in stack.functions:
        for number, config in enumerate(function.file_systems):
            arn = config.get("Arn")
            if isinstance(arn, str) and not _ACCESS_POINT.fullmatch(arn):
                yield Finding(
                    stack.line(function.name, "Properties", "FileSystemConfigs", number, "Arn"),
                    "LB211",
                    "error",
                    f"{function.name}: {arn} is not the ARN of an access point.",
                    "Give arn:aws:elasticfilesystem:REGION:ACCOUNT:access-point/fsap- and 17 hexadecimal digits.",
                )
            target = stack.referred(arn)
            if target is not None and target.type == "AWS::EFS::FileSystem":
                yield Finding(
                    stack.line(function.name, "Properties", "FileSystemConfigs", number),
                    "LB210",
                    "error",
                    f"{function.name} names the file system {target.name} itself: Lambda mounts access points only.",
                    "Give Arn: !GetAtt of an AWS::EFS::AccessPoint of that file system.",
                )
