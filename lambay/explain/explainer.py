"""Walks as AWS's troubleshooting pages do: from the function's state to the permissions of the directory.

Lambda Developer Guide, "Troubleshoot invocation issues in Lambda" and "Configuring file system access"; EFS
User Guide, "Troubleshooting mount issues" and "... access point issues". Each step asks the room that enforces it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lambay.aws import Arn, AWSError, Call, Principal
from lambay.causes import no_mount_target
from lambay.explain import directories
from lambay.explain.findings import Explanation, Step, failed, note, ok
from lambay.explain.ports import Access, FileSystems, Lambda, MountPermits, Network
from lambay.http import Request, Response
from lambay.mount_source import MountSource, MountTarget
from lambay.settings import Settings

VPC_ACCESS = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
_INTERFACE_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
)

# As Lambda takes them: a name, part of an ARN or all of it, qualified or not.
_FUNCTION = re.compile(
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:|(?!arn:)([a-z0-9-]+-\d:)?(\d{12}:)?(function:)?)"
    r"[\w-]+(:[\w$-]+)?",
    re.ASCII,
)


class Explainer:
    """Answers for functions (by name or ARN), access points and file systems (by id or ARN)."""

    def __init__(
        self,
        functions: Lambda,
        file_systems: FileSystems,
        network: Network,
        access: Access,
        permits: MountPermits,
        settings: Settings,
    ) -> None:
        self._functions = functions
        self._file_systems = file_systems
        self._network = network
        self._access = access
        self._permits = permits
        self._settings = settings

    async def page(self, request: Request) -> Response:
        """`GET /_lambay/explain?arn=…` (or `name=…`), with `region`: the explanation as JSON. Raises AWSError."""
        asked = dict(parse_qsl(request.query))
        subject = asked.get("arn") or asked.get("name") or ""
        if not subject:
            raise AWSError(
                "InvalidRequest", "give arn or name: a function, access point or file system", status=400
            )
        explanation = await self.explain(subject, region=asked.get("region") or self._settings.region)
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode(explanation) + b"\n")

    async def explain(self, subject: str, *, region: str) -> Explanation:
        """`region` is that of a bare name. Raises AWSError where there is no such thing."""
        if subject.startswith(("fs-", "fsap-")) or ":elasticfilesystem:" in subject:
            return await self._explain_file_system(subject, region)
        if not _FUNCTION.fullmatch(subject):
            raise AWSError(
                "InvalidRequest",
                f"{subject} is no function, access point or file system: give a function's name or ARN, or the id "
                "or ARN of an access point or file system",
                status=400,
            )
        account = self._settings.account
        if subject.startswith("arn:"):
            named = Arn.parse(subject)
            account, region = named.account, named.region
        root = Principal("root", account, f"arn:aws:iam::{account}:root", account)
        call = Call("", account, region, root, "lambda", "GetFunctionConfiguration")
        function = await self._functions.get_function_configuration(call, {"FunctionName": subject})
        return Explanation.of(
            function["FunctionArn"], [step async for step in self._function(function, call)]
        )

    # -- a function

    async def _function(self, function: dict[str, Any], call: Call) -> AsyncIterator[Step]:
        for step in _states(function):
            yield step
        async for step in self._role(function, call):
            yield step
        mounted = function.get("FileSystemConfigs") or []
        vpc = function.get("VpcConfig") or {}
        if not mounted:
            yield note(
                "file system", f"{function['FunctionName']} mounts no file system: there is nothing at /mnt"
            )
            return
        source, step = await self._source(mounted[0]["Arn"], call)
        yield step
        if source is None:
            return
        async for step in self._network_steps(source, vpc, call):
            yield step
        async for step in self._permissions(source, function, vpc.get("VpcId", "")):
            yield step

    async def _role(self, function: dict[str, Any], call: Call) -> AsyncIterator[Step]:
        role = function["Role"]
        unqualified = ":".join(function["FunctionArn"].split(":")[:7])
        if await self._access.assumable(role, source_arn=unqualified, region=call.region):
            yield ok("role", f"Lambda may assume role {role}")
        else:
            yield failed(
                "role",
                f"role {role} does not exist or does not let Lambda assume it: its trust policy has to allow "
                "sts:AssumeRole to the service lambda.amazonaws.com",
            )
            return
        if not (function.get("VpcConfig") or {}).get("SubnetIds"):
            return
        for action in _INTERFACE_ACTIONS:
            if await self._access.lacking(role, action, region=call.region):
                yield failed(
                    "VPC access", f"role {role} lacks {action}: granted by attaching {VPC_ACCESS} to it"
                )
                return
        yield ok("VPC access", f"role {role} may make the function's network interfaces")

    async def _source(self, access_point: str, call: Call) -> tuple[MountSource | None, Step]:
        try:
            source = await self._file_systems.mount_source(
                access_point, account=call.account, region=call.region
            )
        except AWSError as error:
            return None, failed(
                "access point",
                f"access point {access_point}: {error.message.rstrip('.')}: give the function another one",
            )
        return source, ok("access point", f"{access_point} leads to {source.root} of {source.file_system}")

    async def _network_steps(
        self, source: MountSource, vpc: dict[str, Any], call: Call
    ) -> AsyncIterator[Step]:
        place = {"account": call.account, "region": call.region}
        subnets = [await self._network.subnet(subnet, **place) for subnet in vpc.get("SubnetIds") or ()]
        zones = sorted({subnet.zone for subnet in subnets})
        missing = [zone for zone in zones if not _available(source.mount_targets.get(zone))]
        if missing:
            sentence = no_mount_target(source.file_system, missing)
            yield (failed if len(missing) == len(zones) else note)("mount targets", sentence)
        else:
            yield ok(
                "mount targets", f"{source.file_system} has an available mount target in {', '.join(zones)}"
            )
        reached = []
        for subnet in subnets:
            target = source.mount_targets.get(subnet.zone)
            if target is None or not _available(target):
                continue
            verdict = await self._network.reach_mount_target(
                subnet.id, vpc.get("SecurityGroupIds") or (), target.address, **place
            )
            if not verdict.allowed:
                yield failed("network", verdict.sentence)
                return
            reached.append(f"{target.id} from {subnet.id}")
        if reached:
            yield ok("network", f"TCP 2049 reaches {', '.join(reached)}")

    async def _permissions(
        self, source: MountSource, function: dict[str, Any], vpc: str
    ) -> AsyncIterator[Step]:
        role, name = function["Role"], function["FunctionName"]
        permit = await self._permits.permit(role, name, source, vpc)
        if permit.refusal:
            yield failed(permit.refused_by, permit.refusal)
        else:
            yield ok("IAM", f"role {role} may mount {source.file_system}")
            for limit in permit.limits:
                # Reading goes on without ClientWrite; files of root's own alone need ClientRootAccess.
                critical = permit.read_only and "ClientWrite" in limit
                yield (failed if critical else note)("IAM", limit)
        for trap in await self._permits.traps(role, name, source, vpc):
            yield note("IAM", trap)
        writes = not (source.read_only or permit.read_only)
        for step in await self._directory(source, squashed=permit.root_squash, writes=writes):
            yield step

    async def _directory(self, source: MountSource, *, squashed: bool, writes: bool) -> list[Step]:
        found = await asyncio.to_thread(directories.look, source.backing, source.root)
        return list(
            directories.steps(
                found,
                root=source.root,
                file_system=source.file_system,
                creates=source.create is not None,
                user=_user(source, squashed),
                writes=writes,
            )
        )

    # -- a file system or access point by itself

    async def _explain_file_system(self, subject: str, region: str) -> Explanation:
        place = self._file_systems.place_of(subject.rpartition("/")[2])
        account, region = place or (self._settings.account, region)
        source = await self._file_systems.mount_source(subject, account=account, region=region)
        available = [zone for zone, target in source.mount_targets.items() if _available(target)]
        steps = [
            ok(
                "mount targets",
                f"{source.file_system} has an available mount target in {', '.join(sorted(available))}",
            )
            if available
            else failed("mount targets", f"{source.file_system} has no available mount target: create one")
        ]
        if source.file_system_policy is None:
            steps.append(
                note("IAM", f"{source.file_system} has no policy: everybody who reaches it has full access")
            )
        if source.access_point is not None:
            steps += await self._directory(source, squashed=False, writes=not source.read_only)
        return Explanation.of(source.access_point_arn or source.file_system_arn, steps)


def _states(function: dict[str, Any]) -> list[Step]:
    name = function["FunctionName"]
    state, update = function.get("State", "Active"), function.get("LastUpdateStatus", "Successful")
    if state != "Active":
        return [
            failed("function", f"{name} is {state}: {function.get('StateReason') or 'it is not ready yet'}")
        ]
    if update == "Failed":
        reason = function.get("LastUpdateStatusReason") or "the last update failed"
        return [note("function", f"the last update of {name} failed, it runs as it was before: {reason}")]
    return [ok("function", f"{name} is {state}")]


def _available(target: MountTarget | None) -> bool:
    return target is not None and target.state == "available"


def _user(source: MountSource, squashed: bool) -> directories.User:
    posix = source.posix
    if posix is None:
        return directories.User(directories.NOBODY, directories.NOBODY, (), "a function without PosixUser")
    uid, gid = posix.uid, posix.gid
    if squashed:
        uid, gid = uid or directories.NOBODY, gid or directories.NOBODY
    named = "PosixUser" if (uid, gid) == (posix.uid, posix.gid) else "PosixUser 0 without ClientRootAccess"
    return directories.User(uid, gid, tuple(posix.gids), named)
