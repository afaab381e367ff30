"""A version's configuration from an operation's input: defaults, merging, the checks that need nobody else.

See CreateFunction and UpdateFunctionConfiguration in the Lambda API Reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lambay.functions import images
from lambay.functions.errors import denied, invalid, validation
from lambay.functions.records import Configuration, FileSystem, Logging, Vpc

_LONGEST_TIMEOUT = 900
_LARGEST_MEMORY = 10_240
_LARGEST_STORAGE = 10_240
_ENVIRONMENT_LIMIT = 4096
_MOST_LAYERS = 5

RESERVED_VARIABLES = (
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
)

_EFS_ACCESS_POINT = re.compile(
    r"arn:aws[a-zA-Z-]*:elasticfilesystem:(?P<region>[a-z0-9-]+):\d{12}:access-point/fsap-[a-f0-9]{17}"
)
_MOUNT_PATH = re.compile(r"/mnt/[a-zA-Z0-9\-_.]+")

# Parameters of Lambda features that nothing here could make true.
_REFUSED = {
    "CapacityProviderConfig": "Lambda Managed Instances",
    "TenancyConfig": "tenant isolation",
    "DurableConfig": "durable functions",
    "RuntimeConfig": "custom runtime ARNs",
    "AcceleratorConfig": "accelerators",
    "PublishTo": "Lambda Managed Instances",
}


def refuse_unavailable(input: Mapping[str, Any]) -> None:
    """Raises InvalidParameterValueException for features that Lambay lacks: none is accepted and ignored."""
    for parameter, feature in _REFUSED.items():
        if input.get(parameter):
            raise invalid(
                f"{parameter}: {feature} are not available in Lambay. Remove {parameter} from the request."
            )


def configured(
    input: Mapping[str, Any], *, name: str, account: str, region: str, current: Configuration | None
) -> Configuration:
    """`current` (None for a new function) with what `input` gives changed, checked.

    `vpc.vpc_id` is still empty where `input` has a VpcConfig, and layers are those of `current`: they come
    from elsewhere. Raises InvalidParameterValueException, ValidationException or AccessDeniedException.
    """
    refuse_unavailable(input)
    changes: dict[str, Any] = {}
    package_type = current.package_type if current else input.get("PackageType") or "Zip"
    if package_type == "Image":
        changes |= _image(input, current)
    elif input.get("ImageConfig"):
        raise invalid("Please don't provide ImageConfig when the intended function PackageType is Zip.")
    for parameter, field in _PLAIN.items():
        if input.get(parameter) is not None:
            changes[field] = input[parameter]
    if "Environment" in input:
        changes["environment"] = _environment(input["Environment"].get("Variables"))
    if input.get("VpcConfig") is not None:
        changes["vpc"] = _vpc(input["VpcConfig"])
    if input.get("FileSystemConfigs") is not None:
        changes["file_systems"] = _file_systems(input["FileSystemConfigs"], region)
    if input.get("Architectures"):
        changes["architecture"] = input["Architectures"][0]
    if input.get("EphemeralStorage"):
        changes["ephemeral_storage"] = input["EphemeralStorage"]["Size"]
    if input.get("TracingConfig", {}).get("Mode"):
        changes["tracing_mode"] = input["TracingConfig"]["Mode"]
    if input.get("DeadLetterConfig") is not None:
        changes["dead_letter_arn"] = _dead_letter(input["DeadLetterConfig"].get("TargetArn", ""))
    if current is None or input.get("LoggingConfig") is not None:
        changes["logging"] = _logging(
            input.get("LoggingConfig") or {}, name, current.logging if current else None
        )
    if current is None and package_type == "Zip" and not (changes.get("handler") and changes.get("runtime")):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    merged = Configuration(**({**_fields(current), **changes} if current else changes))
    _check_sizes(merged)
    _check_role(merged.role, account)
    _check_snap_start(input)
    if len(input.get("Layers") or ()) > _MOST_LAYERS:
        raise invalid("Cannot reference more than 5 layers.")
    _check_file_systems(merged)
    return merged


def _image(input: Mapping[str, Any], current: Configuration | None) -> dict[str, Any]:
    """What makes a configuration that of a container image. Raises InvalidParameterValueException."""
    if input.get("Handler") or input.get("Runtime") or input.get("Layers"):
        raise invalid(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )
    changes: dict[str, Any] = {"package_type": "Image"}
    if current is None:
        changes |= {"handler": "", "runtime": ""}
    if input.get("ImageConfig") is not None:
        changes["image"] = images.settings(input["ImageConfig"])
    return changes


_PLAIN = {
    "Role": "role",
    "Handler": "handler",
    "Runtime": "runtime",
    "Description": "description",
    "Timeout": "timeout",
    "MemorySize": "memory_size",
    "KMSKeyArn": "kms_key_arn",
}


def _fields(configuration: Configuration) -> dict[str, Any]:
    return {field: getattr(configuration, field) for field in configuration.__struct_fields__}


def _check_sizes(configuration: Configuration) -> None:
    """The model's maxima are those of managed instances; these are an ordinary function's."""
    for value, field, most in (
        (configuration.timeout, "timeout", _LONGEST_TIMEOUT),
        (configuration.memory_size, "memorySize", _LARGEST_MEMORY),
        (configuration.ephemeral_storage, "ephemeralStorage.size", _LARGEST_STORAGE),
    ):
        if value > most:
            raise validation(value, field, f"Member must have value less than or equal to {most}")


def _check_role(role: str, account: str) -> None:
    parts = role.split(":", 5)
    if len(parts) == 6 and parts[4] != account:
        raise denied("Cross-account pass role is not allowed.")


def _check_snap_start(input: Mapping[str, Any]) -> None:
    if input.get("SnapStart", {}).get("ApplyOn", "None") != "None":
        raise invalid(
            "SnapStart: snapshots of initialised environments are not available in Lambay. "
            "Give ApplyOn None or remove SnapStart from the request."
        )


def _environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    """Raises InvalidParameterValueException for reserved names and over 4 KB."""
    variables = dict(variables or {})
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables "
            "you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved "
            "keys used "
            f"in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > _ENVIRONMENT_LIMIT:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables "
            "you have "
            f"provided exceeded the 4KB limit. String measured: {measured}"
        )
    return variables


def _vpc(config: Mapping[str, Any]) -> Vpc:
    subnets, groups = tuple(config.get("SubnetIds") or ()), tuple(config.get("SecurityGroupIds") or ())
    if bool(subnets) != bool(groups):
        raise invalid("SubnetIds and SecurityIds must coexist or be both empty list.")
    return Vpc(
        subnet_ids=tuple(dict.fromkeys(subnets)),
        security_group_ids=tuple(dict.fromkeys(groups)),
        ipv6=bool(config.get("Ipv6AllowedForDualStack", False)),
    )


def _file_systems(configs: list[Mapping[str, Any]], region: str) -> tuple[FileSystem, ...]:
    """Raises for what the model lets through and EFS on Lambda does not allow."""
    if len(configs) > 1:
        raise validation(configs, "fileSystemConfigs", "Member must have length less than or equal to 1")
    for config in configs:
        arn = config["Arn"]
        if ":s3files:" in arn or config.get("S3FilesConfig"):
            raise invalid(
                f"FileSystemConfigs: {arn} is an S3 Files access point, which is not available in Lambay. "
                "Give the ARN of an Amazon EFS access point."
            )
        access_point = _EFS_ACCESS_POINT.fullmatch(arn)
        if access_point is None:
            raise invalid(
                f"FileSystemConfigs: {arn} is not the ARN of an Amazon EFS access point "
                "(arn:aws:elasticfilesystem:REGION:ACCOUNT:access-point/fsap-…)."
            )
        if access_point["region"] != region:
            raise invalid(f"FileSystemConfigs: access point {arn} is not in the function's Region, {region}.")
        if _MOUNT_PATH.fullmatch(config["LocalMountPath"]) is None:
            raise validation(
                config["LocalMountPath"],
                "fileSystemConfigs.1.member.localMountPath",
                "Member must satisfy regular expression pattern: ^/mnt/[a-zA-Z0-9-_.]+$",
            )
        if config["LocalMountPath"] in ("/mnt/.", "/mnt/.."):
            raise invalid(
                f"FileSystemConfigs: LocalMountPath {config['LocalMountPath']} is not a directory of /mnt."
            )
    return tuple(
        FileSystem(arn=config["Arn"], local_mount_path=config["LocalMountPath"]) for config in configs
    )


def _check_file_systems(configuration: Configuration) -> None:
    if configuration.file_systems and not (configuration.vpc and configuration.vpc.subnet_ids):
        raise invalid(
            "Function must be configured to execute in a VPC to reference access point "
            f"{configuration.file_systems[0].arn}."
        )


def _dead_letter(target: str) -> str:
    if target and target.split(":")[2:3] not in (["sqs"], ["sns"]):
        raise invalid(
            f"DeadLetterConfig: {target} is not a dead-letter target. Give the ARN of an Amazon SQS queue "
            "or an "
            "Amazon SNS topic."
        )
    return target


def _logging(config: Mapping[str, Any], name: str, current: Logging | None) -> Logging:
    group = config.get("LogGroup") or (current.group if current else f"/aws/lambda/{name}")
    log_format = config.get("LogFormat") or (current.log_format if current else "Text")
    if log_format == "Text":
        if config.get("ApplicationLogLevel") or config.get("SystemLogLevel"):
            raise invalid(
                'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your '
                "request or "
                'change the LogFormat to "JSON" and try again.'
            )
        return Logging(group=group)
    return Logging(
        group=group,
        log_format="JSON",
        application_level=config.get("ApplicationLogLevel")
        or (current and current.application_level)
        or "INFO",
        system_level=config.get("SystemLogLevel") or (current and current.system_level) or "INFO",
    )
