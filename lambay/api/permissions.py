"""What a request needs to be permitted: IAM's actions and the ARNs that they are about.

Service Authorization Reference, "Actions, resources, and condition keys" of EFS, Lambda, CloudWatch Logs, STS,
S3, SQS, SNS and KMS. Resources of other services are not told: None, see `Statement.applies`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from lambay.api.reading import read
from lambay.api.router import Route
from lambay.aws import AWSError, Call, arn
from lambay.http import Request

Input = Mapping[str, Any]
Resource = str | None


@dataclass(frozen=True, slots=True)
class Need:
    """An action on resources (ARNs, `*`, or None where it is not known which), with condition keys."""

    action: str
    resources: tuple[Resource, ...] = (None,)
    keys: Mapping[str, Any] = field(default_factory=dict)


def needs(route: Route, call: Call, request: Request) -> tuple[Need, ...]:
    """All that has to be permitted, `iam:PassRole` of roles that are handed over among it.

    Reads the input as dispatch does. Raises AWSError where it cannot be read, or where it could be read in
    two ways, since the neighbour that answers might then do what was not asked about.
    """
    _one_meaning(route, request)
    input = _input(route, request)
    keys = {"aws:SecureTransport": request.scheme == "https" or _within_this_machine(request.source_ip)}
    find = _RESOURCES.get(route.service)
    resource = find(route.operation_name, call, input) if find is not None else None
    own = Need(route.action, (resource,), keys)
    source = request.headers.get("x-amz-copy-source") if route.service == "s3" else None
    if source is not None:
        copied = unquote(source).partition("?")[0].removeprefix("/")
        return own, Need("s3:GetObject", (f"arn:aws:s3:::{copied}",), keys)
    if (route.service, route.operation_name) in _FUNCTIONS:
        return own, *_for_function(input, keys)
    if (route.service, route.operation_name) == ("efs", "CreateFileSystem") and input.get("KmsKeyId"):
        key = _kms("DescribeKey", call, {"KeyId": input["KmsKeyId"]})
        return own, Need("kms:DescribeKey", (key,), keys), Need("kms:CreateGrant", (key,), keys)
    return (own,)


def _for_function(input: Input, keys: Mapping[str, Any]) -> Iterator[Need]:
    """What a caller needs besides, because Lambda does it for him with his own rights.

    Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC", "Configuring file system
    access" and "Securing Lambda environment variables".
    """
    role = input.get("Role")
    if isinstance(role, str):
        yield Need("iam:PassRole", (role,), {**keys, "iam:PassedToService": "lambda.amazonaws.com"})
    if (input.get("VpcConfig") or {}).get("SubnetIds"):
        for operation in ("DescribeSubnets", "DescribeSecurityGroups", "DescribeVpcs"):
            yield Need(f"ec2:{operation}", ("*",), keys)
    if input.get("FileSystemConfigs"):
        yield Need("elasticfilesystem:DescribeMountTargets", (None,), keys)
    if input.get("KMSKeyArn"):
        yield Need("kms:CreateGrant", (str(input["KMSKeyArn"]),), keys)


def _within_this_machine(address: str) -> bool:
    """Nobody listens in on loopback; policies that want TLS mean what leaves the machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


_FUNCTIONS = frozenset({("lambda", "CreateFunction"), ("lambda", "UpdateFunctionConfiguration")})


# What follows a bucket or key in the query and makes another operation of the request.
_SUBRESOURCES = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "append",
        "attributes",
        "cors",
        "delete",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "renameObject",
        "replication",
        "requestPayment",
        "restore",
        "retention",
        "select",
        "session",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versioning",
        "versions",
        "website",
    ]
)


def _one_meaning(route: Route, request: Request) -> None:
    """Refuse parameters that are given twice, and S3 requests that are two operations at once."""
    names = [name for name, _ in parse_qsl(request.query, keep_blank_values=True)]
    if route.service == "s3":
        given = sorted(_SUBRESOURCES.intersection(names))
        if len(given) > 1:
            text = f"Conflicting query string parameters: {', '.join(given)}"
            raise AWSError("InvalidArgument", text, status=400)
        return
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = [name for name, _ in parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)]
        if "Action" in body or "Action" in names:
            names += body
    twice = next((name for name in names if "Action" in names and names.count(name) > 1), None)
    if twice is not None:
        raise AWSError("MalformedQueryString", f"The parameter {twice} is given twice.", status=400)


class _Queue(msgspec.Struct):
    """As much of an SQS request as says which queue it is about."""

    QueueUrl: str = ""
    QueueName: str = ""


class _Key(msgspec.Struct):
    """As much of a KMS request as says which key it is about."""

    KeyId: str = ""
    TargetKeyId: str = ""
    SourceKeyId: str = ""


def _input(route: Route, request: Request) -> Input:
    if route.service == "sqs" and route.protocol == "json":
        try:
            return msgspec.structs.asdict(msgspec.json.decode(request.body, type=_Queue))
        except msgspec.MsgspecError:
            return {}
    if route.service == "s3":
        return route.labels
    if route.service == "kms" and route.protocol == "json":
        try:
            return msgspec.structs.asdict(msgspec.json.decode(request.body, type=_Key))
        except msgspec.MsgspecError:
            return {}
    if route.operation is None:
        return route.form
    return read(route.operation, route, request)


