"""The service's errors, in the words that clients know them by.

Every error of the EFS model has the member `ErrorCode` beside its message; see EFS API "Common errors".
"""

from __future__ import annotations

from typing import Any

from lambay.aws import AWSError


def efs_error(code: str, message: str, **members: Any) -> AWSError:
    return AWSError(code, message, ErrorCode=code, **members)


def bad_request(message: str) -> AWSError:
    return efs_error("BadRequest", message)


def file_system_not_found(identifier: str) -> AWSError:
    return efs_error("FileSystemNotFound", f"File system '{identifier}' does not exist.")


def mount_target_not_found(identifier: str) -> AWSError:
    return efs_error("MountTargetNotFound", f"Mount target '{identifier}' does not exist.")


def access_point_not_found(identifier: str) -> AWSError:
    return efs_error("AccessPointNotFound", f"Access point '{identifier}' does not exist.")


def incorrect_file_system_state(identifier: str, state: str) -> AWSError:
    return efs_error(
        "IncorrectFileSystemLifeCycleState",
        f"File system '{identifier}' is in state '{state}'; the operation needs it to be 'available'.",
    )


# EC2's code → EFS's, for what a mount target asks of the network. What is not here is a bad request.
_OF_EC2 = {
    "InvalidSubnetID.NotFound": "SubnetNotFound",
    "InvalidSubnetID.Malformed": "SubnetNotFound",
    "InvalidGroup.NotFound": "SecurityGroupNotFound",
    "InvalidGroupId.Malformed": "SecurityGroupNotFound",
    "InvalidSecurityGroupID.NotFound": "SecurityGroupNotFound",
    "InvalidIPAddress.InUse": "IpAddressInUse",
    "InsufficientFreeAddressesInSubnet": "NoFreeAddressesInSubnet",
    "NetworkInterfaceLimitExceeded": "NetworkInterfaceLimitExceeded",
    "SecurityGroupsPerInterfaceLimitExceeded": "SecurityGroupLimitExceeded",
}


def of_network(error: AWSError) -> AWSError:
    """The EFS error for what the network refused."""
    return efs_error(_OF_EC2.get(error.code, "BadRequest"), error.message)
