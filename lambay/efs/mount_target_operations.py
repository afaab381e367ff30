"""Mount targets: an address and a network interface in a subnet of each Availability Zone."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call, resource_id
from lambay.efs.errors import bad_request, of_network
from lambay.efs.lifecycle import Lifecycle, interface_description
from lambay.efs.paging import MOST, page_of
from lambay.efs.ports import Subnet
from lambay.efs.records import FileSystem, MountTarget


class MountTargetOperations(Lifecycle):
    async def create_mount_target(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        address = _address(input)
        groups = tuple(dict.fromkeys(input.get("SecurityGroups", ())))
        self._check_group_count(groups)
        await self._resumed()
        place = {"account": call.account, "region": call.region}
        try:
            subnet = await self._network.subnet(input["SubnetId"], **place)
            if not groups:
                groups = (await self._network.default_security_group(subnet.vpc, **place),)
            await self._network.check_security_groups(groups, subnet.vpc, **place)
        except AWSError as error:
            raise of_network(error) from None
        # From here to the first commit nothing awaits, so of two requests for one zone the second is refused.
        file_system = self._available_file_system(call, file_system.id)
        self._check_zone(file_system, subnet)
        target = MountTarget(
            id=resource_id("fsmt"),
            account=call.account,
            region=call.region,
            file_system=file_system.id,
            subnet=subnet.id,
            vpc=subnet.vpc,
            zone=subnet.zone,
            zone_id=subnet.zone_id,
            security_groups=groups,
            state="creating",
        )
        await self._save(target)
        try:
            interface = await self._network.create_interface(
                target.subnet, groups, description=interface_description(target), address=address, **place
            )
        except BaseException as error:
            await self._commit(self._mount_targets.remove(target.key))
            if isinstance(error, AWSError):
                raise of_network(error) from None
            raise
        target = replace(target, interface=interface.id, address=interface.address)
        await self._save(replace(target, state="available"))
        return _describe(target)

    async def describe_mount_targets(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("FileSystemId", "MountTargetId", "AccessPointId") if name in input]
        if len(given) != 1:
            raise bad_request("Give exactly one of FileSystemId, MountTargetId and AccessPointId.")
        if "MountTargetId" in input:
            found = [self._mount_target(call, input["MountTargetId"])]
        elif "FileSystemId" in input:
            found = self._mount_targets_of(self._file_system(call, input["FileSystemId"]))
        else:
            access_point = self._access_point(call, input["AccessPointId"])
            found = self._mount_targets_of(self._file_system(call, access_point.file_system))
        page, following = page_of(found, _identity, input.get("Marker"), input.get("MaxItems", MOST))
        output: dict[str, Any] = {"MountTargets": [_describe(target) for target in page]}
        if "Marker" in input:
            output["Marker"] = input["Marker"]
        if following is not None:
            output["NextMarker"] = following
        return output

    async def delete_mount_target(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._resumed()
        target = self._mount_target(call, input["MountTargetId"])
        if target.state == "deleting":
            return {}
        if target.state == "creating":
            raise AWSError("DependencyTimeout", f"Mount target '{target.id}' is being created; try again.")
        await self._save(replace(target, state="deleting"))
        try:
            await self._network.delete_interface(
                target.interface, account=target.account, region=target.region
            )
        except AWSError as error:
            if not error.code.endswith(".NotFound"):
                raise AWSError("DependencyTimeout", f"Mount target '{target.id}': {error.message}") from None
        await self._commit(self._mount_targets.remove(target.key))
        return {}

    async def describe_mount_target_security_groups(
        self, call: Call, input: dict[str, Any]
    ) -> dict[str, Any]:
        target = self._mount_target(call, input["MountTargetId"])
        _check_target_state(target)
        return {"SecurityGroups": list(target.security_groups)}

    async def modify_mount_target_security_groups(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        await self._resumed()
        target = self._mount_target(call, input["MountTargetId"])
        _check_target_state(target)
        groups = tuple(dict.fromkeys(input.get("SecurityGroups", ())))
        self._check_group_count(groups)
        place = {"account": target.account, "region": target.region}
        try:
            if not groups:
                groups = (await self._network.default_security_group(target.vpc, **place),)
            await self._network.check_security_groups(groups, target.vpc, **place)
            await self._network.set_interface_groups(target.interface, groups, **place)
        except AWSError as error:
            raise of_network(error) from None
        await self._save(replace(self._mount_target(call, target.id), security_groups=groups))
        return {}

    def _check_group_count(self, groups: Sequence[str]) -> None:
        if len(groups) > self._limits.security_groups:
            raise AWSError(
                "SecurityGroupLimitExceeded",
                f"SecurityGroups: {len(groups)} exceed the limit of {self._limits.security_groups}.",
            )

    def _check_zone(self, file_system: FileSystem, subnet: Subnet) -> None:
        """Raises AvailabilityZonesMismatch, MountTargetConflict."""
        if file_system.zone is not None and file_system.zone != subnet.zone:
            raise AWSError(
                "AvailabilityZonesMismatch",
                f"Subnet '{subnet.id}' is in {subnet.zone}; One Zone file system '{file_system.id}' is in "
                f"{file_system.zone}.",
            )
        for existing in self._mount_targets_of(file_system):
            if existing.vpc != subnet.vpc:
                raise AWSError(
                    "MountTargetConflict",
                    "requested subnet for new mount target is not in the same VPC as existing mount targets",
                )
            if existing.zone == subnet.zone:
                raise AWSError("MountTargetConflict", "mount target already exists in this AZ")


def _address(input: dict[str, Any]) -> str | None:
    """The IPv4 address asked for. Raises BadRequest for what is not one; IPv6 is not served."""
    kind = input.get("IpAddressType", "IPV4_ONLY")
    if kind != "IPV4_ONLY" or "Ipv6Address" in input:
        raise bad_request("IpAddressType: mount targets are IPV4_ONLY here; IPv6 is not supported.")
    given: str | None = input.get("IpAddress")
    if given is None:
        return None
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise bad_request(f"IpAddress: '{given}' is not an IPv4 address.") from None


def _check_target_state(target: MountTarget) -> None:
    if target.state != "available":
        raise AWSError(
            "IncorrectMountTargetState",
            f"Mount target '{target.id}' is in state '{target.state}'; the operation needs it 'available'.",
        )


def _identity(target: MountTarget) -> str:
    return target.id


def _describe(target: MountTarget) -> dict[str, Any]:
    described = {
        "OwnerId": target.account,
        "MountTargetId": target.id,
        "FileSystemId": target.file_system,
        "SubnetId": target.subnet,
        "LifeCycleState": target.state,
        "AvailabilityZoneId": target.zone_id,
        "AvailabilityZoneName": target.zone,
        "VpcId": target.vpc,
    }
    if target.interface:
        described |= {"IpAddress": target.address, "NetworkInterfaceId": target.interface}
    return described
