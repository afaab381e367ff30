"""Records in the shapes of the API."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from lambay.aws import arn
from lambay.functions import images
from lambay.functions.code import code_sha256
from lambay.functions.records import LATEST, Alias, Configuration, Policy, Version
from lambay.runtime import runtime_version_arn


def timestamp(moment: datetime) -> str:
    """`2026-11-20T22:57:00.000+0000`: Lambda's own form, a string in its model."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def iso_timestamp(moment: datetime) -> str:
    """`2026-11-20T22:57:00.000Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def function_arn(version: Version, qualifier: str | None = None) -> str:
    resource = f"function:{version.name}" + (f":{qualifier}" if qualifier else "")
    return arn("lambda", version.region, version.account, resource)


def version_arn(version: Version) -> str:
    """A published version's own ARN; `$LATEST` has the function's."""
    return function_arn(version, None if version.version == LATEST else version.version)


def function_configuration(version: Version, qualifier: str | None = None) -> dict[str, Any]:
    """FunctionConfiguration; its ARN bears the caller's qualifier, else the version's number."""
    configuration = version.configuration
    shown: dict[str, Any] = {
        "FunctionName": version.name,
        "FunctionArn": function_arn(version, qualifier) if qualifier else version_arn(version),
        "Role": configuration.role,
        "CodeSize": version.code.size,
        "Description": configuration.description,
        "Timeout": configuration.timeout,
        "MemorySize": configuration.memory_size,
        "LastModified": timestamp(version.last_modified),
        "CodeSha256": code_sha256(version.code),
        "Version": version.version,
        "TracingConfig": {"Mode": configuration.tracing_mode},
        "RevisionId": version.revision_id,
        "State": version.state,
        "PackageType": configuration.package_type,
        "Architectures": [configuration.architecture],
        "EphemeralStorage": {"Size": configuration.ephemeral_storage},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": _logging(configuration),
    }
    if configuration.package_type == "Zip":
        runtime = runtime_version_arn(version.region, configuration.runtime)
        shown |= {
            "Runtime": configuration.runtime,
            "Handler": configuration.handler,
            "RuntimeVersionConfig": {"RuntimeVersionArn": runtime},
        }
    elif configured := images.shown(configuration.image):
        shown["ImageConfigResponse"] = {"ImageConfig": configured}
    shown.update(_optional(configuration))
    for member, value in (
        ("StateReason", version.state_reason),
        ("StateReasonCode", version.state_reason_code),
        ("LastUpdateStatus", version.update_status),
        ("LastUpdateStatusReason", version.update_reason),
        ("LastUpdateStatusReasonCode", version.update_reason_code),
    ):
        if value:
            shown[member] = value
    return shown


def _logging(configuration: Configuration) -> dict[str, Any]:
    logging = configuration.logging
    shown = {"LogFormat": logging.log_format, "LogGroup": logging.group}
    if logging.log_format == "JSON":
        shown |= {"ApplicationLogLevel": logging.application_level, "SystemLogLevel": logging.system_level}
    return shown


def _optional(configuration: Configuration) -> dict[str, Any]:
    """The members that are there only when they were configured."""
    shown: dict[str, Any] = {}
    if configuration.environment is not None:
        shown["Environment"] = {"Variables": dict(configuration.environment)}
    if configuration.vpc is not None:
        shown["VpcConfig"] = {
            "SubnetIds": list(configuration.vpc.subnet_ids),
            "SecurityGroupIds": list(configuration.vpc.security_group_ids),
            "VpcId": configuration.vpc.vpc_id,
            "Ipv6AllowedForDualStack": configuration.vpc.ipv6,
        }
    if configuration.file_systems:
        shown["FileSystemConfigs"] = [
            {"Arn": mounted.arn, "LocalMountPath": mounted.local_mount_path}
            for mounted in configuration.file_systems
        ]
    if configuration.layers:
        shown["Layers"] = [{"Arn": layer.arn, "CodeSize": layer.code.size} for layer in configuration.layers]
    if configuration.dead_letter_arn:
        shown["DeadLetterConfig"] = {"TargetArn": configuration.dead_letter_arn}
    if configuration.kms_key_arn:
        shown["KMSKeyArn"] = configuration.kms_key_arn
    return shown


def alias_configuration(alias: Alias) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AliasArn": arn("lambda", alias.region, alias.account, f"function:{alias.function}:{alias.name}"),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.weights:
        shown["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
    return shown


def policy_document(policy: Policy) -> str:
    return json.dumps(
        {"Version": "2012-10-17", "Id": "default", "Statement": list(policy.statements)},
        separators=(",", ":"),
    )


def environment_key(version: Version) -> str:
    """What the execution environments of this build of this version are known by."""
    return f"{function_arn(version, version.version)}#{version.build}"


# Lists show a subset; GetFunction has the rest.
_NOT_LISTED = (
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    "RuntimeVersionConfig",
)


def listed_configuration(version: Version, qualifier: str | None = None) -> dict[str, Any]:
    shown = function_configuration(version, qualifier)
    for member in _NOT_LISTED:
        shown.pop(member, None)
    return shown
