"""Subnets, zones and port 2049, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lambay.deploy.checklist.finding import Finding
from lambay.deploy.checklist.stack import Function, Resource, Stack, mapping, same, shown

NFS = 2049
_GROUP = "AWS::EC2::SecurityGroup"


def check(stack: Stack) -> Iterator[Finding]:
    for function in stack.functions:
        if not function.file_systems:
            continue
        if not function.vpc:
            yield Finding(
                stack.line(function.name, "Properties", "FileSystemConfigs"),
                "LB101",
                "error",
                f"{function.name} mounts a file system and has no VpcConfig: it can reach no mount target.",
                "Give it VpcConfig with SubnetIds and SecurityGroupIds in the file system's VPC.",
            )
            continue
        for config in function.file_systems:
            _, file_system = stack.file_system_of(config.get("Arn"))
            if file_system is None:
                continue
            targets = stack.mount_targets_of(file_system)
            yield from _zones(stack, function, file_system, targets)
            yield from _creation_order(stack, function, targets)
            for target in targets:
                yield from _port(stack, function, target)
    yield from _open_to_all(stack)
    yield from _mutual_groups(stack)


def _zones(stack: Stack, function: Function, file_system: Any, targets: list[Resource]) -> Iterator[Finding]:
    served = [target.properties.get("SubnetId") for target in targets]
    zones = [zone for zone in map(stack.zone_of, served) if zone is not None]
    for number, subnet in enumerate(function.subnets or []):
        zone = stack.zone_of(subnet)
        if any(same(subnet, other) for other in served) or any(same(zone, other) for other in zones):
            continue
        if zone is None and any(stack.referred(other) is None for other in served):
            continue
        yield Finding(
            stack.line(function.name, "Properties", "VpcConfig", "SubnetIds", number),
            "LB102",
            "error",
            f"{function.name} runs in {shown(subnet)}, in whose Availability Zone {shown(file_system)} has no mount "
            "target: CreateFunction will refuse it.",
            f"Add an AWS::EFS::MountTarget with FileSystemId {shown(file_system)} and SubnetId {shown(subnet)}.",
        )


def _creation_order(stack: Stack, function: Function, targets: list[Resource]) -> Iterator[Finding]:
    missing = [target.name for target in targets if target.name not in function.resource.depends_on]
    if missing:
        yield Finding(
            stack.line(function.name),
            "LB103",
            "warning",
            f"{function.name} may be made before {', '.join(missing)}, and then fails to create.",
            f"Add DependsOn: [{', '.join(target.name for target in targets)}] to {function.name}.",
        )


def _port(stack: Stack, function: Function, target: Resource) -> Iterator[Finding]:
    """The way from a function's groups to a mount target's, as far as both are made here."""
    theirs = target.properties.get("SecurityGroups")
    ours = function.groups
    if not isinstance(theirs, list) or ours is None:
        return
    groups = [(given, stack.referred(given)) for given in theirs]
    own = [(given, stack.referred(given)) for given in ours]
    if any(group is None or group.type != _GROUP for _, group in (*groups, *own)):
        return
    inbound = [
        rule
        for given, group in groups
        if group
        for rule in _rules(stack, given, group, "SecurityGroupIngress")
    ]
    if not any(_lets(rule, "SourceSecurityGroupId", ours) for rule in inbound):
        first, source = shown(theirs[0]), shown(ours[0])
        yield Finding(
            stack.line(target.name, "Properties", "SecurityGroups"),
            "LB104",
            "error",
            f"{first} of mount target {target.name} has no inbound rule for TCP {NFS} from {source} of "
            f"{function.name}: the mount would time out.",
            f"Add to {first} an inbound rule: IpProtocol tcp, FromPort {NFS}, ToPort {NFS}, "
            f"SourceSecurityGroupId {source}.",
        )
    for given, group in own:
        outbound = list(_rules(stack, given, group, "SecurityGroupEgress")) if group else []
        # Without outbound rules of its own a group lets everything out.
        if not outbound or any(_lets(rule, "DestinationSecurityGroupId", theirs) for rule in outbound):
            return
    group_name = shown(ours[0])
    yield Finding(
        stack.line(group_name, "Properties", "SecurityGroupEgress"),
        "LB105",
        "error",
        f"{group_name} of {function.name} has outbound rules, and none for TCP {NFS} to {shown(theirs[0])} of mount "
        f"target {target.name}: the mount would time out.",
        f"Add to {group_name} an outbound rule: IpProtocol tcp, FromPort {NFS}, ToPort {NFS}, "
        f"DestinationSecurityGroupId {shown(theirs[0])}.",
    )


def _rules(stack: Stack, given: Any, group: Resource, kind: str) -> Iterator[Mapping[str, Any]]:
    inline = group.properties.get(kind)
    yield from (mapping(rule) for rule in (inline if isinstance(inline, list) else []))
    for each in stack.of_type(f"AWS::EC2::{kind}"):
        if same(each.properties.get("GroupId"), given):
            yield each.properties


def _lets(rule: Mapping[str, Any], peer: str, groups: list[Any]) -> bool:
    """TCP 2049 passes by this rule, as far as can be told; what comes by parameter is believed."""
    if str(rule.get("IpProtocol")) not in ("tcp", "6", "-1"):
        return False
    if str(rule.get("IpProtocol")) != "-1":
        low, high = rule.get("FromPort"), rule.get("ToPort")
        try:
            if not int(str(low)) <= NFS <= int(str(high)):
                return False
        except ValueError:
            pass
    if peer in rule:
        return any(same(rule[peer], group) for group in groups)
    return True


def _open_to_all(stack: Stack) -> Iterator[Finding]:
    guarding = {
        group.name
        for target in stack.of_type("AWS::EFS::MountTarget")
        for given in target.properties.get("SecurityGroups") or []
        if (group := stack.referred(given)) is not None
    }
    for name in sorted(guarding):
        inline = stack.resources[name].properties.get("SecurityGroupIngress")
        for number, rule in enumerate(inline if isinstance(inline, list) else []):
            rule = mapping(rule)
            open_to = rule.get("CidrIp") or rule.get("CidrIpv6")
            if open_to in ("0.0.0.0/0", "::/0"):
                yield Finding(
                    stack.line(name, "Properties", "SecurityGroupIngress", number),
                    "LB106",
                    "warning",
                    f"{name} of a mount target is open to {open_to}.",
                    "Name the functions' security group in SourceSecurityGroupId instead of a CIDR block.",
                )


def _mutual_groups(stack: Stack) -> Iterator[Finding]:
    """Two groups that name each other inline can't be made: each waits for the other."""
    named = {group.name: _named_by(stack, group) for group in stack.of_type(_GROUP)}
    for name, others in named.items():
        for other in sorted(others):
            if name < other and name in named[other]:
                yield Finding(
                    stack.line(name),
                    "LB107",
                    "error",
                    f"{name} and {other} refer to each other in their own rules: a circular dependency.",
                    f"Take one of the rules out into a resource of its own: AWS::EC2::SecurityGroupIngress (GroupId, "
                    f"SourceSecurityGroupId) or AWS::EC2::SecurityGroupEgress, which depends on {name} and {other}.",
                )


def _named_by(stack: Stack, group: Resource) -> set[str]:
    """The groups that `group` names in rules of its own."""
    found = set()
    for kind, peer in (
        ("SecurityGroupIngress", "SourceSecurityGroupId"),
        ("SecurityGroupEgress", "DestinationSecurityGroupId"),
    ):
        for rule in group.properties.get(kind) or []:
            other = stack.referred(mapping(rule).get(peer))
            if other is not None and other.type == _GROUP:
                found.add(other.name)
    return found