def _efs(operation: str, call: Call, input: Input) -> Resource:
    def of(kind: str, identifier: str) -> str:
        if identifier.startswith("arn:"):
            return identifier
        return arn("elasticfilesystem", call.region, call.account, f"{kind}/{identifier}")

    if operation in ("CreateFileSystem", "DescribeAccountPreferences", "PutAccountPreferences"):
        return "*"
    identifier = input.get("ResourceId") or input.get("AccessPointId")
    if identifier:
        return of("access-point" if identifier.startswith("fsap-") else "file-system", identifier)
    if "MountTargetId" in input:
        # The permission is about the file system, which only its records know.
        return None
    return of("file-system", input.get("FileSystemId") or input.get("SourceFileSystemId") or "*")


def _lambda(operation: str, call: Call, input: Input) -> Resource:
    def of(resource: str) -> str:
        return arn("lambda", call.region, call.account, resource)

    for member in ("Resource", "ResourceArn", "Arn"):
        if member in input:
            return str(input[member])
    if "UUID" in input:
        return of(f"event-source-mapping:{input['UUID']}")
    if "LayerName" in input:
        layer = input["LayerName"]
        version = f":{input['VersionNumber']}" if "VersionNumber" in input else ""
        return f"{layer if layer.startswith('arn:') else of(f'layer:{layer}')}{version}"
    if operation in ("CreateEventSourceMapping", "ListEventSourceMappings"):
        return "*"
    if "FunctionName" not in input:
        return str(input.get("CodeSigningConfigArn") or "*")
    return _function(input["FunctionName"], input.get("Qualifier"), call)


def _function(name: str, qualifier: str | None, call: Call) -> str:
    """Of a name, `ACCOUNT:function:NAME` or an ARN, each perhaps with a qualifier behind it."""
    account, region = call.account, call.region
    parts = name.split(":")
    if parts[0] == "arn" and len(parts) >= 7:
        region, account = parts[3], parts[4]
        parts = parts[6:]
    elif len(parts) >= 3 and parts[1] == "function":
        account = parts[0]
        parts = parts[2:]
    elif parts[0] == "function":
        parts = parts[1:]
    if qualifier and len(parts) == 1:
        parts.append(qualifier)
    return arn("lambda", region, account, ":".join(["function", *parts]))


def _logs(operation: str, call: Call, input: Input) -> Resource:
    if "resourceArn" in input:
        return str(input["resourceArn"])
    group = input.get("logGroupName") or input.get("logGroupIdentifier") or ""
    if not group and ("logGroupNames" in input or "logGroupIdentifiers" in input):
        return None
    if group.startswith("arn:"):
        group = group.split(":", 6)[-1].removesuffix(":*")
    stream = input.get("logStreamName") or ""
    return arn("logs", call.region, call.account, f"log-group:{group}:log-stream:{stream}")


def _sts(operation: str, call: Call, input: Input) -> Resource:
    if operation == "GetFederationToken":
        return arn("sts", "", call.account, f"federated-user/{input.get('Name', '')}")
    return "*"


def _s3(operation: str, call: Call, input: Input) -> Resource:
    if operation == "ListBuckets":
        return "*"
    if operation == "DeleteObjects" or "Bucket" not in input:
        # Which objects is in the body.
        return None
    return f"arn:aws:s3:::{input['Bucket']}" + (f"/{input['Key']}" if "Key" in input else "")


def _sqs(operation: str, call: Call, input: Input) -> Resource:
    if operation == "ListQueues":
        return "*"
    parts = urlsplit(input.get("QueueUrl") or "").path.strip("/").split("/")
    if len(parts) == 2:
        return arn("sqs", call.region, parts[0], parts[1])
    name = input.get("QueueName")
    return arn("sqs", call.region, call.account, name) if name else None


def _sns(operation: str, call: Call, input: Input) -> Resource:
    if operation == "CreateTopic" and input.get("Name"):
        return arn("sns", call.region, call.account, input["Name"])
    return input.get("TopicArn") or input.get("TargetArn") or None


def _kms(operation: str, call: Call, input: Input) -> Resource:
    """Keys by id, ARN or alias; operations on no key of their own are about `*`."""
    if operation in ("CreateKey", "GenerateRandom", "ListAliases", "ListKeys"):
        return "*"
    identifier = input.get("KeyId") or input.get("TargetKeyId") or input.get("SourceKeyId")
    if not isinstance(identifier, str) or not identifier:
        # The key of a Decrypt is in the ciphertext.
        return None
    if identifier.startswith("arn:"):
        return identifier
    named = identifier if identifier.startswith("alias/") else f"key/{identifier}"
    return arn("kms", call.region, call.account, named)


_RESOURCES: dict[str, Callable[[str, Call, Input], Resource]] = {
    "efs": _efs,
    "kms": _kms,
    "lambda": _lambda,
    "logs": _logs,
    "sts": _sts,
    "s3": _s3,
    "sqs": _sqs,
    "sns": _sns,
}
