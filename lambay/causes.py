"""Sentences that several rooms say: why a mount fails, and the one thing to change.

The same words are in the exception's message, in the function's log and in `lambay explain`.
"""

from __future__ import annotations

from collections.abc import Collection


def root_missing(file_system: str, root: str) -> str:
    """An access point without CreationInfo leads to a directory that is not there."""
    return (
        f"access point root {root} does not exist on {file_system} and the access point has no CreationInfo: "
        "create the directory, or an access point with CreationInfo"
    )


def no_mount_target(file_system: str, zones: Collection[str]) -> str:
    """No mount target serves any Availability Zone of the function."""
    return (
        f"no mount target of {file_system} is available in {', '.join(sorted(zones))}: create one in each "
        "Availability Zone of the function's subnets"
    )


def key_unusable(file_system: str, key: str, state: str) -> str:
    """`state` in KMS's words: Disabled, PendingDeletion; or `missing`."""
    mend = {
        "Disabled": "enable it",
        "PendingDeletion": "cancel its deletion and enable it",
    }.get(state, "the file system's data cannot be read without it")
    return f"KMS key {key} of file system {file_system} is {state}: {mend}"
