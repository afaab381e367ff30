"""The service's errors, in the words that clients know them by.

The member `ErrorCode` that all of them have is filled in where they are rendered.
"""

from __future__ import annotations

from lambay.aws import AWSError


def bad_request(message: str) -> AWSError:
    return AWSError("BadRequest", message)


def file_system_not_found(identifier: str) -> AWSError:
    return AWSError("FileSystemNotFound", f"File system '{identifier}' does not exist.")


def mount_target_not_found(identifier: str) -> AWSError:
    return AWSError("MountTargetNotFound", f"Mount target '{identifier}' does not exist.")


def access_point_not_found(identifier: str) -> AWSError:
    return AWSError("AccessPointNotFound", f"Access point '{identifier}' does not exist.")


def incorrect_file_system_state(identifier: str, state: str) -> AWSError:
    return AWSError(
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
    return AWSError(_OF_EC2.get(error.code, "BadRequest"), error.message)
