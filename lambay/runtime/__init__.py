"""Execution environments: sandbox, slots, runtime API, bootstraps, and the log of one invocation.

`LocalFleet` is this machine's fleet; `EnvironmentSpec` says what an environment is made from. Nothing here
knows the Lambda API's operations, access rules or where an access point's identity comes from.
"""

from lambay.runtime.environment import Environment
from lambay.runtime.fleet import Fleet, FleetStatus, LocalFleet
from lambay.runtime.log_shipping import WriteLog
from lambay.runtime.slot import ENDPOINT_PORT, ServeEndpoint
from lambay.runtime.spec import (
    CapacityExceeded,
    Closer,
    CreationInfo,
    Credentials,
    EnvironmentFailure,
    EnvironmentSpec,
    FileServer,
    FileSystemLost,
    FileSystemMount,
    Invocation,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
    Outcome,
    PosixUser,
    Runtime,
    RuntimeUnavailable,
    SandboxFailure,
    ScalingLimitExceeded,
)
from lambay.runtime.streaming import ResponseStream
from lambay.runtime.versions import runtime_version_arn
from lambay.runtime.wiring import MountTarget, MountTargets, Placement

__all__ = [
    "ENDPOINT_PORT",
    "CapacityExceeded",
    "Closer",
    "CreationInfo",
    "Credentials",
    "Environment",
    "EnvironmentFailure",
    "EnvironmentSpec",
    "FileServer",
    "FileSystemLost",
    "FileSystemMount",
    "Fleet",
    "FleetStatus",
    "Invocation",
    "LocalFleet",
    "MountConnectivityFailure",
    "MountFailure",
    "MountTarget",
    "MountTargets",
    "MountTimeout",
    "Outcome",
    "Placement",
    "PosixUser",
    "ResponseStream",
    "Runtime",
    "RuntimeUnavailable",
    "SandboxFailure",
    "ScalingLimitExceeded",
    "ServeEndpoint",
    "WriteLog",
    "runtime_version_arn",
]
